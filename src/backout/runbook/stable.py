"""What a watch without trouble leads to: the version is marked stable on every machine, unless it is known to be bad.

Quarantined code that is live again is watched like any other, but it is never marked stable: only a person who releases
it does that (safety rules 15 and 17).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.measured import measured
from backout.analysis.remarks import same_version, still_decides, told_stable
from backout.analysis.stability import in_force, quarantine
from backout.escaping import brief
from backout.model.notice import NoticeKind
from backout.model.policy import Mode
from backout.model.remark import Code, Remark, RemarkKind
from backout.report.times import clock, day
from backout.runbook.activate import set_mark
from backout.runbook.hold import holding, said
from backout.runbook.observe import observe
from backout.runbook.remarks import Told, tell_provider, written
from backout.runbook.source import PAGE_S
from backout.runbook.tell import tell
from backout.runbook.triggers import look, remember

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.deployment import Deployment, VersionMark
    from backout.model.plan import Json
    from backout.model.situation import Situation
    from backout.model.verdict import Decision
    from backout.runbook.toolbox import Toolbox

RULE = "17 hold after rollback"


def mark_stable(
    tools: Toolbox, args: Mapping[str, Json], decision: Decision, watched: Mapping[str, Json], run: str
) -> Json:
    """Mark the version of a healthy watch stable, here and at the provider, and return {action, why, ...}."""
    # "No worse than before" is a verdict on the deployment; a version to return to must meet the limit itself.
    why = above_limit(tools, decision) or _not_shown(tools, watched)
    if why:
        why = f"{why}; not marked stable"
        return held_as_known_bad(tools, args, why) or {"action": "hold", "why": why}
    situation = observe(tools)  # the watch may have ended without an answer from the platform
    version, code_hash, remark = _subject(situation, args, run, decision)
    if written(situation.listed, remark) is not None:  # before a crash: it is marked here, and told there
        return _stable(tools, args, decision, tell_provider(tools, remark, str(args["deployment"])))
    if not still_decides(situation.listed, str(args["deployment"]), version):
        return {"action": "void", "why": f"deployment {situation.live.id} took its place, so this verdict is void"}
    bad = _known_bad(situation, args)
    if bad is not None:
        return _held(tools, args, f"healthy now, but it stays quarantined until released: {brief(bad.why)}")
    if is_unknown(situation, args):
        return {"action": "hold", "why": f"{UNKNOWN}; not marked stable"}
    known, state = situation.version(version), situation.schema.state
    mark = {
        "mark": "stable",
        "version": version,
        "code_hash": code_hash,
        "git_sha": known.git_sha if known else "",
        "why": decision.reason,
        "migration_head": state.head if state else None,
    }
    set_mark(tools, run, mark)
    remember(tools, version, look(tools))
    return _stable(tools, args, decision, _told(tools, args, situation, remark))


def above_limit(tools: Toolbox, decision: Decision) -> str:
    """Return why a version that is no worse than before fails too often, or ""; what a warm-up grants is left out."""
    limit = tools.policy.criteria.error_rate_below
    counted = ((each.bad, each.total) for each in decision.evidence if each.stream == "errors vs SLO" and each.total)
    errors, requests = next(counted, (decision.errors, decision.requests))
    if errors <= requests * limit:
        return ""
    return f"no worse than before, but {errors:,} of {requests:,} requests failed, above the limit of {limit * 100:g} %"


def _not_shown(tools: Toolbox, watched: Mapping[str, Json]) -> str:
    """Return why the watch did not see enough, or ""; of a source that is advice by nature nothing more is asked."""
    is_exact = tools.traffic is not None and tools.traffic.traits.may_act
    why = (watched["downgraded"] if is_exact else "") or watched.get("unseen")
    return f"healthy as far as it was seen, but {why}" if why else ""


def is_unknown(situation: Situation, args: Mapping[str, Json]) -> bool:
    """Whether the version's code cannot be read while something is quarantined, which it may then be."""
    return _code_hash(situation, args) is None and bool(in_force(situation.marks))


UNKNOWN = "healthy, but its code cannot be read, so nobody knows whether it is quarantined code"


def _subject(
    situation: Situation, args: Mapping[str, Json], run: str, decision: Decision
) -> tuple[str, str | None, Remark]:
    """Return the watched version, its code, and the remark that says it is stable."""
    version, code_hash = str(args["version"]), _code_hash(situation, args)
    known = situation.version(version)
    code = Code(version, code_hash or "", known.git_sha if known else "")
    return version, code_hash, Remark(RemarkKind.STABLE, run, code=code, text=_said_of(decision))


