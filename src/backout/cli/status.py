"""`backout status`: one screen, everything read just now."""

from __future__ import annotations

import math
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

from backout.analysis.remarks import text_of
from backout.cli.in_need import health_text
from backout.cli.options import command, pass_shell
from backout.cli.style import Tone
from backout.errors import AuthError, ProviderRejected, ProviderUnavailable
from backout.escaping import brief
from backout.model.clock import in_words, is_off
from backout.model.incident import RunState
from backout.model.setting import setting
from backout.report.run_end import in_words as end_in_words
from backout.report.times import ago, clock, duration, percent, rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.analysis.seal import Seal
    from backout.cli.shell import Shell
    from backout.cli.style import Style
    from backout.config import Config
    from backout.errors import BackoutError
    from backout.model.backups import Protection
    from backout.model.hold import Hold
    from backout.model.incident import Run
    from backout.model.notice import Delivery
    from backout.model.signals import HealthReport
    from backout.report.run_end import RunEnd
    from backout.runbook.status import Status, TrafficLook
    from backout.runbook.toolbox import Toolbox

LATER = ("drills",)
"""Parts that are not built yet; shown, so that nobody takes silence for safety."""


@command("status", short_help="What is live, and how it is doing.")
@pass_shell
def status(shell: Shell) -> int:
    """Show what is live and how it is doing, read just now. Exit code 1 when something is wrong."""
    from backout import wiring  # noqa: PLC0415 - only commands that ask the provider pay for it
    from backout.runbook.hold_told import tell_of_holds  # noqa: PLC0415 same
    from backout.runbook.unguarded import tell_unguarded  # noqa: PLC0415 same

    config = shell.config()
    try:
        tools = shell.toolbox(config, wiring.Hooks(hurried=True))
        found = _looked(tools)
    except (ProviderUnavailable, ProviderRejected, AuthError) as error:
        return _without_provider(shell, config, error)
    if found.unguarded_s is not None and not found.journal:
        tell_unguarded(tools, found.situation, found.unguarded_s)
    tell_of_holds(tools, found.situation.listed)
    marks = _marks_record(config, tools.seal)
    shell.output.result("status", {**_record(found), "marks": marks}, _text(shell, found, marks))
    shell.output.next(*_next(found))
    return 1 if found.troubles else 0


def _next(found: Status) -> tuple[str, ...]:
    """Return what to type next."""
    environment = found.situation.environment
    unhold = () if found.hold is None else (f"backout unhold -e {environment}  # when guard may act again",)
    guard = unhold or (f"backout guard -e {environment}",)  # while a hold is on it would do nothing
    if found.journal:
        doctor = f"backout doctor -e {environment}  # what is wrong with the journal, and what mends it"
        back = [f"backout panic -e {environment}  # prints what to type to go back"] if len(found.troubles) > 1 else []
        return (*back, doctor)
    if found.unfinished is not None:
        return (f"backout runs show {found.unfinished.id}",)
    if found.waiting:
        return (
            *(f"backout guard accept {shlex.quote(each.name)} -e {environment} -m WHY" for each in found.waiting),
            f"backout rollback -e {environment} -m WHY  # when it is not intended",
        )
    if found.left_open and found.guard is not None:
        return (f"backout runs show {found.guard.id}  # what it found, and the ways out",)
    if found.health is not None and (found.health.is_down or found.down):
        return (
            f"backout diagnose -e {environment}  # what it is, and whether a rollback helps",
            f"backout rollback --dry-run -e {environment}",
            *unhold,
        )
    if not found.troubles and found.unmeasured:
        return (f"backout config check --online -e {environment}  # which source does not answer, and why",)
    if found.troubles:
        return (f"backout rollback --dry-run -e {environment}", *guard)
    return guard


def _looked(tools: Toolbox) -> Status:
    """Return the status; without a journal that can be used as far as the provider tells it."""
    from backout.journal.rows import JournalUnavailable  # noqa: PLC0415 - see `status`
    from backout.runbook.no_journal import without_journal  # noqa: PLC0415 same
    from backout.runbook.status import look  # noqa: PLC0415 same

    try:
        found = look(tools)
    except JournalUnavailable as error:
        return replace(look(without_journal(tools, error)), journal=f"{error.what} ({error.where})")
    only_read = getattr(tools.runs, "only_read", None)
    return found if only_read is None else replace(found, journal=f"{only_read.what} ({only_read.where})")


