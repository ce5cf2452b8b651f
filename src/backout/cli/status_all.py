"""`backout status` without `-e`: all environments of backout.toml, one line each, what needs a person first on top."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from backout.cli.status_look import read_known_workers, read_status, tell_of_status
from backout.cli.status_record import make_marks_record, make_status_record
from backout.cli.support import errors
from backout.cli.support.style import Tone
from backout.errors import BackoutError, Unmeasured
from backout.escaping import shorten
from backout.report.times import format_ago, format_percent, format_time
from backout.runbook.incident.statuses import UNREAD, Overview, find_incident, read_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.cli.support.shell import Shell
    from backout.cli.support.style import Style
    from backout.config import Config
    from backout.journal.stored import StoredJournal
    from backout.runbook.incident.status import Status
    from backout.runbook.toolbox import Toolbox

_HEAD = ("ENVIRONMENT", "LIVE", "HEALTH", "FAILED", "GUARD", "DRILL", "WHAT")


def show_all(shell: Shell, config: Config) -> int:
    """Show every environment; return 1 when something is wrong in one, else 7 when one could not be read, else 0."""
    from backout.wiring.records import open_journals

    configs = {name: shell.choose(config, name) for name in config.settings.environments}
    open_journal = open_journals(config, hurried=True)
    tools: dict[str, Toolbox] = {}
    found: dict[str, Overview | Exception] = {}
    for name, each in configs.items():
        try:
            tools[name] = _open_toolbox(each, open_journal(each))
        except BackoutError as error:
            found[name] = error
    shell.notifier = next((each.notifier for each in tools.values()), None)  # all of them use the same outbox
    workers = read_known_workers(config)
    found |= read_all({name: _make_reader(each, workers.get(name, "")) for name, each in tools.items()})
    order = list(configs)
    names = sorted(found, key=lambda name: (_get_urgency(found[name]), order.index(name)))
    records = []
    for name in names:
        marks = make_marks_record(configs[name], tools[name].seal) if name in tools else None
        records.append(_make_record(shell, name, found[name], marks))
    rows = [_format_row(shell.output.style, name, found[name]) for name in names]
    shell.output.result("status", {"environments": records}, shell.output.table(_HEAD, rows, whole=True))
    first = shlex.quote(names[0])
    shell.output.next(
        f"backout status -e {first}" + ("" if _get_urgency(found[names[0]]) == 4 else "  # what is wrong")
    )
    overviews = [each for each in found.values() if isinstance(each, Overview)]
    if any(each.status.troubles for each in overviews):
        return 1
    return 0 if len(overviews) == len(found) else Unmeasured.exit_code


def _open_toolbox(config: Config, journal: StoredJournal) -> Toolbox:
    from backout.wiring.hooks import Hooks
    from backout.wiring.toolbox import make_toolbox

    return make_toolbox(config, Hooks(hurried=True, journal=journal))


def _make_reader(tools: Toolbox, worker: str) -> Callable[[], Overview]:
    def read() -> Overview:
        status = read_status(tools)
        tell_of_status(tools, status)
        return Overview(status, find_incident(tools), worker)

    return read


def _get_urgency(found: Overview | Exception) -> int:
    return found.urgency if isinstance(found, Overview) else UNREAD


def _make_record(
    shell: Shell, name: str, found: Overview | Exception, marks: Mapping[str, object] | None
) -> dict[str, object]:
    if not isinstance(found, Overview):
        return {"environment": name, "live_version": None, **errors.make_failure(found, shell.output.complete_command)}
    return {
        **make_status_record(found.status),
        "marks": marks,
        "guard_by": found.guard_by or None,
        "worker": found.worker or None,
        "incident": None if found.incident is None else found.incident.id,
    }


def _format_row(style: Style, name: str, found: Overview | Exception) -> tuple[str, ...]:
    if not isinstance(found, Overview):
        why = found.what if isinstance(found, BackoutError) else f"a mistake in backout itself: {found}"
        return (name, *[style.dim("?")] * 5, style.badge(f"not read: {shorten(why)}", Tone.WARN))
    status = found.status
    now = status.situation.read_at
    return (
        name,
        _format_live(style, status),
        _format_health(style, status),
        _format_failed(style, status),
        shorten(found.guard_by) or style.dim("nobody"),
        style.dim("never") if status.drill is None else format_ago(status.drill.at, now),
        _describe(style, found),
    )


def _format_live(style: Style, status: Status) -> str:
    live = status.situation.live
    shown = "differs" if live.hosts else live.main[:8]
    if status.quarantined is not None:
        return f"{shown} {style.badge('quarantined', Tone.BAD)}"
    return f"{shown} {style.badge('stable', Tone.GOOD)}" if status.stable is not None else shown


def _format_health(style: Style, status: Status) -> str:
    health = status.health
    if health is None:
        return style.dim("not set up")
    if health.is_down or status.down:
        return style.badge("down", Tone.BAD)
    return style.badge("ok", Tone.GOOD) if health.measured else style.badge("not measured", Tone.WARN)


def _format_failed(style: Style, status: Status) -> str:
    traffic = status.traffic
    if traffic is None or traffic.problem:
        return style.dim("?")
    if traffic.error_rate is None:
        return style.dim("no request")
    tone = Tone.BAD if traffic.error_rate >= status.error_rate_below else Tone.GOOD
    return style.badge(format_percent(traffic.error_rate), tone)


def _describe(style: Style, found: Overview) -> str:
    """Return what a person has to know: what is closed, wrong, not measured, held, unfinished, and open."""
    status, said = found.status, []
    if status.closed is not None:
        fence = {True: "the fence stands", False: "no fence stands", None: "the fence is not known"}[
            status.closed.fence
        ]
        said.append(f"CLOSED for run {status.closed.run} until {format_time(status.closed.deadline)}, {fence}")
    said += [*status.troubles, *status.unmeasured]
    if status.hold is not None:
        said.append(f"hold: {shorten(status.hold.why)}")
    if found.incident is not None:
        said.append(f"incident {found.incident.id} is open")
    if status.unfinished is not None and not any(status.unfinished.id in trouble for trouble in status.troubles):
        said.append(f"run {status.unfinished.id} is {status.unfinished.state}")
    text = "; ".join(shorten(each) for each in said)
    if status.closed is not None or status.troubles:
        return style.badge(text, Tone.BAD)
    return style.badge(text, Tone.WARN) if text else style.badge("nothing needs you", Tone.GOOD)