def _said_of(decision: Decision) -> str:
    """Return the reason for everybody who reads the provider's list; shifts are counted: routes are visitors' text."""
    number = len(decision.shifts)
    told = f"; {number} shift{'' if number == 1 else 's'} in what is answered, see the journal" if number else ""
    return f"{decision.reason}{told}"


def _stable(tools: Toolbox, args: Mapping[str, Json], decision: Decision, told: Told) -> Json:
    """Return the result, with what was measured: a later look is held against that."""
    since = int(float(str(args.get("since") or decision.at - decision.watched_s)))
    until = int(decision.at) + 1
    rows = (
        row
        for begin in range(since, until, PAGE_S)
        for row in tools.counts.kept(tools.environment, begin, min(begin + PAGE_S, until))
    )
    return {
        "action": "stable",
        "why": decision.reason,
        "provider_mark": dict(told.record()),
        "measured": measured(rows, str(args["version"])),
    }


def held_as_known_bad(tools: Toolbox, args: Mapping[str, Json], why: str) -> Json:
    """Return the result that holds a version which is quarantined (still), or None when it is not."""
    bad = _known_bad(observe(tools), args)
    return None if bad is None else _held(tools, args, f"{why}; and it is quarantined: {brief(bad.why)}")


def announce(tools: Toolbox, args: Mapping[str, Json], run: str) -> None:
    """Say, and tell somebody, that quarantined code is live again; say as well when nobody can know."""
    version, bad = str(args["version"]), args.get("known_bad")
    if isinstance(bad, dict):
        at, left = float(str(bad["at"])), str(bad["version"])
        again = "" if same_version(left, version) else f", the code of version {left[:8]},"
        told = (
            f"quarantined code is live again: version {version}{again} was quarantined on {day(at)} at {clock(at)} UTC "
            f"({bad['why']}). It is watched, and it is not marked stable until somebody releases it."
        )
        tools.say(told)
        tell(
            tools,
            NoticeKind.KNOWN_BAD,
            f"{tools.environment}: quarantined code is live again as version {version[:8]}",
            told,
            key=str(args["deployment"]),
            run=run,
            next=(f"backout rollback -e {tools.environment} -m WHY", _release(tools, version)),
            facts={"version": version, "deployment": str(args["deployment"]), "quarantined_version": left},
        )
    elif not args.get("code_known", True):
        tools.say(f"the code of version {version} cannot be read, so whether it is quarantined code is not known")


def _known_bad(situation: Situation, args: Mapping[str, Json]) -> VersionMark | None:
    return quarantine(situation, str(args["version"]), _code_hash(situation, args))


def _code_hash(situation: Situation, args: Mapping[str, Json]) -> str | None:
    """Return the code of the watched version, as it was read at the start or can be read now."""
    known = situation.version(str(args["version"]))
    return str(args["code_hash"]) if args["code_hash"] is not None else known.code_hash if known else None


def _held(tools: Toolbox, args: Mapping[str, Json], why: str) -> Json:
    options: list[Json] = [
        f"roll back: `backout rollback -e {tools.environment} -m WHY`",
        f"if it is mended, or was not to blame: `{_release(tools, str(args['version']))}`, then watch it again",
    ]
    return {"action": "hold", "why": why, "rule": RULE, "options": options}


def _release(tools: Toolbox, version: str) -> str:
    return f"backout deployments release {version} -e {tools.environment} -m WHY"


def _told(tools: Toolbox, args: Mapping[str, Json], situation: Situation, remark: Remark) -> Told:
    """Write the mark at the provider, unless it stands there, is not wanted, or a rule is against it."""
    if not tools.provider_marks:
        return Told()
    if args.get("mode") == Mode.OBSERVE:
        return Told(problem="guard only observes, so nothing is written at the provider (mode = observe)")
    standing = _standing(situation, str(args["version"]))
    if standing is not None:
        return Told(standing)
    hold = holding(tools, situation.listed)
    if hold is not None:
        return Told(problem=f"a hold is on, so nothing is written at the provider ({said(hold)})")
    return tell_provider(tools, remark, str(args["deployment"]))


def _standing(situation: Situation, version: str) -> Deployment | None:
    """Return the remark that says it already; one from before the newest change of the schema is renewed."""
    said_before = told_stable(situation.listed, version)
    state = situation.schema.state
    changes = (max(m.finished_at or 0.0, m.rolled_back_at or 0.0) for m in state.applied) if state else ()
    newest = max(changes, default=0.0)
    return said_before if said_before is not None and said_before.created_at > newest else None
