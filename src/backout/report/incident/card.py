"""The card as Markdown that is plain enough for paper; pure."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from backout.analysis.history.remarks import get_text
from backout.escaping import Markdown, block, join_parts, md, prose, shorten
from backout.model.deployment import Share
from backout.model.remark import CODE_DIGITS
from backout.model.version import VersionId
from backout.report.text import wrap_text
from backout.report.times import format_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.incident.card import Card, CardLines

WIDTH = 78
KNOWN = "What is known of versions"
NOT_PROVED = "not-proved"
"""The word for a failed proof, in addition to those of marks."""
MESSAGE = "by hand, from the card"


def format_card(card: Card) -> Markdown:
    """Return the page; what others wrote (messages, reasons, names) is escaped in it."""
    lines = card.lines
    title = [md("# Card: {}", card.environment)]
    title += [prose(f"({lines.application})")] if lines.application else []
    parts = [
        join_parts(title, " "),
        _format_prose(
            f"Every id was read from the provider at {format_time(card.read_at)}. No command here needs backout "
            "or Python. "
            "Where two commands stand under one heading, either of them does it."
        ),
        _format_section("Once in a shell", lines.setup),
        _format_section("What is live", lines.live, _format_live(card)),
        _format_rollback(card),
        _format_section("Read back: what is live now", lines.live),
        _list_known(card),
        _format_section("Health check", lines.health, [] if lines.health else [md("No health check is set up.")]),
        _format_section("Put the traffic back as it was when this card was made", _list_put_back(card)),
        _format_section("Names of the secrets", lines.secrets),
        _format_section("What was applied to the database last", lines.database),
        _format_section("Open the database, where it is fenced", lines.fence, _format_fence(card)),
        _list("Where things are", lines.places),
        _list("People", lines.people),
    ]
    return md("{}\n", join_parts([part for part in parts if part], "\n\n"))


def _format_live(card: Card) -> list[Markdown]:
    text = [md("- version {} at {} %", share.version, f"{share.percentage:g}") for share in card.live.shares]
    text += [md("- cohort {}", shorten(cohort)) for cohort in card.live.describe_cohorts()]
    text.append(md("- deployment {}, since {}", card.live.id, format_time(card.live.created_at)))
    if card.live.message:
        text += _wrap_prose(f"message: {shorten(get_text(card.live))}", indent="- ", hanging="  ")
    text.append(md("- last stable: {}", card.stable or "none is known"))
    return text


def _format_rollback(card: Card) -> Markdown:
    if not card.target:
        return md("## Roll back\n\n{}", _format_prose(card.why))
    text = _wrap_prose(card.why)
    for note in card.notes:
        text += _wrap_prose(note, indent="- ", hanging="  ")
    text += [md(""), *_wrap_prose(card.lines.caution)] if card.lines.caution else []
    return _format_section(
        f"Roll back to {card.target}", list_deploy_lines(card.lines, (Share(VersionId(card.target), 100.0),)), text
    )


def _format_fence(card: Card) -> list[Markdown]:
    text = (
        "While everything is brought back to one moment, the application's roles cannot log in. This gives each what "
        "it had; where no fence stands it changes nothing. What is written from then on, a restore may overwrite."
    )
    return _wrap_prose(text) if card.lines.fence else []


def _list_known(card: Card) -> Markdown:
    """Return what is known of versions, newest first, as `card_facts` reads it: what and when, the source, then why."""
    entries = [
        (
            mark.at,
            mark.mark.value,
            str(mark.version),
            _describe_source(mark.run, mark.code_hash, mark.git_sha),
            mark.why,
        )
        for mark in card.marks
    ]
    entries += [(proof.at, NOT_PROVED, version, "", proof.why) for version, proof in card.failed_proofs.items()]
    if not entries:
        return md("")
    lines: list[Markdown] = []
    for at, word, version, source, why in sorted(entries, key=lambda entry: -entry[0]):
        lines.append(md("- {} {} {}", format_time(at), word, version))
        lines += [md("  {}", source)] if source else []
        lines += _wrap_prose(shorten(why), indent="  ", hanging="  ") if why else []
    return md("### {}\n\n{}", KNOWN, join_parts(lines))


def _describe_source(run: str, code_hash: str | None, commit: str) -> str:
    known = {"run": run, "code": (code_hash or "")[:CODE_DIGITS], "commit": commit[:CODE_DIGITS]}
    return ", ".join(f"{name} {value}" for name, value in known.items() if value)


def list_deploy_lines(lines: CardLines, shares: Sequence[Share]) -> tuple[str, ...]:
    """Return the commands that give versions these shares of the traffic; each of them alone does it."""
    words = " ".join(f"{share.version}@{share.percentage:g}%" for share in shares)
    listed = [
        json.dumps({"version_id": share.version, "percentage": _make_plain(share.percentage)}, separators=(",", ":"))
        for share in shares
    ]
    body = {"words": words, "shares": ",\n  ".join(listed), "message": shlex.quote(MESSAGE), "text": MESSAGE}
    alone = shares[0].version if len(shares) == 1 else ""
    fitting = [line for line in lines.deploy if alone or "{version}" not in line]
    return tuple(line.format(**body, version=alone) for line in fitting)


def _list_put_back(card: Card) -> tuple[str, ...]:
    """Return the commands that give the traffic back its shares, () where hosts that differ have none in common."""
    live = card.live
    differs = any(each.deployment not in (None, live.id) for each in live.hosts)
    if (lines := list_deploy_lines(card.lines, live.shares)) or differs or not live.id.isalnum():
        return lines
    return tuple(line.format(deployment=live.id) for line in card.lines.put_back)


def _make_plain(percentage: float) -> float | int:
    return int(percentage) if percentage == int(percentage) else percentage


def _format_section(title: str, commands: Sequence[str], text: Sequence[Markdown] = ()) -> Markdown:
    if not commands and not text:
        return md("")
    blocks = [block(command, "sh") for command in commands]
    return join_parts([md("## {}", title), *([join_parts(list(text))] if text else []), *blocks], "\n\n")


def _list(title: str, rows: Sequence[tuple[str, str]]) -> Markdown:
    if not rows:
        return md("")
    return md("## {}\n\n{}", title, join_parts([md("- {}: {}", name, value) for name, value in rows]))


def _format_prose(text: str) -> Markdown:
    return join_parts(_wrap_prose(text))


def _wrap_prose(text: str, *, indent: str = "", hanging: str | None = None) -> list[Markdown]:
    return [Markdown(line) for line in wrap_text(prose(text), WIDTH, indent=indent, hanging=hanging)]
