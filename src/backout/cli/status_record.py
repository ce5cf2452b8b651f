"""What `backout status` says, as the JSON values of `--json`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from backout.model.checkup import CheckState
from backout.model.setting import describe_setting
from backout.report.times import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.analysis.history.seal import Seal
    from backout.config import Config
    from backout.model.checkup import Check
    from backout.model.database.backups import Protection
    from backout.model.guard.signals import HealthReport
    from backout.model.hold import Hold
    from backout.model.incident.incident import Run
    from backout.model.incident.notice import Delivery
    from backout.report.guard.run_end import RunEnd
    from backout.runbook.incident.status import Status, TrafficLook
    from backout.runbook.recover.deadline import Outage


def _make_closed_record(closed: Outage) -> dict[str, object]:
    return {
        "run": closed.run,
        "actor": closed.actor,
        "since": format_time(closed.since),
        "deadline": format_time(closed.deadline),
        "fence": closed.fence,
    }


def make_status_record(found: Status) -> dict[str, object]:
    """Return the whole status as JSON values."""
    situation, live = found.situation, found.situation.live
    state = situation.schema.state
    return {
        "environment": situation.environment,
        "read_at": format_time(situation.read_at),
        "live_version": None if live.hosts else live.main,
        "hosts": {each.name: each.sole for each in live.hosts} or None,
        "deployment_id": live.id,
        "live_since": format_time(live.created_at),
        "message": live.message,
        "shares": [{"version": share.version, "percentage": share.percentage} for share in live.shares],
        "cohorts": live.record_cohorts(),
        "stable": found.stable is not None and found.quarantined is None,
        "quarantined": found.quarantined is not None,
        "health": make_health_record(found.health),
        "traffic": _make_traffic_record(found.traffic),
        "migrations": None
        if not situation.schema.set_up
        else {
            "head": state.head if state else None,
            "failed": list(state.failed) if state else [],
            "problem": situation.schema.problem or None,
        },
        "backups": _make_backups_record(found.backups),
        "objects": _make_objects_record(found.objects),
        "guard": _make_run_record(found.guard, found.ends),
        "rollback": _make_run_record(found.rollback, found.ends),
        "rollback_elsewhere": _make_elsewhere_record(found),
        "unfinished": _make_run_record(found.unfinished),
        "closed": None if found.closed is None else _make_closed_record(found.closed),
        "notices": _make_notices_record(found.notices),
        "unguarded": found.watch_gap_s is not None,
        "hold": None if found.hold is None else _make_hold_record(found.hold),
        "clock_offset_s": situation.clock_offset_s,
        "drill": None if found.drill is None else {"name": found.drill.name, "passed_at": format_time(found.drill.at)},
        "journal": found.journal or None,
        "troubles": list(found.troubles),
        "unmeasured": list(found.unmeasured),
        "not_set_up": [name for name, there in list_parts(found) if not there],
        "not_built": [],  # what no setting turns on: nothing any more
    }


def make_marks_record(config: Config, seal: Seal | None) -> dict[str, object]:
    """Return whether marks are signed, and who could stop guard with one."""
    from backout.config.init.additions import rewrite_for_file

    deployer = f"anyone who may deploy {config.environment.platform.script or config.settings.app.name}"
    add = rewrite_for_file(describe_setting("marks", key_env="BACKOUT_MARKS_KEY"), config.text, config.path.name)
    if seal is None:
        return {"signed": False, "may_disarm": f"{deployer}: marks are not signed", "next": add}
    may = f"anyone with the key; {deployer} for 2 hours, twice a day"
    if not seal.keys:
        return {"signed": False, "may_disarm": may, "next": f"set {seal.variable}: no key is here"}
    return {"signed": True, "may_disarm": may, "next": None}


def list_parts(found: Status) -> list[tuple[str, bool]]:
    """Return each part of a configuration, and whether it is set up."""
    return [
        ("health", found.health is not None),
        ("traffic", found.traffic is not None),
        ("migrations", found.situation.schema.set_up),
        ("notifications", found.notices is not None),
        ("backups", found.backups is not None),
    ]


def make_health_record(health: HealthReport | None) -> dict[str, object] | None:
    """Return a look at the health endpoint as JSON values."""
    if health is None:
        return None
    return {
        "reach": health.reach,
        "status": health.status,
        "overall": health.overall,
        "latency_ms": health.latency_ms,
        "services": {s.name: {"state": s.state, "detail": s.detail} for s in health.services},
        "findings": list(health.findings),
    }


def _make_traffic_record(traffic: TrafficLook | None) -> dict[str, object] | None:
    if traffic is None:
        return None
    return {
        "window_s": traffic.window_s,
        "requests": traffic.requests,
        "errors": traffic.errors,
        "error_rate": traffic.error_rate,
        "p99_ms": traffic.p99_ms,
        "classes": {each.value: number for each, number in traffic.classes.items()},
        "last_error_s": None if traffic.last_error_s is None else round(traffic.last_error_s, 3),
        "well_since": traffic.well_since,
        "problem": traffic.problem or None,
        "unseen": [sight.name for sight in traffic.unseen],
    }


def _make_objects_record(objects: Check | str | None) -> dict[str, object] | None:
    if objects is None:
        return None
    if isinstance(objects, str):
        return {"kept": None, "why": objects}
    kept = {CheckState.OK: True, CheckState.MISSING: False}
    return {"kept": kept.get(objects.state), "why": objects.why}


def _make_backups_record(backups: Protection | str | None) -> dict[str, object] | None:
    if backups is None:
        return None
    if isinstance(backups, str):
        return {"protected": None, "why": backups, "base": None}
    reaches = None if backups.reaches_at is None else format_time(backups.reaches_at)
    return {
        "protected": backups.protected,
        "why": backups.why,
        "base": backups.base or None,
        "reaches_at": reaches,
        "behind_bytes": backups.behind_bytes,
    }


def _make_notices_record(notices: Delivery | None) -> dict[str, object] | None:
    if notices is None:
        return None
    return {
        "delivered": notices.delivered,
        "waiting": notices.waiting,
        "given_up": notices.given_up,
        "problems": list(notices.problems),
    }


def _make_elsewhere_record(found: Status) -> dict[str, object] | None:
    if found.elsewhere is None:
        return None
    deployment, remark = found.elsewhere
    return {
        "run_id": remark.run,
        "at": format_time(deployment.created_at),
        "deployment_id": deployment.id,
        "automatic": remark.auto,
        "by": deployment.author or None,
        "why": remark.text,
    }


def _make_run_record(run: Run | None, ends: Mapping[str, RunEnd] | None = None) -> dict[str, object] | None:
    if run is None:
        return None
    end = (ends or {}).get(run.id)
    return {
        "run_id": run.id,
        "state": run.state,
        "started_at": format_time(run.started_at),
        "ended_at": None if run.ended_at is None else format_time(run.ended_at),
        "alive_at": None if run.alive_at is None else format_time(run.alive_at),
        "verdict": (end.verdict or None) if end is not None else None,
        "verified": end.verified if end is not None else None,
    }


def _make_hold_record(hold: Hold) -> dict[str, object]:
    until = None if math.isinf(hold.until) else format_time(hold.until)
    return {
        "until": until,
        "why": hold.why,
        "by": hold.by,
        "where": hold.where,
        "incident": hold.incident or None,
        "unsigned": hold.unsigned,
    }
