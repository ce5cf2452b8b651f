"""`backout status`: one screen, everything read just now."""

from __future__ import annotations

import math
import shlex
from typing import TYPE_CHECKING

from backout.analysis.history.remarks import get_text
from backout.cli.status_look import read_known_workers, read_status, tell_of_status
from backout.cli.status_record import list_parts, make_health_record, make_marks_record, make_status_record
from backout.cli.support.in_need import format_health
from backout.cli.support.options import command, pass_shell
from backout.cli.support.style import Tone
from backout.errors import AuthError, ProviderRejected, ProviderUnavailable
from backout.escaping import shorten
from backout.model.checkup import CheckState
from backout.model.clock import describe_offset, is_off
from backout.model.incident.incident import RunState
from backout.report.guard.run_end import describe_end as end_in_words
from backout.report.times import format_ago, format_clock, format_duration, format_percent, format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.cli.support.shell import Shell
    from backout.cli.support.style import Style
    from backout.config import Config
    from backout.errors import BackoutError
    from backout.model.checkup import Check
    from backout.model.database.backups import Protection
    from backout.model.hold import Hold
    from backout.model.incident.incident import Run
    from backout.model.incident.notice import Delivery
    from backout.report.guard.run_end import RunEnd
    from backout.runbook.incident.status import Status, TrafficLook
    from backout.runbook.recover.deadline import Outage


@command("status", short_help="Show what is live and how it is doing.")
@pass_shell
def status(shell: Shell) -> int:
    """Show what is live and how it is doing, read just now. Exit code 1 when something is wrong.

    Without -e, where backout.toml has several environments: all of them, one line each, what needs a person first on
    top. Each is given 15 seconds; exit code 1 when something is wrong in one, otherwise 7 when one could not be read.
    """
    from backout.wiring.hooks import Hooks

    config = shell.config()
    if config.chosen is None:
        from backout.cli.status_all import show_all

        return show_all(shell, config)
    try:
        tools = shell.toolbox(config, Hooks(hurried=True))
        found = read_status(tools)
    except (ProviderUnavailable, ProviderRejected, AuthError) as error:
        return _show_without_provider(shell, config, error)
    tell_of_status(tools, found)
    marks = make_marks_record(config, tools.seal)
    worker = read_known_workers(config).get(config.name, "")
    record = {**make_status_record(found), "marks": marks, "worker": worker or None}
    shell.output.result("status", record, _format_text(shell, found, marks, worker))
    shell.output.next(*_list_next_commands(found))
    return 1 if found.troubles else 0


def _list_next_commands(found: Status) -> tuple[str, ...]:
    """Return what to type next."""
    environment = found.situation.environment
    unhold = () if found.hold is None else (f"backout unhold -e {environment}  # when guard may act again",)
    guard = unhold or (f"backout guard -e {environment}",)  # while a hold is on it would do nothing
    if found.journal:
        doctor = f"backout doctor -e {environment}  # what is wrong with the journal, and what mends it"
        back = [f"backout panic -e {environment}  # prints what to type to go back"] if len(found.troubles) > 1 else []
        return (*back, doctor)
    if found.closed is not None:
        return (
            f"backout runs resume {found.closed.run}  # goes on",
            f"backout recover --undo -e {environment}  # takes it back",
            f"backout unfence -e {environment} --dry-run  # the fence, and what opens it",
        )
    if left := _list_what_puts_back(found, shlex.quote(environment)):
        return left
    if found.unfinished is not None:
        return _list_ways_on(found.unfinished)
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


def _list_ways_on(run: Run) -> tuple[str, ...]:
    """Return what to type about a run that is not over."""
    show = f"backout runs show {run.id}"
    give_up = f"backout runs abort {run.id} -m WHY"
    if run.state is RunState.WAITING:
        return (f"backout runs approve {run.id} -m WHY", show, give_up)
    return (show,) if run.pause is None else (f"backout runs resume {run.id}", give_up, show)


def _list_what_puts_back(found: Status, environment: str) -> tuple[str, ...]:
    """Return what ends a trial or a drill that was killed, while its code is live."""
    if found.trial is not None:
        return (f"backout certify --restore --on {environment} -e {environment}  # unless the trial still runs",)
    if found.broken is not None:
        good = shlex.quote(found.broken.good)
        return (f'backout rollback {good} -e {environment} --accept-unproven -m "a drill was stopped"',)
    return ()


