"""Tell somebody: every end of a run that a person should hear of becomes one notice (safety rule 18).

Telling never stops what it tells of: a text that cannot be made is replaced by the bare fact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from backout.analysis.remarks import underneath
from backout.errors import (
    AuthError,
    BackoutError,
    Busy,
    DecisionNeeded,
    Interrupted,
    PartlyDone,
    ProviderUnavailable,
    Refused,
    UsageError,
    WorldMoved,
)
from backout.model.notice import Notice, NoticeKind
from backout.model.plan import PlanKind
from backout.model.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.analysis.changes import Change
    from backout.model.deployment import Deployment
    from backout.model.plan import Json
    from backout.model.verdict import Decision
    from backout.report.notice import LiveNow, Words
    from backout.runbook.toolbox import Toolbox


def tell(  # noqa: PLR0913 one keyword for each thing that a notice says
    tools: Toolbox,
    kind: NoticeKind,
    title: str,
    text: str,
    *,
    key: str,
    run: str = "",
    next: tuple[str, ...] = (),  # noqa: A002 the notice's own word
    facts: Mapping[str, str] | None = None,
) -> None:
    """Hand one notice to the notifier, when there is one; the same `key` is told once."""
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
        tools.say(f"nobody could be told: {error.what}")


def tell_rollback(tools: Toolbox, kind: NoticeKind, run: str, *, more: str = "", pending: bool = False) -> None:
    """Tell of a rollback or a roll-forward at its end (ROLLED_BACK or NOT_RESTORED).

    `more`: a sentence on what follows, or "". `pending`: of one whose verification takes its time, so that nobody
    learns only then that it was rolled back.
    """
    found = tools.runs.find(run)
    forward = found is not None and found.plan.kind is PlanKind.FORWARD
    if forward and kind is NoticeKind.ROLLED_BACK:
        kind = NoticeKind.ROLLED_FORWARD

    def words() -> Words:
        from backout.report.notice import Switched, rolled_back  # noqa: PLC0415 only where somebody is told
        from backout.report.timeline import tell as told_by  # noqa: PLC0415 same
        from backout.runbook.incident import led_to  # noqa: PLC0415 same

        chain = led_to(tools.runs, run)
        events = [event for each in chain for event in tools.journal.events(run=each.id)]
        report = tools.runs.result(run, "report")
        told = Switched(
            environment=tools.environment,
            incident=told_by(chain, events),
            live=_read_back(tools.runs.result(run, "read_new" if forward else "read_back")),
            waited=found is not None and any(step.action == "verify" for step in found.plan.steps),
            cause=found.plan.cause if found else "",
            by=(found.actor if found else "") or tools.actor,
            why=found.plan.why if found else "",
            report=str(report["path"]) if isinstance(report, dict) else "",
            more=more,
            pending=pending,
        )
        return rolled_back(told)

    key = f"{run}:verifying" if pending else run
    tell_in_words(
        tools, kind, words, f"{tools.environment}: rolled {'forward' if forward else 'back'}", key=key, run=run
    )


def tell_conclusion(  # noqa: PLR0913 what a notice says
    tools: Toolbox,
    args: Mapping[str, Json],
    run: str,
    decision: Decision,
    result: object,
    *,
    became: tuple[str, ...] = (),
) -> None:
    """Tell how a watch ended, unless it ended well, or hands over to a rollback, which tells itself.

    Args:
        args: of the step `conclude`. result: what that step returns. became: of shifts that were told while it went on.
    """
    if isinstance(result, Mapping) and result.get("action") == "void":
        _tell_overtaken(tools, args, run)
        return
    kind = _kind_of(decision, result)
    if kind is None or not isinstance(result, Mapping):
        return

    def words() -> Words:
        from backout.report.notice import Concluded, concluded  # noqa: PLC0415 only where somebody is told

        options = result.get("options")
        ended = Concluded(
            environment=tools.environment,
            version=str(args["version"]),
            decision=decision,
            why=str(result.get("why") or decision.reason),
            live=live_now(tools),
            rule="" if kind is NoticeKind.WOULD_ROLL_BACK else str(result.get("rule") or ""),
            target=str(result.get("target") or ""),
            options=tuple(map(str, options)) if isinstance(options, list) else (),
            report=str(result.get("report") or ""),
            accepted_by=str(result.get("policy") or ""),
            told=became,
        )
        return concluded(kind, ended)

    tell_in_words(tools, kind, words, f"{tools.environment}: the watch ended {decision.verdict}", key=run, run=run)


def _tell_overtaken(tools: Toolbox, args: Mapping[str, Json], run: str) -> None:
    """Tell that a newer deployment took the watched one's place: unless its own guard runs, nobody watches it."""
    live = live_now(tools)

    def words() -> Words:
        from backout.report.notice import overtaken  # noqa: PLC0415 only where somebody is told

        return overtaken(tools.environment, str(args["version"]), live)

    key = live.deployment if live else run
    tell_in_words(tools, NoticeKind.UNGUARDED, words, f"{tools.environment}: the watch was overtaken", key=key, run=run)


