"""What `backout audit verify` reads of deployments' messages, and how it tells what they say of the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.cli.support.style import Tone
from backout.errors import BackoutError
from backout.escaping import shorten
from backout.model.witness import Told
from backout.report.times import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.analysis.history.witnesses import Compared
    from backout.cli.support.shell import Shell
    from backout.cli.support.style import Style
    from backout.config import Config

_WITHIN_S: Final = 15.0
"""How long a provider is asked for an environment's deployments."""


def read_told(shell: Shell, config: Config) -> tuple[list[Told], dict[str, str]]:
    """Return what the messages of deployments say of a journal, and why those of some environments were not read."""
    from backout.wiring.hooks import Hooks
    from backout.wiring.toolbox import make_toolbox

    told: list[Told] = []
    unread: dict[str, str] = {}
    for name in config.settings.environments if config.chosen is None else (config.name,):
        try:
            history = make_toolbox(shell.choose(config, name), Hooks(within_s=_WITHIN_S)).deployments.history()
        except BackoutError as error:
            unread[name] = str(error)
            continue
        # One that anybody else wrote, by its signature or by what it did, says nothing.
        said = ((each, each.remark) for each in reversed(history) if each.remark is not None)
        told.extend(
            Told(name, each.id, each.created_at, remark.run, remark.witness)
            for each, remark in said
            if remark.witness is not None
        )
    return told, unread


def make_witness_record(found: Compared, unread: Mapping[str, str]) -> dict[str, object]:
    """Return the comparison as JSON values."""
    differing = [
        {
            "environment": each.told.environment,
            "deployment": each.told.deployment,
            "at": format_time(each.told.at),
            "run_id": each.told.run or None,
            "head": each.told.witness.head,
            "why": each.why,
        }
        for each in found.differing
    ]
    left = [{"environment": name, "why": why} for name, why in unread.items()]
    return {"confirmed": found.confirmed, "differing": differing, "other_journals": found.other, "unread": left}


def format_witnesses(style: Style, found: Compared, unread: Mapping[str, str]) -> list[str]:
    """Return the comparison as lines."""
    lines = []
    if found.confirmed:
        counted = f"{found.confirmed:,} head{'s' if found.confirmed != 1 else ''} of it in deployments' messages"
        lines.append(style.badge(f"{counted}, each an event of it", Tone.GOOD))
    for each in found.differing:
        where = f"deployment {shorten(each.told.deployment)} of {each.told.environment}, {format_time(each.told.at)}"
        lines.append(style.badge(f"REWRITTEN: {where}: {each.why} ({each.told.witness.head})", Tone.BAD))
    if found.other:
        lines.append(style.dim(f"{found.other:,} deployments name another journal"))
    lines += [style.badge(f"deployments of {name} not read: {shorten(why)}", Tone.WARN) for name, why in unread.items()]
    return lines
