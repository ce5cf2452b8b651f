"""Send notices: every end of a run that a person should hear of becomes one notice (safety rule 18).

A notice never stops what it is about: a text that cannot be made is replaced by the bare fact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.history.remarks import find_underneath
from backout.errors import (
    AuthError,
    BackoutError,
    Busy,
    DecisionNeeded,
    Interrupted,
    PartlyDone,
    Paused,
    ProviderUnavailable,
    Refused,
    UsageError,
    WorldMoved,
)
from backout.model.guard.verdict import Verdict
from backout.model.incident.notice import Notice, NoticeKind
from backout.model.plan import PlanKind
from backout.model.steps.forward import ReadNewStep
from backout.model.steps.guard import ConcludeAction, ConcludeResult, ConcludeStep
from backout.model.steps.rollback import ReadBackResult, ReadBackStep, ReportStep
from backout.model.steps.verification import VerifyStep
from backout.ports import find_result
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.analysis.detector.changes import Change
    from backout.model.deployment import Deployment
    from backout.model.guard.verdict import Decision
    from backout.report.incident.notice import LiveNow, Words
    from backout.runbook.toolbox import Toolbox


def tell(
    tools: Toolbox,
    kind: NoticeKind,
    title: str,
    text: str,
    *,
    key: str,
    run: str = "",
    next: tuple[str, ...] = (),
    facts: Mapping[str, str] | None = None,
) -> None:
    """Pass one notice to the notifier, if there is one; the same `key` is told once."""
    if tools.notifier is None:
        return
    notice = Notice(
        kind=kind,
        environment=tools.environment,
        at=tools.clock.now(),
        title=title,
        text=text,
        key=f"{tools.environment}:{kind}:{key}",
        run=run,
        next=next,
        facts=facts or {},
    )
    try:
        tools.notifier.tell(notice)
    except BackoutError as error:
        tools.say(f"no notice could be sent: {error.what}")


def tell_rollback(tools: Toolbox, kind: NoticeKind, run: str, *, more: str = "", pending: bool = False) -> None:
    """Tell of a rollback or a roll-forward at its end (ROLLED_BACK or NOT_RESTORED).

    `more`: a sentence on what follows, or "". `pending`: the verification takes time, so the rollback itself is told
    before it ends.
    """
    found = tools.runs.find(run)
    forward = found is not None and found.plan.kind is PlanKind.FORWARD
    if forward and kind is NoticeKind.ROLLED_BACK:
        kind = NoticeKind.ROLLED_FORWARD

    def words() -> Words:
        from backout.report.incident.notice import Switched, describe_rollback
        from backout.report.incident.timeline import tell as told_by
        from backout.runbook.incident.report import trace_causes

        chain = trace_causes(tools.runs, run)
        events = [event for each in chain for event in tools.journal.events(run=each.id)]
        report = find_result(tools.runs, run, ReportStep)
        told = Switched(
            environment=tools.environment,
            incident=told_by(chain, events),
            live=_read_back(find_result(tools.runs, run, ReadNewStep if forward else ReadBackStep)),
            waited=found is not None and found.plan.has(VerifyStep),
            cause=found.plan.cause if found else "",
            by=(found.actor if found else "") or tools.actor,
            why=found.plan.why if found else "",
            report=report.path if report is not None else "",
            more=more,
            pending=pending,
        )
        return describe_rollback(told)

    key = f"{run}:verifying" if pending else run
    tell_in_words(
        tools, kind, words, f"{tools.environment}: rolled {'forward' if forward else 'back'}", key=key, run=run
    )


def tell_conclusion(
    tools: Toolbox,
    args: ConcludeStep,
    run: str,
    decision: Decision,
    result: ConcludeResult,
    *,
    became: tuple[str, ...] = (),
) -> None:
    """Tell how a watch ended, unless it ended well, or hands over to a rollback, which has its own notice.

    Args:
        args: of the step `conclude`.
        result: what that step returns.
        became: what became of shifts that were told during it.
    """
    if result.action is ConcludeAction.VOID:
        _tell_overtaken(tools, args.version, run)
        return
    kind = _choose_kind(decision, result)
    if kind is None:
        return

    def words() -> Words:
        from backout.report.incident.notice import Concluded, describe_conclusion

        ended = Concluded(
            environment=tools.environment,
            version=args.version,
            decision=decision,
            why=result.why or decision.reason,
            live=read_live(tools),
            rule="" if kind is NoticeKind.WOULD_ROLL_BACK else result.rule,
            target=result.target,
            options=result.options,
            report=result.report,
            accepted_by=result.policy,
            told=became,
        )
        return describe_conclusion(kind, ended)

    tell_in_words(tools, kind, words, f"{tools.environment}: the watch ended {decision.verdict}", key=run, run=run)


def _tell_overtaken(tools: Toolbox, version: str, run: str) -> None:
    """Tell that a newer deployment took the watched one's place: unless its own guard runs, it is not watched."""
    live = read_live(tools)

    def words() -> Words:
        from backout.report.incident.notice import describe_overtaken

        return describe_overtaken(tools.environment, version, live)

    key = live.deployment if live else run
    tell_in_words(tools, NoticeKind.UNGUARDED, words, f"{tools.environment}: the watch was overtaken", key=key, run=run)