def tell_failure(tools: Toolbox, run: str, error: Exception) -> None:
    """Tell of a run (or, without one, of a watch that could not begin) that ended with an error.

    Not told: what a person typed wrong, or stopped, and that somebody else keeps the environment.
    """
    if isinstance(error, UsageError | Interrupted) or (isinstance(error, Busy) and not isinstance(error, WorldMoved)):
        return
    reason = _reason(error)
    kind = NoticeKind.FAILED
    if isinstance(reason, AuthError):
        kind = NoticeKind.TOKEN_LOST
    elif isinstance(reason, Refused):
        kind = NoticeKind.HELD if isinstance(reason, DecisionNeeded) else NoticeKind.REFUSED
    doing = f"run {run}" if run else "guard cannot begin to watch"
    key = f"{run}:{type(reason).__name__}:{reason}" if run else f"start:{tools.clock.now():.0f}"
    if kind is NoticeKind.TOKEN_LOST and run:
        key = f"{run}:end"  # the watch may have told already that nobody can act on its verdict

    def words() -> Words:
        from backout.report.notice import Stopped, stopped  # noqa: PLC0415 only where somebody is told

        unreachable = isinstance(reason, ProviderUnavailable | AuthError)
        hint = (error.hint if isinstance(error, BackoutError) else "") or ""
        told = Stopped(
            environment=tools.environment,
            doing=doing,
            error=type(reason).__name__,
            what=str(error),
            live=None if unreachable else live_now(tools),  # who does not answer is not asked again
            hint=hint,
            rule=(reason.rule or "") if isinstance(reason, Refused) else "",
            options=tuple(reason.options) if isinstance(reason, Refused) else (),
        )
        return stopped(kind, told)

    tell_in_words(tools, kind, words, f"{tools.environment}: {doing}: {type(reason).__name__}", key=key, run=run)


def tell_change(tools: Toolbox, change: Change, deployment: Deployment, *, estimates: bool, key: str) -> None:
    """Tell of trouble that began, or ended, long after `deployment`."""
    from backout.report.change import changed, title  # noqa: PLC0415 only where somebody is told

    def words() -> Words:
        return changed(tools.environment, change, deployment, live_now(tools), estimates=estimates)

    tell_in_words(tools, NoticeKind.CHANGED, words, title(tools.environment, change, deployment), key=key, run="")


def tell_in_words(  # noqa: PLR0913 as `tell`
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


def _kind_of(decision: Decision, result: object) -> NoticeKind | None:
    action = result.get("action") if isinstance(result, Mapping) else None
    if action == "refused":
        return NoticeKind.REFUSED
    if action == "accept":
        return NoticeKind.INCONCLUSIVE
    if action != "hold" or not isinstance(result, Mapping):
        return None
    if result.get("rule") == "observe":
        return NoticeKind.WOULD_ROLL_BACK
    undecided = decision.verdict in (Verdict.INCONCLUSIVE, Verdict.UNMEASURED)
    return NoticeKind.INCONCLUSIVE if undecided and not result.get("rule") else NoticeKind.HELD


def _reason(error: Exception) -> Exception:
    """Return what stopped the run: the journal wraps it to say that the run can be resumed."""
    cause = error.__cause__ if isinstance(error, PartlyDone) else None
    return cause if isinstance(cause, Exception) else error


def live_now(tools: Toolbox) -> LiveNow | None:
    """Return what is live, as read back for a notice; None where the provider does not say."""
    from backout.report.notice import LiveNow  # noqa: PLC0415 only where somebody is told

    try:
        history = tools.deployments.history()
    except BackoutError:
        return None
    if not history:
        return None
    live = underneath(history)
    return LiveNow(live.main, live.id, live.created_at, tools.clock.now())


def _read_back(read: Json) -> LiveNow | None:
    from backout.report.notice import LiveNow  # noqa: PLC0415 only where somebody is told

    if not isinstance(read, dict):
        return None
    return LiveNow(
        str(read["version"]), str(read["deployment"]), float(str(read["since"])), float(str(read["read_at"]))
    )
