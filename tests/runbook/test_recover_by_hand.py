"""What a person would type instead of each step of a recovery: every step has a line, and a shell can read it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from recovery_story import ASK, Night, recover, take_back
from values import replace

from backout.model.steps.recovery import PlaceStep
from backout.plan.recovery_by_hand import ByHand, add_recovery_lines
from backout.providers.caddy.lines import Place as Releases
from backout.providers.caddy.lines import make_equivalents as make_host_lines
from backout.providers.cloudflare.lines import Place, make_equivalents
from backout.providers.line_templates import HealthQuestion
from backout.runbook.recover.prepare import prepare
from backout.runbook.recover.undo import find_undoable, prepare_undo

if TYPE_CHECKING:
    from backout.model.plan import Plan

LINES = make_equivalents(Place("https://api.example.com/client/v4", "a1", "shop", "https://shop.example.com/health"))


def fill(plan: Plan, roles: tuple[str, ...] = ("app",)) -> dict[str, str]:
    """Return the line of each action, with those of Cloudflare; the ones that the World has are dropped first."""
    own = {"recover_open", "db_exchange", "db_side", "survey_objects"}
    bare = replace(
        plan, steps=tuple(step if step.action in own else replace(step, equivalent="") for step in plan.steps)
    )
    made = add_recovery_lines(bare, ByHand(LINES, 'psql "$DATABASE_ADMIN_URL"', roles, "psql opens"))
    return {step.action: step.equivalent for step in made.steps}


def check_lines(found: dict[str, str]) -> None:
    """Every step has one, and a shell reads it."""
    assert [action for action, line in found.items() if not line] == []
    for line in found.values():
        subprocess.run(["/bin/sh", "-n", "-c", line], check=True)


def test_each_step_has_a_line(quick_path: Path) -> None:
    """Of a recovery, and of its undo; with the names that the environment has."""
    night = Night(quick_path)
    found = fill(prepare(night.tools(), ASK))
    check_lines(found)
    assert found["recover_pause"].splitlines()[0] == "npx wrangler queues pause-delivery orders"
    assert found["recover_resume"].splitlines()[0] == "npx wrangler queues resume-delivery orders"
    assert "*/5 * * * *" in found["recover_resume"]
    assert "*/5 * * * *" not in found["recover_pause"]
    assert 'psql "$DATABASE_ADMIN_URL" -c "ALTER ROLE app NOLOGIN"' in found["recover_fence"]
    assert "--secrets-file secrets.json" in found["recover_place"]
    assert "maintenance.mjs" in found["recover_maintenance"]
    assert found["verify"] == LINES.health
    recover(night.tools())
    check_lines(fill(prepare_undo(night.tools(), find_undoable(night.tools()))))
    assert take_back(night.tools()) is not None


def test_by_hand_nobody_is_given_the_bad_version_on_the_way(quick_path: Path) -> None:
    """Where nothing is uploaded, the target is placed beside the page, and not beside the version that is left."""
    night = Night(quick_path)
    plan = prepare(night.tools(), replace(ASK, only=("database", "objects")))
    assert "VERSION@100%" in fill(plan)["recover_place"]
    assert f"{night.bad.id}@100%" not in fill(plan)["recover_place"]
    assert not [note for note in plan.notes if "one upload" in note], "nothing is uploaded"


@pytest.mark.parametrize("home", ["Cloudflare", "hosts"])
def test_by_hand_the_target_is_asked_and_not_the_page_that_is_live_by_then(quick_path: Path, home: str) -> None:
    """Its own line, as in the plan of a rollback: at the usual address the maintenance page answers 503."""
    night = Night(quick_path)
    where = HealthQuestion("https://shop.example.com/health")
    lines = LINES if home == "Cloudflare" else make_host_lines((Releases(Path("/srv/shop")),), where)
    plan = prepare(night.tools(), replace(ASK, only=("database", "objects")))
    bare = replace(plan, steps=tuple(replace(step, equivalent="") for step in plan.steps))
    found = {step.action: step.equivalent for step in add_recovery_lines(bare, ByHand(lines)).steps}
    target = plan.arguments(PlaceStep).version
    last = lines.prove.format(version=target, leaving="x").splitlines()[-1]
    assert found["recover_prove"] == last != lines.health
    assert "no line is known" not in found["recover_place"]


def test_names_stay_words(quick_path: Path) -> None:
    """A role may have any name; it ends neither the query nor the shell's word."""
    night = Night(quick_path)
    line = fill(prepare(night.tools(), ASK), roles=('app\'; "x" $(touch mine)',))["recover_fence"]
    program = f'psql() {{ printf "%s\\n" "$@"; }}\n{line}'
    said = subprocess.run(
        ["/bin/sh", "-c", program], check=True, capture_output=True, text=True, cwd=quick_path
    ).stdout.splitlines()
    assert not (quick_path / "mine").exists()
    assert 'ALTER ROLE "app\'; ""x"" $(touch mine)" NOLOGIN' in said
    assert any(each.endswith("IN ('app''; \"x\" $(touch mine)')") for each in said)


def test_the_plan_says_why(quick_path: Path) -> None:
    """Its order, what is left out, what is set up, and how long earlier ones took."""
    night = Night(quick_path)
    notes = prepare(night.tools(), ASK).notes
    assert sum(note.startswith("order: ") for note in notes) == 6
    (offer,) = (note for note in notes if "`--damage TARGET` copies only damaged rows back" in note)
    assert "`backout db transactions --since 2027-01-15T08:01:00+00:00 -e production`" in offer
    assert "no recovery has been made here yet, so nothing tells how long it takes" in notes
    assert any(note.endswith("it needs secrets that are gone: JWT_SECRET, and they are set with it") for note in notes)
    recover(night.tools())
    notes = prepare(night.tools(), ASK).notes
    assert "skipped: secrets stay as they are: this plan sets none" in notes
    assert any("by 1 earlier recoveries; nobody could write for" in note for note in notes)