def _without_provider(shell: Shell, config: Config, error: BackoutError) -> int:
    """Show what is known when the provider does not say what is live, then the error; its exit code counts."""
    from backout.cli import errors, in_need  # noqa: PLC0415 - only when something is wrong
    from backout.cli.paint import paint_for  # noqa: PLC0415 same
    from backout.providers.clock import SystemClock  # noqa: PLC0415 same
    from backout.report.text import fields  # noqa: PLC0415 same

    style, now, found = shell.output.style, SystemClock().now(), in_need.found_out(config)
    known = {
        "environment": config.name,
        "read_at": rfc3339(now),
        "live_version": None,
        **errors.record(error, shell.output.typed),
        "health": _health_record(found.health),
        **in_need.record(found),
    }
    head = f"{style.strong(config.name)}  {style.badge('what is live is not known', Tone.BAD)}"
    text = "\n".join([head, *fields(in_need.rows(style, found, now), style.width, paint=paint_for(style))])
    shell.output.result("status", known, text)
    return errors.show(error, shell.output)


def _record(found: Status) -> dict[str, object]:
    situation, live = found.situation, found.situation.live
    state = situation.schema.state
    return {
        "environment": situation.environment,
        "read_at": rfc3339(situation.read_at),
        "live_version": live.main,
        "deployment_id": live.id,
        "live_since": rfc3339(live.created_at),
        "message": live.message,
        "shares": [{"version": share.version, "percentage": share.percentage} for share in live.shares],
        "stable": found.stable is not None and found.quarantined is None,
        "quarantined": found.quarantined is not None,
        "health": _health_record(found.health),
        "traffic": _traffic_record(found.traffic),
        "migrations": None
        if not situation.schema.set_up
        else {
            "head": state.head if state else None,
            "failed": list(state.failed) if state else [],
            "problem": situation.schema.problem or None,
        },
        "backups": _backups_record(found.backups),
        "guard": _run_record(found.guard, found.ends),
        "rollback": _run_record(found.rollback, found.ends),
        "rollback_elsewhere": _elsewhere_record(found),
        "unfinished": _run_record(found.unfinished),
        "notices": _notices_record(found.notices),
        "unguarded": found.unguarded_s is not None,
        "hold": None if found.hold is None else _hold_record(found.hold),
        "clock_offset_s": situation.clock_offset_s,
        "journal": found.journal or None,
        "troubles": list(found.troubles),
        "unmeasured": list(found.unmeasured),
        "not_set_up": [name for name, there in _parts(found) if not there],
    }


def _marks_record(config: Config, seal: Seal | None) -> dict[str, object]:
    """Return whether marks are signed, and who could stop guard with one."""
    from backout.config.additions import in_file  # noqa: PLC0415 - TOML only when something is shown

    script = config.environment.platform.script
    deployer = f"whoever may deploy {script}"
    add = in_file(setting("marks", key_env="BACKOUT_MARKS_KEY"), config.text, config.path.name)
    if seal is None:
        return {"signed": False, "may_disarm": f"{deployer}: marks are not signed", "next": add}
    may = f"whoever has the key; {deployer} for 2 hours, twice a day"
    if not seal.keys:
        return {"signed": False, "may_disarm": may, "next": f"set {seal.variable}: no key is here"}
    return {"signed": True, "may_disarm": may, "next": None}


def _parts(found: Status) -> list[tuple[str, bool]]:
    return [
        ("health", found.health is not None),
        ("traffic", found.traffic is not None),
        ("migrations", found.situation.schema.set_up),
        ("notifications", found.notices is not None),
        ("backups", found.backups is not None),
        *((name, False) for name in LATER),
    ]


def _health_record(health: HealthReport | None) -> dict[str, object] | None:
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


def _traffic_record(traffic: TrafficLook | None) -> dict[str, object] | None:
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


def _backups_record(backups: Protection | str | None) -> dict[str, object] | None:
    if backups is None:
        return None
    if isinstance(backups, str):
        return {"protected": None, "why": backups, "base": None}
    reaches = None if backups.reaches_at is None else rfc3339(backups.reaches_at)
    return {
        "protected": backups.protected,
        "why": backups.why,
        "base": backups.base or None,
        "reaches_at": reaches,
        "behind_bytes": backups.behind_bytes,
    }


