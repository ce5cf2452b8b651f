"""What a person would type instead of each step of a recovery, where backout itself cannot go on (rule 20); pure."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.model.steps.jobs import StartJobsStep, StopJobsStep
from backout.model.steps.recovery import (
    FenceCopyStep,
    FenceStandsStep,
    FenceStep,
    GoLiveStep,
    MaintenanceStep,
    OpenStep,
    PauseStep,
    PlaceStep,
    ProveFenceStep,
    ProveTargetStep,
    ReadyStep,
    RecoverReportStep,
    RestoredStep,
    ResumeStep,
    UndoPointStep,
)
from backout.model.steps.restore import PromoteStep, SequencesStep, StartServerStep, StopServerStep, SwappedStep
from backout.model.value import Value
from backout.plan.by_hand import NO_HEALTH, add_by_hand

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.model.plan import Equivalents, Plan, Step

_OTHERS = "SELECT pid, usename, application_name FROM pg_stat_activity WHERE datname = current_database()"

_END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IN ({names})"
_ROLES = "SELECT rolname, rolcanlogin FROM pg_roles WHERE rolname IN ({names})"
LIVE_NOW = "RELEASE"
"""In a line that has to be typed with the version that is live by then."""
_PAGE = "VERSION"
"""What the line that uploads the maintenance page prints."""
_UNKNOWN = "# no line is known for this provider"


class ByHand(Value, frozen=True):
    """What the lines are made of.

    Args:
        lines: of the platform.
        psql: what a psql line of the administrator begins with, "" without a database.
        roles: those that the fence keeps out.
        opens: the line that gives each of them what it had.
        page: the version that serves users meanwhile, "" where it is the one that is left.
        target: the version that is placed, "" where there is none, or it has no id yet.
    """

    lines: Equivalents
    psql: str = ""
    roles: tuple[str, ...] = ()
    opens: str = ""
    page: str = ""
    target: str = ""

    def ask(self, *queries: str) -> str:
        """Return a line that runs these queries, "" where it is not known what one begins with."""
        if not self.psql:
            return ""
        return " ".join([self.psql, *(f"-c {_quote_query(query)}" for query in queries)])


def add_recovery_lines(plan: Plan, hand: ByHand) -> Plan:
    """Return the plan with the equivalent of every step; one that begins with `#` says why there is nothing to type."""
    if plan.has(MaintenanceStep) and plan.arguments(MaintenanceStep).shows:
        hand = replace(hand, page=_PAGE)
    if plan.has(PlaceStep) and not plan.arguments(PlaceStep).uploads:
        hand = replace(hand, target=plan.arguments(PlaceStep).version)
    filled = (
        replace(step, equivalent=_LINES[step.action](step, hand))
        if not step.equivalent and step.action in _LINES
        else step
        for step in plan.steps
    )
    return add_by_hand(replace(plan, steps=tuple(filled)), hand.lines)


def _show_page(_step: Step, hand: ByHand) -> str:
    return hand.lines.page or _UNKNOWN


def _pause(step: Step, hand: ByHand) -> str:
    stopped, lines = step.arguments(PauseStep), hand.lines
    told = [lines.queue_off.format(queue=shlex.quote(name)) for name in stopped.queues if lines.queue_off]
    told += _set_schedules(lines, ()) if stopped.schedules else []
    told += [lines.cache_off.format(id=shlex.quote(each.id)) for each in stopped.caches if lines.cache_off]
    return "\n".join(told) or _UNKNOWN


def _resume(step: Step, hand: ByHand) -> str:
    stopped, lines = step.arguments(ResumeStep), hand.lines
    told = [lines.queue_on.format(queue=shlex.quote(name)) for name in stopped.queues if lines.queue_on]
    told += _set_schedules(lines, stopped.schedules) if stopped.schedules else []
    told += [lines.cache_on.format(id=shlex.quote(each.id)) for each in stopped.caches if lines.cache_on]
    return "\n".join(told) or _UNKNOWN


def _set_schedules(lines: Equivalents, schedules: Sequence[str]) -> list[str]:
    body = json.dumps([{"cron": schedule} for schedule in schedules])
    return [lines.schedules.format(schedules=shlex.quote(body))] if lines.schedules else []


def _raise_fence(_step: Step, hand: ByHand) -> str:
    if not hand.roles:
        return ""
    names = " and ".join(f"`\\du {name}`" for name in hand.roles)
    closed = [f"ALTER ROLE {_quote(name)} NOLOGIN" for name in hand.roles]
    return f"# note first what {names} says\n{hand.ask(*closed, _END.format(names=_list_names(hand)))}"


def _look_at_fence(_step: Step, hand: ByHand) -> str:
    if not hand.roles:
        return ""
    return hand.ask(_ROLES.format(names=_list_names(hand)))


def _quote_query(query: str) -> str:
    """Return a query as a word of a shell, in the quotes that are easier to read where they do."""
    return shlex.quote(query) if re.search(r'["$`\\!]', query) else f'"{query}"'


def _quote(name: str) -> str:
    doubled = name.replace('"', '""')
    return name if re.fullmatch("[a-z_][a-z0-9_]*", name) else f'"{doubled}"'


def _list_names(hand: ByHand) -> str:
    return ", ".join("'{}'".format(name.replace("'", "''")) for name in hand.roles)


def _place(step: Step, hand: ByHand) -> str:
    place, lines = step.arguments(PlaceStep), hand.lines
    if place.uploads and lines.upload:
        return f"# in a checkout of the commit of {place.version[:8]}; secrets.json has what is missing\n{lines.upload}"
    if not place.uploads and lines.split:
        return lines.split.format(shares=f"{hand.page or place.leaving}@100% {place.version}@0%")
    return "# nothing to type: one that runs can be asked by its address" if lines.ask and hand.target else _UNKNOWN


def _ask_target(_step: Step, hand: ByHand) -> str:
    """Return what asks the target, which no user gets yet: at its usual address the maintenance page would answer."""
    asked = hand.lines.ask.format(version=hand.target) if hand.target else ""
    return asked or hand.lines.health or NO_HEALTH


_LINES: dict[str, Callable[[Step, ByHand], str]] = {
    ReadyStep.action: lambda _step, hand: hand.lines.live,
    MaintenanceStep.action: _show_page,
    PauseStep.action: _pause,
    FenceStep.action: _raise_fence,
    ProveFenceStep.action: lambda _step, hand: hand.ask(_OTHERS, "SELECT gid FROM pg_prepared_xacts"),
    UndoPointStep.action: lambda _step, hand: hand.ask(
        "SELECT pg_create_restore_point('by-hand')", "SELECT pg_switch_wal()"
    ),
    FenceCopyStep.action: lambda _step, _hand: "# the same ALTER ROLE in the side instance, before it is the server",
    FenceStandsStep.action: _look_at_fence,
    PromoteStep.action: lambda _step, _hand: "# pg_ctl promote, then pg_ctl stop, in its data directory",
    StopServerStep.action: lambda step, _hand: f"pg_ctl -D {step.arguments(StopServerStep).data_directory} stop",
    SequencesStep.action: lambda _step, _hand: "# setval() of each sequence, past what the server before says",
    StartServerStep.action: lambda step, _hand: f"pg_ctl -D {step.arguments(StartServerStep).data_directory} start",
    SwappedStep.action: lambda _step, hand: hand.ask("SELECT system_identifier FROM pg_control_system()"),
    **dict.fromkeys(
        ("db_side_check", "db_side_open"), lambda _step, _hand: "# psql with the side instance's folder as its host"
    ),
    **dict.fromkeys(
        ("db_note_copies", "db_note_newer", "db_note_undo"),
        lambda _step, _hand: "# write down how many rows each table has",
    ),
    **dict.fromkeys(
        ("db_compare_copy", "db_compare", "db_compare_undo", "db_rescue_check"),
        lambda _step, _hand: "# compare the number of rows by table with what you wrote down",
    ),
    "db_also_back": lambda _step, _hand: "# psql -l, and \\du: which databases and roles were made since",
    **dict.fromkeys(
        ("db_rescue", "db_undo_rescue"),
        lambda _step, _hand: "# COPY the rows out of the side instance, and UPDATE",
    ),
    **dict.fromkeys(
        ("snapshot_objects", "survey_objects", "undo_objects", "compare_objects"),
        lambda _step, _hand: "# aws s3api list-object-versions",
    ),
    "restore_objects": lambda _step, _hand: (
        "# per object: aws s3api copy-object of the version of then, or delete-object of the delete marker"
    ),
    PlaceStep.action: _place,
    RestoredStep.action: lambda _step, _hand: "# nothing to type: look at the rows and the objects yourself",
    OpenStep.action: lambda _step, hand: hand.opens,
    GoLiveStep.action: lambda step, hand: (
        hand.lines.activate.format(version=step.arguments(GoLiveStep).version, message="''") or _UNKNOWN
    ),
    ProveTargetStep.action: _ask_target,
    ResumeStep.action: _resume,
    **dict.fromkeys((StopJobsStep.action, StartJobsStep.action), lambda _step, _hand: _UNKNOWN),
    RecoverReportStep.action: lambda _step, _hand: "# nothing to type: write down the times, and what you saw",
}