def tell_failure(tools: Toolbox, run: str, error: Exception) -> None:
    """Tell of a run (or, without one, of a watch that could not begin) that ended with an error.

    Not told: what a person typed wrong, stopped or paused, and that another process keeps the environment.
    """
    is_kept = isinstance(error, Busy) and not isinstance(error, WorldMoved)
    if is_kept or isinstance(error, UsageError | Interrupted | Paused):
        return
    reason = _find_reason(error)
    kind = NoticeKind.FAILED
    if isinstance(reason, AuthError):
        kind = NoticeKind.TOKEN_LOST
    elif isinstance(reason, Refused):
        kind = NoticeKind.HELD if isinstance(reason, DecisionNeeded) else NoticeKind.REFUSED
    doing = f"run {run}" if run else "guard cannot begin to watch"
    key = f"{run}:{type(reason).__name__}:{reason}" if run else f"start:{tools.clock.now():.0f}"
    if kind is NoticeKind.TOKEN_LOST and run:
        key = f"{run}:end"  # the watch may have told already that its verdict cannot be acted on

    def words() -> Words:
        from backout.report.incident.notice import Stopped, describe_stop

        unreachable = isinstance(reason, ProviderUnavailable | AuthError)
        hint = (error.hint if isinstance(error, BackoutError) else "") or ""
        told = Stopped(
            environment=tools.environment,
            doing=doing,
            error=type(reason).__name__,
            what=str(error),
            live=None if unreachable else read_live(tools),  # a provider that does not answer is not asked again
            hint=hint,
            rule=(reason.rule or "") if isinstance(reason, Refused) else "",
            options=tuple(reason.options) if isinstance(reason, Refused) else (),
        )
        return describe_stop(kind, told)

    tell_in_words(tools, kind, words, f"{tools.environment}: {doing}: {type(reason).__name__}", key=key, run=run)


def tell_change(tools: Toolbox, change: Change, deployment: Deployment, *, estimates: bool, key: str) -> None:
    """Tell of trouble that began, or ended, long after `deployment`."""
    from backout.report.guard.change import describe_change, format_title

    def words() -> Words:
        return describe_change(tools.environment, change, deployment, read_live(tools), estimates=estimates)

    tell_in_words(
        tools, NoticeKind.CHANGED, words, format_title(tools.environment, change, deployment), key=key, run=""
    )


def tell_in_words(
    tools: Toolbox, kind: NoticeKind, words: Callable[[], Words], bare: str, *, key: str, run: str
) -> None:
    """Tell what `words` makes, or the bare fact where that fails."""
    if tools.notifier is None:
        return
    try:
        made = words()
    except Exception as error:  # noqa: BLE001 - see the top; what went wrong here is told as well
        what = f"Nothing more can be said of it just now ({type(error).__name__}: {error})."
        tell(tools, kind, bare, what, key=key, run=run, next=(f"backout status -e {tools.environment}",))
        return
    tell(tools, kind, made.title, made.text, key=key, run=run, next=made.next, facts=made.facts)


def _choose_kind(decision: Decision, result: ConcludeResult) -> NoticeKind | None:
    if result.action is ConcludeAction.REFUSED:
        return NoticeKind.REFUSED
    if result.action is ConcludeAction.ACCEPT:
        return NoticeKind.INCONCLUSIVE
    if result.action is not ConcludeAction.HOLD:
        return None
    if result.rule == SafetyRule.OBSERVE:
        return NoticeKind.WOULD_ROLL_BACK
    undecided = decision.verdict in (Verdict.INCONCLUSIVE, Verdict.UNMEASURED)
    return NoticeKind.INCONCLUSIVE if undecided and not result.rule else NoticeKind.HELD


def _find_reason(error: Exception) -> Exception:
    """Return the error that stopped the run: the journal wraps it to say that the run can be resumed."""
    cause = error.__cause__ if isinstance(error, PartlyDone) else None
    return cause if isinstance(cause, Exception) else error


def read_live(tools: Toolbox) -> LiveNow | None:
    """Return what is live, as read back for a notice; None where the provider does not say."""
    from backout.report.incident.notice import LiveNow

    try:
        history = tools.deployments.history()
    except BackoutError:
        return None
    if not history:
        return None
    live = find_underneath(history)
    return LiveNow(live.main, live.id, live.created_at, tools.clock.now())


def _read_back(read: ReadBackResult | None) -> LiveNow | None:
    from backout.report.incident.notice import LiveNow

    return None if read is None else LiveNow(read.version, read.deployment, read.since, read.read_at)
