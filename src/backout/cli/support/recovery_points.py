"""Recovery points on the command line: `backout recover --list` and `--mark NAME`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.report.times import format_ago, format_duration, format_time

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.model.recovery_point import Coordinate, RecoveryPoint
    from backout.runbook.toolbox import Toolbox

_SHORT = 8


def show_points(shell: Shell) -> int:
    """List the recovery points, newest first, with what each lacks and what a return to it would lose."""
    from backout.runbook.recovery.points import list_recovery_points
    from backout.wiring.points import make_point_sources

    config, tools = shell.config(), _open_tools(shell)
    points = list_recovery_points(tools, make_point_sources(config))
    now = tools.clock.now()
    rows = [
        (
            point.name,
            f"{format_time(point.at)[:19].replace('T', ' ')} ({format_ago(point.at, now)})",
            point.version[:_SHORT] or "?",
            "yes" if point.is_complete else "no",
            point.why,
        )
        for point in points
    ]
    human = shell.output.table(("NAME", "UTC", "VERSION", "COMPLETE", "WHY"), rows, whole=True) or "no recovery points"
    newest = next((point for point in points if point.is_complete), points[0] if points else None)
    if newest is not None:
        human += "\n\n" + "\n".join(_describe(newest))
    payload = {"environment": config.name, "points": [make_record(point) for point in points]}
    shell.output.result("recover", payload, human)
    if newest is None:
        shell.output.next(f"backout recover --mark NAME -e {config.name}")
    return 0


def mark_point(shell: Shell, name: str) -> int:
    """Record a recovery point, and show it."""
    from backout.runbook.recovery.points import list_recovery_points, mark_recovery_point
    from backout.wiring.points import find_marker, make_point_sources

    config, tools = shell.config(), _open_tools(shell)
    mark_recovery_point(tools, name, find_marker(config, tools))
    points = list_recovery_points(tools, make_point_sources(config))
    made = next(point for point in points if point.name == name)
    payload = {"environment": config.name, "points": [make_record(made)]}
    shell.output.result("recover", payload, "\n".join(_describe(made)))
    shell.output.next(f"backout recover --list -e {config.name}")
    return 0


def make_record(point: RecoveryPoint) -> dict[str, object]:
    """Return a point as JSON values."""
    return {
        "at": format_time(point.at),
        "name": point.name,
        "why": point.why,
        "complete": point.is_complete,
        "parts": {
            str(part): {
                "value": each.value or None,
                "error_s": None if each.missing else each.error_s,
                "missing": each.missing or None,
                "loss": point.losses.get(part),
                "detail": dict(each.detail),
            }
            for part, each in point.parts.items()
        },
    }


def _open_tools(shell: Shell) -> Toolbox:
    from backout.wiring.hooks import Hooks

    return shell.toolbox(shell.config(), Hooks(say=shell.output.warn))


def _describe(point: RecoveryPoint) -> list[str]:
    head = "complete" if point.is_complete else "not complete"
    lines = [f"{point.name}, {format_time(point.at)} ({point.why}): {head}"]
    for part, each in point.parts.items():
        lines.append(f"  {part:<14}{_describe_value(each)}")
        if part in point.losses:
            lines.append(f"  {'':<14}would lose {point.losses[part]}")
    return lines


def _describe_value(each: Coordinate) -> str:
    if each.missing:
        return f"missing: {each.missing}"
    if each.error_s is None:
        return f"{each.value} (not exact)"
    return f"{each.value} (to {format_duration(each.error_s)})" if each.error_s >= 1.0 else each.value
