"""After a healthy watch: mark the version stable on every machine, unless it is known bad.

Quarantined code that is live again is watched like any other, but it is never marked stable: only a person who releases
it does that (safety rules 15 and 17).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.detector.measured import summarize_version
from backout.analysis.history.remarks import find_told_stable, is_deciding, is_same_version
from backout.analysis.history.stability import find_quarantine, list_in_force
from backout.escaping import shorten
from backout.model.guard.policy import Mode
from backout.model.incident.notice import NoticeKind
from backout.model.remark import Code, Remark, RemarkKind
from backout.model.steps.guard import ConcludeAction, ConcludeResult, ConcludeStep, ProviderMark, WatchResult, WatchStep
from backout.model.steps.rollback import MarkStep
from backout.model.version import Mark
from backout.report.times import format_clock, format_day
from backout.rules import SafetyRule
from backout.runbook.guard.telemetry_gate import PAGE_S
from backout.runbook.incident.tell import tell
from backout.runbook.observe import observe
from backout.runbook.rollback.activate import set_mark
from backout.runbook.rollback.remarks import Told, find_written, tell_provider
from backout.runbook.rollback.triggers import read_triggers, remember
from backout.runbook.safety.hold import describe_hold, find_active_hold

if TYPE_CHECKING:
    from backout.model.deployment import Deployment
    from backout.model.guard.verdict import Decision
    from backout.model.situation import Situation
    from backout.model.version import VersionMark
    from backout.runbook.toolbox import Toolbox

RULE = SafetyRule.AFTER_ROLLBACK


def mark_stable(
    tools: Toolbox, args: ConcludeStep, decision: Decision, watched: WatchResult, run: str
) -> ConcludeResult:
    """Mark the version of a healthy watch stable, here and at the provider, and return {action, why, ...}."""
    # "No worse than before" is a verdict on the deployment; a version to return to must itself meet the limit.
    why = explain_above_limit(tools, decision) or _explain_not_shown(tools, watched)
    if why:
        why = f"{why}; not marked stable"
        return hold_known_bad(tools, args, why) or ConcludeResult(action=ConcludeAction.HOLD, why=why)
    situation = observe(tools)  # the watch may have ended without an answer from the platform
    version, code_hash, remark = _find_subject(situation, args, run, decision)
    if find_written(situation.listed, remark) is not None:  # before a crash: marked here, and written there
        return _make_stable_result(tools, args, decision, tell_provider(tools, remark, args.deployment))
    if not is_deciding(situation.listed, args.deployment, version):
        why = f"deployment {situation.live.id} took its place, so this verdict is void"
        return ConcludeResult(action=ConcludeAction.VOID, why=why)
    bad = _find_quarantine(situation, args)
    if bad is not None:
        return _make_held_result(
            tools, args, f"healthy now, but it stays quarantined until released: {shorten(bad.why)}"
        )
    if is_unknown(situation, args):
        return ConcludeResult(action=ConcludeAction.HOLD, why=f"{UNKNOWN}; not marked stable")
    known, state = situation.version(version), situation.schema.state
    mark = MarkStep(
        mark=Mark.STABLE,
        version=version,
        code_hash=code_hash,
        git_sha=known.git_sha if known else "",
        why=decision.reason,
        migration_head=state.head if state else None,
    )
    set_mark(tools, run, mark)
    remember(tools, version, read_triggers(tools))
    return _make_stable_result(tools, args, decision, _tell_provider(tools, args, situation, remark))


def explain_above_limit(tools: Toolbox, decision: Decision) -> str:
    """Return why a version no worse than before fails too often, or ""; errors granted to warm-up are left out."""
    limit = tools.policy.criteria.error_rate_below
    counted = ((each.bad, each.total) for each in decision.evidence if each.stream == "errors vs SLO" and each.total)
    errors, requests = next(counted, (decision.errors, decision.requests))
    if errors <= requests * limit:
        return ""
    return f"no worse than before, but {errors:,} of {requests:,} requests failed, above the limit of {limit * 100:g} %"


def _explain_not_shown(tools: Toolbox, watched: WatchResult) -> str:
    """Return why the watch did not see enough, or ""; a source that is only advice need not show more."""
    is_exact = tools.traffic is not None and tools.traffic.traits.may_act
    why = (watched.downgraded if is_exact else "") or watched.unseen
    return f"healthy as far as it was seen, but {why}" if why else ""


def is_unknown(situation: Situation, args: ConcludeStep) -> bool:
    """Whether the version's code cannot be read while something is quarantined, which it may then be."""
    return _find_code_hash(situation, args) is None and bool(list_in_force(situation.marks))


UNKNOWN = "healthy, but its code cannot be read, so it is not known whether it is quarantined code"


