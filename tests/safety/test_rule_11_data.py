"""Rule 11: alone, guard moves code and pushes secrets; whatever touches more is prepared, told, left to a person."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from source_trees import nodes_of
from values import replace

import backout.runbook
from backout import ports
from backout.errors import Refused
from backout.model.guard.policy import Mode
from backout.model.incident.notice import NoticeKind
from backout.model.plan import Json, Plan, PlanKind, Step
from backout.ports import Action
from backout.runbook.guard import guard
from backout.runbook.guard.conclude import Conclude
from backout.runbook.procedures import Actions
from backout.runbook.rollback.rollback import prepare
from backout.runbook.safety.permission import UNATTENDED
from backout.runbook.toolbox import (
    GuardTools,
    IncidentTools,
    PlatformTools,
    RecoveryTools,
    RollbackTools,
    SafetyTools,
    Toolbox,
)

from line import Story

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.incident.incident import Run
    from backout.model.plan import PlanRefused
    from backout.model.situation import Situation
    from backout.plan.rollback import Request
    from backout.ports import StepContext

DATA = Step("restore_database", "restore the database to 10:00", {"at": 1}, "pg_restore --clean backup.dump")


class Toy(Action[dict[str, Json], Json]):
    """A step that touches data."""

    arguments = dict

    done = 0

    def do(self, args: dict[str, Json], context: StepContext) -> Json:
        """Count."""
        self.done += 1
        return None


def watched(
    tools: Toolbox, planner: Callable[[Toolbox, Request], tuple[Situation, Plan | PlanRefused]], toy: Toy
) -> Run:
    """Run a guard whose rollback is planned by somebody else."""
    known = Actions(tools)
    actions = {name: known[name] for name in known}
    actions |= {"conclude": Conclude(tools, planner), "restore_database": toy}
    plan = guard.plan(tools, mode=Mode.ACT, for_s=60)
    return tools.journal.drive(tools.journal.submit(plan, actor="guard", reason=plan.why), actions, actor="guard")


def with_a_data_step(tools: Toolbox, request: Request) -> tuple[Situation, Plan | PlanRefused]:
    """Return the plan with one step more, which touches data."""
    situation, plan = prepare(tools, request)
    assert isinstance(plan, Plan)
    return situation, replace(plan, steps=(*plan.steps, DATA))


def test_rule_11_data(quick_path: Path) -> None:
    """A plan that touches data is not carried out, not even its harmless steps: it is written down, and told."""
    story, toy = Story(quick_path / "journal.sqlite"), Toy()
    tools = story.tools()
    run = watched(tools, with_a_data_step, toy)
    assert run.plan.kind is PlanKind.GUARD
    assert (toy.done, story.world.activations) == (0, [])
    assert story.world.live.sole == story.bad.id
    concluded = tools.runs.result(run.id, "conclude")
    assert isinstance(concluded, dict)
    assert (concluded["action"], concluded["rule"]) == ("refused", "11 data")
    assert Refused.exit_code == 3  # what the command makes of this action
    assert isinstance(concluded["options"], list)
    assert any("pg_restore --clean backup.dump" in str(option) for option in concluded["options"])
    assert any("backout rollback -e production" in str(option) for option in concluded["options"])
    (report,) = story.world.reports.texts.values()
    assert DATA.title in report
    (notice,) = [each for each in story.world.notices if each.kind is NoticeKind.REFUSED]
    assert DATA.title in notice.text


def test_rule_11_code_alone_is_moved(quick_path: Path) -> None:
    """The same line without that step rolls back."""
    story, toy = Story(quick_path / "journal.sqlite"), Toy()
    run = watched(story.tools(), prepare, toy)
    assert run.plan.kind is PlanKind.ROLLBACK
    assert story.world.live.sole == story.good.id


@pytest.mark.parametrize("schedules", [(), ("0 3 * * *",)])
def test_rule_11_every_plan_that_guard_makes_is_allowed(quick_path: Path, schedules: tuple[str, ...]) -> None:
    """Also when the schedules differ, which a person's plan restores."""
    story = Story(quick_path / "journal.sqlite")
    story.world.start_by(schedules=schedules)
    run = watched(story.tools(), prepare, Toy())
    assert {step.action for step in run.plan.steps} <= UNATTENDED


OUTSIDE = {
    "deployments", "versions", "secrets", "bundles", "triggers", "schema", "traffic", "health", "logs", "identities",
    "token", "vendors",
}  # fmt: skip
PARTS = (GuardTools, RollbackTools, RecoveryTools, IncidentTools, SafetyTools)
WRITES = {"activate", "deploy", "upload", "set_schedules"}
READS = {"history", "recent", "detail", "names", "fetch", "read", "look", "incidents", "traits"}


def test_rule_11_no_port_writes_data() -> None:
    """What guard could reach of the outside: code, and the schedules; everything else is read."""
    found: set[str] = set()
    for kind in (Toolbox, *PARTS):
        for name in OUTSIDE.intersection(kind.__struct_fields__):
            port = vars(ports)[kind.__annotations__[name].removesuffix(" | None")]
            found |= {method for method in vars(port) if not method.startswith("_")}
    assert found == WRITES | READS


def test_rule_11_only_a_persons_step_sets_schedules() -> None:
    """Nothing that guard runs calls what changes more than code."""
    callers: dict[str, set[str]] = {}
    for path in Path(backout.runbook.__file__).parent.rglob("*.py"):
        for node in nodes_of(path):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WRITES:
                callers.setdefault(node.func.attr, set()).add(path.name)
    assert callers["set_schedules"] == {"triggers.py", "closing.py", "opening.py"}  # the last two are of a recovery
    assert "restore_schedules" not in UNATTENDED


def test_rule_11_only_a_recovery_stops_queues_and_caches_or_shows_a_maintenance_version() -> None:
    """No module that guard runs reaches what the platform can do beside versions."""
    stops = tuple(f"platform.{name}" for name in PlatformTools.__struct_fields__)
    folder = Path(backout.runbook.__file__).parent
    reached = {
        str(path.relative_to(folder).parent)
        for path in folder.rglob("*.py")
        for node in nodes_of(path)
        if isinstance(node, ast.Attribute) and ast.unparse(node).endswith(stops)
    }
    assert reached <= {"recover"}
