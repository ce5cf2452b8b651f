"""Notices of shifts in the answers: when they are established, and what became of them at the end of the watch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from backout.decoding import Undecodable, decode_values
from backout.model.guard.shift import Noticed, Outcome
from backout.model.guard.verdict import Verdict
from backout.model.incident.notice import NoticeKind
from backout.model.steps.guard import ConcludeAction, ConcludeResult, ConcludeStep, WatchStep
from backout.report.incident.notice_shift import became, describe_settled, describe_shift
from backout.runbook.guard.held import list_accepted
from backout.runbook.incident.tell import read_live, tell_conclusion, tell_in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.guard.verdict import Decision
    from backout.report.incident.notice import Words
    from backout.runbook.toolbox import Toolbox

KINDS = {Outcome.HOLD: NoticeKind.HELD, Outcome.TOLD: NoticeKind.SHIFT}
"""A regression is told by what follows from it."""


def tell_shifts(
    tools: Toolbox, args: WatchStep, run: str, shifts: Sequence[Noticed], decision: Decision | None
) -> None:
    """Send notices of shifts while their watch goes on, without waiting for its end.

    Args:
        args: of the step `watch`.
        shifts: of one notice.
        decision: see `report.incident.notice_shift.describe_shift`.
    """
    version, until = args.version, args.since + args.for_s

    def words() -> Words:
        return describe_shift(tools.environment, version, shifts, decision=decision, until=until, live=read_live(tools))

    kind, bare = KINDS[shifts[0].outcome], f"{tools.environment}: {shifts[0].sentence}"
    tell_in_words(tools, kind, words, bare, key=shifts[0].key, run=run)


def tell_end(
    tools: Toolbox, args: ConcludeStep, run: str, ended: tuple[Decision, ConcludeResult], noticed: Sequence[Noticed]
) -> None:
    """Tell how a watch ended, see `tell_conclusion`, and what became of the shifts that were told during it.

    A healthy end is told where an earlier notice said that a person has to decide.

    Args:
        args: of the step `conclude`.
        ended: the verdict, and what that step returns.
    """
    decision, result = ended
    version = args.version
    told = became(noticed, decision, list_accepted(tools, version)) if noticed else ()
    tell_conclusion(tools, args, run, decision, result, became=told)
    if decision.verdict is not Verdict.HEALTHY or not any(each.outcome is Outcome.HOLD for each in noticed):
        return
    done = {ConcludeAction.STABLE: "marked stable", ConcludeAction.RAMP: "moved up"}.get(result.action)
    if done is None:  # held, void: told above
        return

    def words() -> Words:
        return describe_settled(tools.environment, version, told, why=decision.reason, done=done, live=read_live(tools))

    bare = f"{tools.environment}: the watch ended healthy"
    tell_in_words(tools, NoticeKind.SHIFT, words, bare, key=f"{run}:end", run=run)


def read_noticed(record: object) -> tuple[Noticed, ...]:
    """Return the notices that a watch's progress or result says were sent; () where another backout wrote it."""
    said = record.get("noticed") if isinstance(record, Mapping) else None
    try:
        return decode_values(said, tuple[Noticed, ...]) if isinstance(said, list) else ()
    except Undecodable:
        return ()
