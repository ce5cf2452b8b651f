"""The notice of a shift in the answers: at once, while the watch goes on, and later what became of it; pure."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from backout.model.guard.shift import Outcome
from backout.report.incident.notice import NOT_READ, Words
from backout.report.times import format_clock, format_duration

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from backout.model.guard.shift import Noticed
    from backout.model.guard.verdict import Decision
    from backout.report.incident.notice import LiveNow

_ID = 8
_MEANS = {
    Outcome.HOLD: "It is not called healthy before a person accepts that; guard goes on watching, and the end is told.",
    Outcome.TOLD: "That alone is no reason to hold or to roll back; guard goes on watching.",
}


def describe_shift(
    environment: str,
    version: str,
    shifts: Sequence[Noticed],
    *,
    decision: Decision | None,
    until: float,
    live: LiveNow | None,
) -> Words:
    """Return the words of HELD, or of SHIFT, while a watch goes on.

    Args:
        shifts: established at the same moment, with the same outcome; at least one.
        decision: as of now, None when an interrupted watch makes sure that it was told.
        until: when the watch ends, Unix seconds.
    """
    first, *more = shifts
    held = first.outcome is Outcome.HOLD
    head = "a person has to decide whether this is intended" if held else "answers otherwise than before"
    also = f" (and {len(more)} more)" if more else ""
    counted = ""
    if decision is not None and decision.requests:
        failed = f"{decision.errors:,} of {decision.requests:,} requests failed"
        counted = f"In {format_duration(decision.watched_s)} of watching, {failed}."
    sentences = [
        *(f"{shift.sentence[:1].upper()}{shift.sentence[1:]}." for shift in shifts),
        f"This is so since version {version} is live. {_MEANS[first.outcome]}",
        f"The watch ends at {format_clock(until)} UTC at the latest.",
        counted,
        live.sentence if live else NOT_READ,
    ]
    accept = [f"backout guard accept {shlex.quote(shift.name)} -e {environment} -m WHY" for shift in shifts]
    ways = (*accept, f"backout rollback -e {environment} -m WHY") if held else ()
    facts = {
        "version": version,
        "shifts": "\n".join(shift.name for shift in shifts),
        "outcome": str(first.outcome),
        **(live.facts if live else {}),
    }
    return Words(
        f"{environment}: version {version[:_ID]}: {head}: {first.sentence}{also}",
        "\n".join(sentence for sentence in sentences if sentence),
        (*ways, f"backout status -e {environment}"),
        facts,
    )


def became(noticed: Sequence[Noticed], decision: Decision, accepted: Collection[str]) -> tuple[str, ...]:
    """Return what became of each shift that was told during the watch, as of its end; whole sentences.

    Args:
        accepted: names of the shifts that a person accepts.
    """
    now = {shift.name: shift.outcome for shift in decision.shifts}
    first = {each.name: each for each in reversed(noticed)}
    return tuple(
        f"At {format_clock(each.at)} UTC was told: {each.sentence}; {_became(each, now.get(name), accepted)}."
        for name, each in reversed(first.items())
    )


def _became(noticed: Noticed, now: Outcome | None, accepted: Collection[str]) -> str:
    if noticed.name in accepted:
        return "a person accepted it since"
    return {
        None: "that is not so any more",
        Outcome.TOLD: "that is so, and it is told only",
        Outcome.HOLD: "that is so, and waits for a person",
        Outcome.ROLL_BACK: "that is so, and a reason to roll back",
    }[now]


def describe_settled(
    environment: str, version: str, told: Sequence[str], *, why: str, done: str, live: LiveNow | None
) -> Words:
    """Return the words of SHIFT at the end of a watch that was held in between, and is well after all.

    Args:
        told: see `became`.
        why: the reason of the verdict.
        done: what followed from it, as in "marked stable".
    """
    sentences = [*told, f"The watch ended healthy: {why}.", f"Version {version} is {done}."]
    return Words(
        f"{environment}: version {version[:_ID]} is healthy after all, and nothing waits for a person",
        "\n".join([*sentences, live.sentence if live else NOT_READ]),
        (f"backout status -e {environment}",),
        {"version": version, "verdict": "healthy", **(live.facts if live else {})},
    )
