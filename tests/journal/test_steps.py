"""Steps as the journal keeps them: what the version before recorded is read, and written as it wrote it."""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec.inspect
import pytest

from backout.decoding import decode_values
from backout.errors import BackoutError
from backout.model import steps
from backout.model.plan import Plan, PlanKind, Step
from backout.model.steps.base import Arguments, Record, to_json
from backout.model.steps.rollback import ActivateStep, SettleStep

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLES = json.loads((Path(__file__).parent / "data" / "steps.json").read_text(encoding="utf-8"))
"""Out of the journals of whole runs of the version before, each with {action} and {args} or {result}."""


def subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    for each in kind.__subclasses__():
        yield each
        yield from subclasses(each)


def kinds() -> dict[str, type[Arguments[Any]]]:
    """Return all kinds of steps by their action."""
    for module in pkgutil.iter_modules(steps.__path__):
        importlib.import_module(f"backout.model.steps.{module.name}")
    return {each.action: each for each in subclasses(Arguments) if "action" in vars(each)}


KINDS = kinds()


@pytest.mark.parametrize(
    "sample", SAMPLES, ids=lambda each: f"{each['action']}-{'args' if 'args' in each else 'result'}"
)
def test_what_the_version_before_recorded_is_read_and_written_the_same(sample: dict[str, Any]) -> None:
    """Key by key: an interrupted run goes on, and a plan typed again has the hash of before."""
    kind = KINDS[sample["action"]]
    recorded = sample.get("args", sample.get("result"))
    read = decode_values(recorded, kind if "args" in sample else kind.result_type())
    assert to_json(read) == recorded


def test_every_kind_of_step_has_a_recorded_sample_of_both() -> None:
    """A new one gets its own when it is released: from then on somebody's journal has it."""
    for part in ("args", "result"):
        assert {each["action"] for each in SAMPLES if part in each} == set(KINDS)


def test_every_action_of_every_procedure_takes_the_arguments_of_its_name() -> None:
    """The name in a plan, the type of what it is given, and the class that does it are one."""
    from backout.runbook import procedures  # noqa: PLC0415
    from backout.runbook.backup.backup import BackupActions  # noqa: PLC0415
    from backout.runbook.objects.restore import ObjectActions  # noqa: PLC0415
    from backout.runbook.recover.actions import RecoverActions  # noqa: PLC0415
    from backout.runbook.recover.tools import RecoverTools  # noqa: PLC0415
    from backout.runbook.recovery import restoring  # noqa: PLC0415
    from backout.runbook.recovery.steps import managed  # noqa: PLC0415

    tools: Any = None
    own: Any = type("Tools", (), {"own": None})()
    known = {
        **procedures.Actions(tools),
        **BackupActions(tools),
        **ObjectActions(tools),
        **restoring.make_actions(tools),
        **managed.make_actions(own),
        **{name: action for name, action in RecoverActions(RecoverTools(tools)).items() if name.startswith("recover_")},
    }
    assert set(known) == set(KINDS)
    for name, action in known.items():
        assert issubclass(KINDS[name], action.arguments), name


def test_what_is_no_step_of_that_kind_is_said_and_not_guessed() -> None:
    """As a journal that somebody wrote into has it."""
    plan = Plan(PlanKind.ROLLBACK, "production", "why", (Step("activate", "Go", {"version": 7}),))
    with pytest.raises(BackoutError, match=r"the step activate does not have the expected shape"):
        plan.arguments(ActivateStep)
    unknown: dict[str, Any] = {"version": "v", "leaving": "u", "hop": 1, "triggers": {"tides": ["monthly"]}}
    plan = Plan(PlanKind.ROLLBACK, "production", "why", (Step("settle", "Tell", unknown),))
    with pytest.raises(BackoutError, match=r"the step settle does not have the expected shape"):
        plan.arguments(SettleStep)


def test_every_record_can_be_read() -> None:
    """Its types are there at run time, not for the type checker alone."""
    for record in subclasses(Record):
        assert msgspec.inspect.type_info(record)