def _find_subject(
    situation: Situation, args: ConcludeStep, run: str, decision: Decision
) -> tuple[str, str | None, Remark]:
    """Return the watched version, its code, and the remark that says it is stable."""
    version, code_hash = args.version, _find_code_hash(situation, args)
    known = situation.version(version)
    code = Code(version, code_hash or "", known.git_sha if known else "")
    return version, code_hash, Remark(RemarkKind.STABLE, run, code=code, text=_describe_decision(decision))


def _describe_decision(decision: Decision) -> str:
    """Return the reason for all readers of the provider's list; shifts are only counted: routes are visitors' text."""
    number = len(decision.shifts)
    told = f"; {number} shift{'' if number == 1 else 's'} in what is answered, see the journal" if number else ""
    return f"{decision.reason}{told}"


def _make_stable_result(tools: Toolbox, args: ConcludeStep, decision: Decision, told: Told) -> ConcludeResult:
    """Return the result, with the measurements: a later look is compared with them."""
    since = int(args.since or decision.at - decision.watched_s)
    until = int(decision.at) + 1
    rows = (
        row
        for begin in range(since, until, PAGE_S)
        for row in tools.counts.load_counts(tools.environment, begin, min(begin + PAGE_S, until))
    )
    return ConcludeResult(
        action=ConcludeAction.STABLE,
        why=decision.reason,
        provider_mark=ProviderMark(**told.record()),
        measured=summarize_version(rows, args.version),
    )


def hold_known_bad(tools: Toolbox, args: ConcludeStep, why: str) -> ConcludeResult | None:
    """Return the result that holds a version which is (still) quarantined, or None when it is not."""
    bad = _find_quarantine(observe(tools), args)
    return None if bad is None else _make_held_result(tools, args, f"{why}; and it is quarantined: {shorten(bad.why)}")


def announce(tools: Toolbox, args: WatchStep, run: str) -> None:
    """Say, and send a notice, that quarantined code is live again; also say when that cannot be known."""
    version, bad = args.version, args.known_bad
    if bad is not None:
        at, left = bad.at, bad.version
        again = "" if is_same_version(left, version) else f", the code of version {left[:8]},"
        told = (
            f"quarantined code is live again: version {version}{again} was quarantined on {format_day(at)} at "
            f"{format_clock(at)} UTC "
            f"({shorten(bad.why)}). It is watched, and it is not marked stable until it is released."
        )
        tools.say(told)
        tell(
            tools,
            NoticeKind.KNOWN_BAD,
            f"{tools.environment}: quarantined code is live again as version {version[:8]}",
            told,
            key=args.deployment,
            run=run,
            next=(f"backout rollback -e {tools.environment} -m WHY", _release(tools, version)),
            facts={"version": version, "deployment": args.deployment, "quarantined_version": left},
        )
    elif not args.code_known:
        tools.say(f"the code of version {version} cannot be read, so whether it is quarantined code is not known")


def _find_quarantine(situation: Situation, args: ConcludeStep) -> VersionMark | None:
    return find_quarantine(situation, args.version, _find_code_hash(situation, args))


def _find_code_hash(situation: Situation, args: ConcludeStep) -> str | None:
    """Return the code of the watched version, as it was read at the start or can be read now."""
    known = situation.version(args.version)
    return args.code_hash if args.code_hash is not None else known.code_hash if known else None


def _make_held_result(tools: Toolbox, args: ConcludeStep, why: str) -> ConcludeResult:
    options = (
        f"roll back: `backout rollback -e {tools.environment} -m WHY`",
        f"if it is fixed, or was not to blame: `{_release(tools, args.version)}`, then watch it again",
    )
    return ConcludeResult(action=ConcludeAction.HOLD, why=why, rule=RULE, options=options)


def _release(tools: Toolbox, version: str) -> str:
    return f"backout deployments release {version} -e {tools.environment} -m WHY"


def _tell_provider(tools: Toolbox, args: ConcludeStep, situation: Situation, remark: Remark) -> Told:
    """Write the mark at the provider, unless it is there, is not wanted, or a rule forbids it."""
    if not tools.provider_marks:
        return Told()
    if args.mode is Mode.OBSERVE:
        return Told(problem="guard only observes, so nothing is written at the provider (mode = observe)")
    standing = _find_standing(situation, args.version)
    if standing is not None:
        return Told(standing)
    hold = find_active_hold(tools, situation.listed)
    if hold is not None:
        return Told(problem=f"a hold is on, so nothing is written at the provider ({describe_hold(hold)})")
    return tell_provider(tools, remark, args.deployment)


def _find_standing(situation: Situation, version: str) -> Deployment | None:
    """Return the existing remark that says so; one from before the newest change of the schema is renewed."""
    said_before = find_told_stable(situation.listed, version)
    state = situation.schema.state
    changes = (max(m.finished_at or 0.0, m.rolled_back_at or 0.0) for m in state.applied) if state else ()
    newest = max(changes, default=0.0)
    return said_before if said_before is not None and said_before.created_at > newest else None
