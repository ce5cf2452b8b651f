"""`backout init` says which permissions the tokens of each environment need, and which of them a token lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout import config as configuration
from backout.analysis.checkup.platform import list_uses
from backout.errors import BackoutError
from backout.model.token import find_needed
from backout.report.text import wrap_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.model.token import Needed

_PATIENCE_S = 10.0


def say_permissions(shell: Shell, names: Sequence[str], file: Path) -> None:
    """Say it for each environment of a file just written; environments that need the same are named together."""
    from backout.wiring.permissions import list_needed

    asking: dict[tuple[str, str], list[str]] = {}
    for name in names:
        try:
            loaded = configuration.load(shell.environment, start=shell.folder, path=file, environment=name)
        except BackoutError:
            continue  # which is said where the file is checked
        needed = list_needed(loaded)
        said = _describe(needed, shell.output.style.width)
        asking.setdefault((said, _find_lacking(loaded, needed)), []).append(name)
    for (needs, lacking), environments in asking.items():
        shell.output.say(f"{', '.join(environments)}: {needs}")
        if lacking:
            shell.output.say(f"{', '.join(environments)}: {lacking}")


def _describe(needed: Needed, width: int) -> str:
    """Return a line for each permission, with what it is for."""
    uses: dict[str, list[str]] = {}
    for each in needed.permissions:
        if not each.optional:
            uses.setdefault(each.name, []).append(each.use)
    named = {each.name for each in needed.permissions if not each.optional and not each.templated}
    column = max(map(len, uses), default=0) + 4
    lines = ["the API token needs"]
    for name, said in uses.items():
        missing = f' (not in the template "{needed.template}")' if name in named else ""
        lines += wrap_text(f"  {name:{column - 2}}{'; '.join(said)}{missing}", width, hanging=" " * column)
    more = list_uses(each for each in needed.permissions if each.optional)
    return "\n".join([*lines, *(wrap_text(f"  useful besides: {more}", width, hanging=" " * 4) if more else ())])


def _find_lacking(loaded: Config, needed: Needed) -> str:
    """Return which permissions a token lacks, "" for none and where that cannot be told."""
    from backout.wiring.permissions import look_at_tokens

    try:
        states = look_at_tokens(loaded, _PATIENCE_S)
    except BackoutError:
        return ""  # there is none yet, or what pins the environment has said why
    roles = [state.role for state in states]
    lacking = {
        each.name: each
        for state in states
        if state.valid and state.scopes is not None
        for each in find_needed(needed.permissions, state.role, roles)
        if not each.is_in(state.scopes) and not each.optional
    }
    return f"the token lacks {list_uses(lacking.values())}" if lacking else ""