def _show_without_provider(shell: Shell, config: Config, error: BackoutError) -> int:
    """Show what is known when the provider does not say what is live, then the error; its exit code is returned."""
    from backout.cli.support import errors, in_need
    from backout.cli.support.paint import paint_for
    from backout.report.text import format_fields
    from backout.wiring import clock

    style, now, found = shell.output.style, clock.now(), in_need.find_out(config)
    known = {
        "environment": config.name,
        "read_at": format_time(now),
        "live_version": None,
        **errors.make_record(error, shell.output.complete_command),
        "health": make_health_record(found.health),
        **in_need.make_record(found),
    }
    head = f"{style.strong(config.name)}  {style.badge('what is live is not known', Tone.BAD)}"
    text = "\n".join([head, *format_fields(in_need.list_rows(style, found, now), style.width, paint=paint_for(style))])
    shell.output.result("status", known, text)
    return errors.show(error, shell.output)


def _format_backups(style: Style, backups: Protection | str) -> str:
    if isinstance(backups, str):
        return style.badge(f"not known: {backups}", Tone.WARN)
    if backups.protected:
        return style.badge(backups.claim, Tone.GOOD)
    return style.badge(f"UNPROTECTED: {backups.why}", Tone.BAD)


def _format_objects(style: Style, objects: Check | str) -> str:
    if isinstance(objects, str):
        return style.badge(f"not known: {objects}", Tone.WARN)
    tones = {CheckState.OK: Tone.GOOD, CheckState.MISSING: Tone.BAD}
    return style.badge(objects.why, tones.get(objects.state, Tone.WARN))


def _format_text(shell: Shell, found: Status, marks: Mapping[str, object], worker: str) -> str:
    from backout.cli.support.paint import paint_for
    from backout.report.text import format_fields, wrap_text

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
    rows += [("cohort", shorten(cohort)) for cohort in live.describe_cohorts()]
    rows += [
        ("", f"{mark}, since {format_clock(live.created_at)} UTC ({format_ago(live.created_at, now)})"),
        *([("message", shorten(get_text(live)))] if live.message else []),
        ("health", format_health(style, found.health)),
        ("traffic", _format_traffic(style, found.traffic, found.error_rate_below)),
        *_format_unseen_row(found.traffic),
        ("migrations", _format_schema(style, found)),
        *([("backups", _format_backups(style, found.backups))] if found.backups is not None else []),
        *([("objects", _format_objects(style, found.objects))] if found.objects is not None else []),
        *_format_clock_row(style, situation.clock_offset_s),
        ("guard", _format_guard(found, ours, lost)),
        *([("worker", f"{shorten(worker)} guards it")] if worker else []),
        (
            "rollback",
            _format_elsewhere(found, now) or _format_run(found.rollback, found.ends, ours, lost or "none yet"),
        ),
        *([("hold", _describe_hold(style, found.hold))] if found.hold else []),
        ("may disarm", "; ".join(_join_lines(part) for part in (marks["may_disarm"], marks["next"]) if part)),
        *([("notices", _format_notices(style, found.notices))] if found.notices else []),
        (
            "drill",
            "none passed yet"
            if found.drill is None
            else f"{found.drill.name} passed {format_ago(found.drill.at, now)}",
        ),
        ("not set up", ", ".join(name for name, there in list_parts(found) if not there)),
    ]
    head = f"{style.strong(situation.environment)}  {_format_summary(style, found)}"
    heads = wrap_text(head, style.width, hanging=" " * (len(situation.environment) + 4))
    closed = [] if found.closed is None else wrap_text(_format_closed(style, found.closed, ours), style.width)
    return "\n".join(
        [*closed, *heads, *format_fields([row for row in rows if row[1]], style.width, paint=paint_for(style))]
    )


def _format_closed(style: Style, closed: Outage, now: float) -> str:
    """Return who closed the application, and until when; the first line, whatever else there is."""
    left_s = closed.deadline - now
    left = f"in {format_duration(left_s)}" if left_s > 0 else f"passed {format_duration(-left_s)} ago"
    fence = {True: "the fence stands", False: "no fence stands", None: "whether the fence stands is not known"}
    said = (
        f"CLOSED by {shorten(closed.actor)} since {format_clock(closed.since)} UTC for run {closed.run}, deadline "
        f"{format_clock(closed.deadline)} UTC ({left}); {fence[closed.fence]}"
    )
    return style.badge(said, Tone.WARN if left_s > 0 else Tone.BAD)


