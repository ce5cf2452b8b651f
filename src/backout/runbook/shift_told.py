"""Telling of shifts in what is answered: when they are established, and what became of them at the end of the watch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from backout.decoding import Undecodable, decode_values
from backout.model.notice import NoticeKind
from backout.model.shift import Noticed, Outcome
from backout.model.verdict import Verdict
from backout.report.notice_shift import became, settled, shifted
from backout.runbook.held import accepted
from backout.runbook.tell import live_now, tell_conclusion, tell_in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.plan import Json
    from backout.model.verdict import Decision
    from backout.report.notice import Words
    from backout.runbook.toolbox import Toolbox

KINDS = {Outcome.HOLD: NoticeKind.HELD, Outcome.TOLD: NoticeKind.SHIFT}
"""What is a regression is told by what follows from it."""


def tell_shifts(
    tools: Toolbox, args: Mapping[str, Json], run: str, shifts: Sequence[Noticed], decision: Decision | None
) -> None:
    """Tell of shifts while their watch goes on: nobody needs to wait for its end to know of them.

    Args:
        args: of the step `watch`. shifts: of one notice. decision: see `report.notice_shift.shifted`.
    """
    version, until = str(args["version"]), float(str(args["since"])) + float(str(args["for_s"]))

    def words() -> Words:
        return shifted(tools.environment, version, shifts, decision=decision, until=until, live=live_now(tools))

    kind, bare = KINDS[shifts[0].outcome], f"{tools.environment}: {shifts[0].sentence}"
    tell_in_words(tools, kind, words, bare, key=shifts[0].key, run=run)


def tell_end(
    tools: Toolbox, args: Mapping[str, Json], run: str, ended: tuple[Decision, object], noticed: Sequence[Noticed]
) -> None:
    """Tell how a watch ended, see `tell_conclusion`, and what became of the shifts that were told while it went on.

    A healthy end is told where somebody was told that a person has to decide.

    Args:
        args: of the step `conclude`. ended: the verdict, and what that step returns.
    """
    decision, result = ended
    version = str(args["version"])
    told = became(noticed, decision, accepted(tools, version)) if noticed else ()
    tell_conclusion(tools, args, run, decision, result, became=told)
    if decision.verdict is not Verdict.HEALTHY or not any(each.outcome is Outcome.HOLD for each in noticed):
        return
    action = str(result.get("action")) if isinstance(result, Mapping) else "ramp"
    done = {"stable": "marked stable", "ramp": "moved up"}.get(action)
    if done is None:  # held, void: told above
        return

    def words() -> Words:
        return settled(tools.environment, version, told, why=decision.reason, done=done, live=live_now(tools))

    bare = f"{tools.environment}: the watch ended healthy"
    tell_in_words(tools, NoticeKind.SHIFT, words, bare, key=f"{run}:end", run=run)


def noticed_in(record: object) -> tuple[Noticed, ...]:
    """Return what a watch's progress or result says that somebody was told; () where another backout wrote it."""
    said = record.get("noticed") if isinstance(record, Mapping) else None
    try:
        return decode_values(said, tuple[Noticed, ...]) if isinstance(said, list) else ()
    except Undecodable:
        return ()