def _backups_text(style: Style, backups: Protection | str) -> str:
    if isinstance(backups, str):
        return style.badge(f"not known: {backups}", Tone.WARN)
    if backups.protected:
        return style.badge(backups.claim, Tone.GOOD)
    return style.badge(f"UNPROTECTED: {backups.why}", Tone.BAD)


def _notices_record(notices: Delivery | None) -> dict[str, object] | None:
    if notices is None:
        return None
    return {
        "delivered": notices.delivered,
        "waiting": notices.waiting,
        "given_up": notices.given_up,
        "problems": list(notices.problems),
    }


def _elsewhere_record(found: Status) -> dict[str, object] | None:
    if found.elsewhere is None:
        return None
    deployment, remark = found.elsewhere
    return {
        "run_id": remark.run,
        "at": rfc3339(deployment.created_at),
        "deployment_id": deployment.id,
        "automatic": remark.auto,
        "by": deployment.author or None,
        "why": remark.text,
    }


def _run_record(run: Run | None, ends: Mapping[str, RunEnd] | None = None) -> dict[str, object] | None:
    if run is None:
        return None
    end = (ends or {}).get(run.id)
    return {
        "run_id": run.id,
        "state": run.state,
        "started_at": rfc3339(run.started_at),
        "ended_at": None if run.ended_at is None else rfc3339(run.ended_at),
        "alive_at": None if run.alive_at is None else rfc3339(run.alive_at),
        "verdict": (end.verdict or None) if end is not None else None,
        "verified": end.verified if end is not None else None,
    }


def _hold_record(hold: Hold) -> dict[str, object]:
    until = None if math.isinf(hold.until) else rfc3339(hold.until)
    return {
        "until": until,
        "why": hold.why,
        "by": hold.by,
        "where": hold.where,
        "incident": hold.incident or None,
        "unsigned": hold.unsigned,
    }


def _text(shell: Shell, found: Status, marks: Mapping[str, object]) -> str:
    from backout.cli.paint import paint_for  # noqa: PLC0415
    from backout.report.text import fields, wrapped  # noqa: PLC0415

    style = shell.output.style
    situation, live = found.situation, found.situation.live
    now = situation.read_at
    ours = now - (situation.clock_offset_s or 0.0) if is_off(situation.clock_offset_s) else now  # the journal's time
    lost = "not known" if found.journal and found.guard is None and found.rollback is None else ""
    mark = (
        style.badge("quarantined", Tone.BAD)
        if found.quarantined
        else style.badge("stable", Tone.GOOD)
        if found.stable
        else style.badge("unproven", Tone.DIM)
    )
    rows: list[tuple[str, str]] = [(f"{share.percentage:g} %", share.version) for share in live.shares]
    rows = [("live", live.main)] if live.sole else rows
    rows += [
        ("", f"{mark}, since {clock(live.created_at)} UTC ({ago(live.created_at, now)})"),
        *([("message", brief(text_of(live)))] if live.message else []),
        ("health", health_text(style, found.health)),
        ("traffic", _traffic_text(style, found.traffic, found.error_rate_below)),
        *_unseen_row(found.traffic),
        ("migrations", _schema_text(style, found)),
        *([("backups", _backups_text(style, found.backups))] if found.backups is not None else []),
        *_clock_row(style, situation.clock_offset_s),
        ("guard", _guard_text(found, ours, lost)),
        (
            "rollback",
            _elsewhere_text(found, now) or _run_text(found.rollback, found.ends, ours, lost or "none yet"),
        ),
        *([("hold", _hold_text(style, found.hold))] if found.hold else []),
        ("may disarm", "; ".join(_on_one_line(part) for part in (marks["may_disarm"], marks["next"]) if part)),
        *([("notices", _notices_text(style, found.notices))] if found.notices else []),
        ("not set up", ", ".join(name for name, there in _parts(found) if not there)),
    ]
    head = f"{style.strong(situation.environment)}  {_summary(style, found)}"
    heads = wrapped(head, style.width, hanging=" " * (len(situation.environment) + 4))
    return "\n".join([*heads, *fields(rows, style.width, paint=paint_for(style))])


def _summary(style: Style, found: Status) -> str:
    if found.troubles:
        return style.badge("; ".join(found.troubles), Tone.BAD)
    if found.unmeasured:
        return style.badge("; ".join(found.unmeasured), Tone.WARN)
    if found.health is None and found.traffic is None:
        return style.badge("live, but nothing is measured", Tone.WARN)
    return style.badge("nothing needs you", Tone.GOOD)


