"""The notice of a change long after a deployment, in whole sentences with numbers; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.detector.wording import format_odds, format_percent
from backout.model.guard.verdict import Cause
from backout.report.incident.notice import NOT_READ, Words
from backout.report.times import format_clock, format_duration, format_time

if TYPE_CHECKING:
    from backout.analysis.detector.changes import Change
    from backout.model.deployment import Deployment
    from backout.report.incident.notice import LiveNow

_ID = 8
EXPLAINS_S = 86_400.0
"""A change that begins within a day of a deployment may still come from it."""


def format_title(environment: str, change: Change, deployment: Deployment) -> str:
    """Return one line: what changed, when, by how much, and how long after the last deployment."""
    at, share, usual = _format_hour(change.since), format_percent(change.share), _describe_usual(change)
    slower = "" if change.slow_ms is None else f"answers that take longer than {change.slow_ms:.0f} ms"
    what = slower or "errors"
    if not change.began:
        return f"{environment}: {what} are back at {share} since {at} ({usual})"
    after_s = max(0.0, change.since - deployment.created_at)
    after = f"{format_duration(after_s)} after the deployment of version {deployment.main[:_ID]}"
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
    numbers = (
        f"{change.bad:,} of {change.total:,} requests {did} ({format_percent(change.share)}; {_describe_usual(change)})"
    )
    when, strength = (
        f"From {format_clock(change.since)} to {format_clock(change.at)} UTC",
        format_odds(change.log_evidence),
    )
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
        "since": format_time(change.since),
        "decided_at": format_time(change.at),
        "requests": str(change.total),
        "bad": str(change.bad),
        "share": f"{change.share:.6g}",
        "limit": f"{change.limit:.6g}",
        "version": deployment.main,
        **(live.facts if live else {}),
    }
    return Words(
        format_title(environment, change, deployment),
        "\n".join(sentences),
        (status, back) if change.began else (status,),
        facts,
    )


def _describe_deployment(change: Change, deployment: Deployment) -> list[str]:
    if not change.began:
        return []
    after_s = max(0.0, change.since - deployment.created_at)
    if after_s < EXPLAINS_S:
        which = f"The last deployment was {format_duration(after_s)} before; its watch is over."
    else:
        which = f"There had been no deployment for {format_duration(after_s)}, so another version may do no better."
    return [f"{which} Guard changes nothing by itself here: whether to roll back is a person's decision."]


def _describe_usual(change: Change) -> str:
    if change.cause is Cause.LATENCY:
        return f"usual: at most {format_percent(change.limit)}"
    return f"{'SLO' if change.kept_before else 'before'} {format_percent(change.limit)}"


def _format_hour(at: float) -> str:
    return format_clock(at).rpartition(":")[0]
