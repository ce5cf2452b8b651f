"""The facts of the runbook on the memory World: after an incident and drills, each section has its newest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import ProviderUnavailable
from backout.model.drill import DrillAction, DrillPlace, DrillResult, Expected, Measured
from backout.runbook.incident.drills import record_end, record_start
from backout.runbook.incident.report import make_incident_records
from backout.runbook.incident.runbook import read_runbook

from line import Story, watch

if TYPE_CHECKING:
    from pathlib import Path


def test_what_an_incident_and_drills_change(quick_path: Path) -> None:
    """The version that a rollback goes to is one no more; the incident stands in the sections that it was about."""
    story = Story(quick_path / "journal.sqlite")
    tools = story.tools()
    before = read_runbook(tools, make_incident_records(tools))
    assert (before.stable, before.target) == (story.good.id, story.good.id)
    assert (before.incidents, before.drills, before.unread) == ({}, {}, "")
    ended = watch(tools)
    at = story.world.clock.now()
    for name, action, scenario in (
        ("rows-corrupted", DrillAction.RECOVER, None),
        ("whole-night", DrillAction.RECOVER, None),
        ("throws", DrillAction.ROLLBACK, "S3_runtime_errors"),
        ("email-down", DrillAction.NONE, None),
    ):
        record_start(tools.journal, f"drill-{name}", name, DrillPlace.TWIN, actor="ada@host")
        told = Expected(action, scenario)
        result = DrillResult(name, DrillPlace.TWIN, told, Measured(action), (), at, took_s=9.0)
        record_end(tools.journal, f"drill-{name}", result, actor="ada@host")
    record_start(tools.journal, "drill-cut", "throws", DrillPlace.TWIN, actor="ada@host")
    after = read_runbook(tools, make_incident_records(tools))
    assert (after.stable, after.target) == (story.good.id, "")
    assert "quarantined" in after.why_not
    assert set(after.incidents) >= {"after", "quick"}
    assert ended.id.startswith("rollback-")
    assert after.incidents["quick"].report
    assert {section: each.name for section, each in after.drills.items()} == {
        "database": "rows-corrupted",
        "recover": "whole-night",
        "quick": "throws",
        "errors": "throws",
    }


def test_a_head_that_cannot_be_read_is_said(quick_path: Path) -> None:
    """Nothing is no longer so because nobody could look."""
    story = Story(quick_path / "journal.sqlite")

    def refuse(call: str) -> None:
        if call.startswith("schema"):
            raise ProviderUnavailable("connection refused")

    story.world.before_call = refuse
    found = read_runbook(story.tools(), make_incident_records(story.tools()))
    assert "connection refused" in found.unread
    assert found.head == ""
