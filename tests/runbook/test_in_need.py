"""What was live last, as the journal saw it: whatever step read it back, not rollbacks alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from backout.analysis.history.going_back import WayBack
from backout.cli.support.in_need import make_record
from backout.journal.sqlite import SqliteJournal
from backout.model.plan import Plan, PlanKind, Step
from backout.ports import Action
from backout.providers.clock import SystemClock
from backout.runbook.incident.in_need import InNeed, Sources, look_in_need

if TYPE_CHECKING:
    from pathlib import Path

CARD = "Every id was read from the provider at {at}.\n- version {version} at 100 %\n"
OLD, NEW = "7f1c0c9e-0000-4000-8000-000000000001", "7f1c0c9e-0000-4000-8000-000000000002"


class Reading(Action[Any, Any]):
    """A step that reads back a version."""

    arguments = dict
    effect = False

    def do(self, *_: Any) -> Any:
        return {"deployment": "d", "version": NEW, "since": 2e9, "read_at": 2e9}


@pytest.mark.parametrize(
    ("kind", "action"),
    [(PlanKind.ROLLBACK, "read_back"), (PlanKind.FORWARD, "read_new"), (PlanKind.SECRETS, "read_secrets")],
)
def test_whatever_read_it_back_says_what_is_live_last(tmp_path: Path, kind: PlanKind, action: str) -> None:
    """A secret that was set made a new version live: a card from before must not name the one before it."""
    card = tmp_path / "card.md"
    card.write_text(CARD.format(at="2026-11-01T00:00:00.000Z", version=OLD), encoding="utf-8")
    journal = SqliteJournal(tmp_path / "journal.sqlite", SystemClock())
    run = journal.submit(Plan(kind, "production", "why", (Step(action, "read it back", {}),)), actor="a", reason="r")
    journal.drive(run, {action: Reading()}, actor="a")
    found = look_in_need(Sources("production", journal, journal, card))
    assert found.live is not None
    assert (found.live.version, found.live.where) == (NEW, "the journal")


def test_a_machine_reads_what_is_in_doubt_too() -> None:
    """The record has what a person is shown: that nothing is left, why, and what was stable and is in doubt since."""
    doubt = WayBack("v1", "it was marked stable", "that has been questioned since then")
    told = make_record(InNeed("production", no_way="no proven version", doubted=doubt))
    assert told["no_way_back"] == "no proven version"
    assert told["in_doubt"] == {
        "version": "v1",
        "why": "it was marked stable",
        "against": "that has been questioned since then",
    }
    assert make_record(InNeed("production"))["in_doubt"] is None