def _traffic_text(style: Style, traffic: TrafficLook | None, limit: float) -> str:
    if traffic is None:
        return style.dim("not set up")
    if traffic.problem:
        return f"{style.badge('not measured', Tone.WARN)} ({traffic.problem})"
    if traffic.error_rate is None:
        return f"no request in the last {traffic.window_s // 60} min"
    tone = Tone.BAD if traffic.error_rate >= limit or traffic.is_slow or traffic.is_unlike else Tone.GOOD
    tone = Tone.WARN if tone is Tone.GOOD and traffic.unlike_words else tone
    p99 = "" if traffic.p99_ms is None else f", p99 {traffic.p99_ms:.0f} ms"
    failed = f"{percent(traffic.error_rate)} failed"
    failed = (
        f"{style.badge(traffic.unlike_words, tone)}; {failed}" if traffic.unlike_words else style.badge(failed, tone)
    )
    last = "" if traffic.last_error_s is None else f", the last {duration(traffic.last_error_s)} ago"
    return f"{failed} ({traffic.errors:,} of {traffic.requests:,} in {traffic.window_s // 60} min{last}{p99})"


def _unseen_row(traffic: TrafficLook | None) -> list[tuple[str, str]]:
    if traffic is None or not traffic.unseen:
        return []
    return [("not seen", f"{', '.join(sight.words for sight in traffic.unseen)} (by {traffic.source})")]


def _clock_row(style: Style, offset_s: float | None) -> list[tuple[str, str]]:
    return [("clock", style.badge(in_words(offset_s), Tone.WARN))] if offset_s is not None and is_off(offset_s) else []


def _schema_text(style: Style, found: Status) -> str:
    look = found.situation.schema
    if not look.set_up:
        return style.dim("not set up")
    if look.state is None:
        return f"{style.badge('not measured', Tone.WARN)} ({look.problem})"
    if look.state.failed:
        return style.badge(f"{look.state.failed[-1]} failed half-way", Tone.BAD)
    return look.state.head or "none applied"


def _notices_text(style: Style, notices: Delivery) -> str:
    if not (notices.waiting or notices.given_up or notices.problems):
        return f"{notices.delivered} delivered"
    counts = f"{notices.waiting} waiting, {notices.given_up} given up, {notices.delivered} delivered"
    return "; ".join([style.badge(counts, Tone.WARN), *notices.problems, "see `backout notify list`"])


def _elsewhere_text(found: Status, now: float) -> str:
    if found.elsewhere is None:
        return ""
    deployment, remark = found.elsewhere
    where = "" if found.journal else " on another machine"  # without the journal nobody knows whose it was
    return f"{remark.run}{where}, {ago(deployment.created_at, now)}: {brief(remark.text)}"


def _on_one_line(text: object) -> str:
    return " ".join(str(text).split())


def _guard_text(found: Status, now: float, lost: str) -> str:
    """Say whether guard watches now, and what was watched last."""
    run = found.guard
    if run is None:
        return lost or "no watch yet"
    word = "watches:" if run.state is RunState.RUNNING else "watches nothing now; last:"
    return f"{word} {_run_text(run, found.ends, now, '')}"


def _run_text(run: Run | None, ends: Mapping[str, RunEnd], now: float, none: str) -> str:
    if run is None:
        return none
    if not run.state.is_over and run.alive_at is not None:
        return f"{run.id} {run.state}, last alive {ago(run.alive_at, now)}"
    end = ends.get(run.id)
    came_to = end_in_words(run, end) if end is not None else ""
    said = f" ({came_to})" if came_to else ""
    return f"{run.id} {run.state}{said}, {ago(run.ended_at or run.started_at, now)}"


def _hold_text(style: Style, hold: Hold) -> str:
    until = "until it is lifted" if math.isinf(hold.until) else f"until {rfc3339(hold.until)}"
    who = f"set by {hold.by}, " if hold.by else ""
    until += " (not signed)" if hold.unsigned else ""
    until += f", and while incident {hold.incident} is open" if hold.incident else ""
    return f"{style.badge('nothing automatic', Tone.WARN)} {until}: {brief(hold.why)} ({who}{hold.where})"
