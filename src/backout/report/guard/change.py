"""The notice of a change long after a deployment, in whole sentences with numbers; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.detector.wording import odds, percent
from backout.model.guard.verdict import Cause
from backout.report.incident.notice import NOT_READ, Words
from backout.report.times import clock, duration, rfc3339

if TYPE_CHECKING:
    from backout.analysis.detector.changes import Change
    from backout.model.deployment import Deployment
    from backout.report.incident.notice import LiveNow

_ID = 8
EXPLAINS_S = 86_400.0
"""A change that begins within a day of a deployment may still come from it."""


def title(environment: str, change: Change, deployment: Deployment) -> str:
    """Return one line: what changed, when, by how much, and how long after the last deployment."""
    at, share, usual = _hour(change.since), percent(change.share), _usual(change)
    slower = "" if change.slow_ms is None else f"answers that take longer than {change.slow_ms:.0f} ms"
    what = slower or "errors"
    if not change.began:
        return f"{environment}: {what} are back at {share} since {at} ({usual})"
    after_s = max(0.0, change.since - deployment.created_at)
    after = f"{duration(after_s)} after the deployment of version {deployment.main[:_ID]}"
    why = "" if after_s < EXPLAINS_S else ": no deployment explains it"
    return f"{environment}: {what} rose at {at} to {share} ({usual}), {after}{why}"


def describe_change(
    environment: str, change: Change, deployment: Deployment, live: LiveNow | None, *, estimates: bool = False
) -> Words:
    """Return the words of CHANGED.

    Args:
        deployment: what was live.
        live: as it was read back just now.
        estimates: the counts are.
    """
    did = "failed" if change.slow_ms is None else f"took longer than {change.slow_ms:.0f} ms"
    against = "all being as usual" if change.began else "the trouble going on"
    numbers = f"{change.bad:,} of {change.total:,} requests {did} ({percent(change.share)}; {_usual(change)})"
    when, strength = f"From {clock(change.since)} to {clock(change.at)} UTC", odds(change.log_evidence)
    sentences = [
        f"{when} {numbers}; evidence {strength} against {against}.",
        *_describe_deployment(change, deployment),
        live.sentence if live else NOT_READ,
    ]
    if estimates:
        sentences.append("The counts are estimates: false alarms are more frequent than guard.false_alarms_per_year.")
    status, back = f"backout status -e {environment}", f"backout rollback --dry-run -e {environment}"
    facts = {
        "change": "began" if change.began else "ended",
        "cause": change.cause.value,
        "since": rfc3339(change.since),
        "decided_at": rfc3339(change.at),
        "requests": str(change.total),
        "bad": str(change.bad),
        "share": f"{change.share:.6g}",
        "limit": f"{change.limit:.6g}",
        "version": deployment.main,
        **(live.facts if live else {}),
    }
    return Words(
        title(environment, change, deployment),
        "\n".join(sentences),
        (status, back) if change.began else (status,),
        facts,
    )


def _describe_deployment(change: Change, deployment: Deployment) -> list[str]:
    if not change.began:
        return []
    after_s = max(0.0, change.since - deployment.created_at)
    if after_s < EXPLAINS_S:
        which = f"The last deployment was {duration(after_s)} before; its watch is over."
    else:
        which = f"There had been no deployment for {duration(after_s)}, so another version may do no better."
    return [f"{which} Guard changes nothing by itself here: whether to roll back is a person's decision."]


def _usual(change: Change) -> str:
    if change.cause is Cause.LATENCY:
        return f"usual: at most {percent(change.limit)}"
    return f"{'SLO' if change.kept_before else 'before'} {percent(change.limit)}"


def _hour(at: float) -> str:
    return clock(at).rpartition(":")[0]