def _format_summary(style: Style, found: Status) -> str:
    if found.troubles:
        return style.badge("; ".join(found.troubles), Tone.BAD)
    if found.unmeasured:
        return style.badge("; ".join(found.unmeasured), Tone.WARN)
    if found.health is None and found.traffic is None:
        return style.badge("live, but nothing is measured", Tone.WARN)
    return style.badge("nothing needs you", Tone.GOOD)


def _format_traffic(style: Style, traffic: TrafficLook | None, limit: float) -> str:
    if traffic is None:
        return style.dim("not set up")
    if traffic.problem:
        return f"{style.badge('not measured', Tone.WARN)} ({traffic.problem})"
    if traffic.error_rate is None:
        return f"no request in the last {traffic.window_s // 60} min"
    tone = Tone.BAD if traffic.error_rate >= limit or traffic.is_slow or traffic.is_unlike else Tone.GOOD
    tone = Tone.WARN if tone is Tone.GOOD and traffic.unlike_words else tone
    p99 = "" if traffic.p99_ms is None else f", p99 {traffic.p99_ms:.0f} ms"
    failed = f"{format_percent(traffic.error_rate)} failed"
    failed = (
        f"{style.badge(traffic.unlike_words, tone)}; {failed}" if traffic.unlike_words else style.badge(failed, tone)
    )
    last = "" if traffic.last_error_s is None else f", the last {format_duration(traffic.last_error_s)} ago"
    return f"{failed} ({traffic.errors:,} of {traffic.requests:,} in {traffic.window_s // 60} min{last}{p99})"


def _format_unseen_row(traffic: TrafficLook | None) -> list[tuple[str, str]]:
    if traffic is None or not traffic.unseen:
        return []
    return [("not seen", f"{', '.join(sight.words for sight in traffic.unseen)} (by {traffic.source})")]


def _format_clock_row(style: Style, offset_s: float | None) -> list[tuple[str, str]]:
    return (
        [("clock", style.badge(describe_offset(offset_s), Tone.WARN))]
        if offset_s is not None and is_off(offset_s)
        else []
    )


def _format_schema(style: Style, found: Status) -> str:
    look = found.situation.schema
    if not look.set_up:
        return style.dim("not set up")
    if look.state is None:
        return f"{style.badge('not measured', Tone.WARN)} ({look.problem})"
    if look.state.failed:
        return style.badge(f"{look.state.failed[-1]} failed half-way", Tone.BAD)
    return look.state.head or "none applied"


def _format_notices(style: Style, notices: Delivery) -> str:
    if not (notices.waiting or notices.given_up or notices.problems):
        return f"{notices.delivered} delivered"
    counts = f"{notices.waiting} waiting, {notices.given_up} given up, {notices.delivered} delivered"
    return "; ".join([style.badge(counts, Tone.WARN), *notices.problems, "see `backout notify list`"])


def _format_elsewhere(found: Status, now: float) -> str:
    if found.elsewhere is None:
        return ""
    deployment, remark = found.elsewhere
    where = "" if found.journal else " on another machine"  # without the journal it is not known whose it was
    return f"{remark.run}{where}, {format_ago(deployment.created_at, now)}: {shorten(remark.text)}"


def _join_lines(text: object) -> str:
    return " ".join(str(text).split())


def _format_guard(found: Status, now: float, lost: str) -> str:
    """Say whether guard watches now, and what was watched last."""
    run = found.guard
    if run is None:
        return lost or "no watch yet"
    word = "watches:" if run.state is RunState.RUNNING else "idle; last:"
    return f"{word} {_format_run(run, found.ends, now, '')}"


def _format_run(run: Run | None, ends: Mapping[str, RunEnd], now: float, none: str) -> str:
    if run is None:
        return none
    if not run.state.is_over and run.alive_at is not None:
        return f"{run.id} {run.state}, last alive {format_ago(run.alive_at, now)}"
    end = ends.get(run.id)
    came_to = end_in_words(run, end) if end is not None else ""
    said = f" ({came_to})" if came_to else ""
    return f"{run.id} {run.state}{said}, {format_ago(run.ended_at or run.started_at, now)}"


def _describe_hold(style: Style, hold: Hold) -> str:
    until = "until it is lifted" if math.isinf(hold.until) else f"until {format_time(hold.until)}"
    who = f"set by {hold.by}, " if hold.by else ""
    until += " (not signed)" if hold.unsigned else ""
    until += f", and while incident {hold.incident} is open" if hold.incident else ""
    return f"{style.badge('nothing automatic', Tone.WARN)} {until}: {shorten(hold.why)} ({who}{hold.where})"
