"""What a trial said of the way back is in a rollback's plan, as long as it counts; its no is a refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from values import replace

from backout.analysis.certify.statements import read_statement
from backout.analysis.history.stability import list_candidates
from backout.errors import UsageError
from backout.model.bundle import hash_modules
from backout.model.database.certificate import LASTS_S, Certificate, Coverage, Phase, Step
from backout.model.database.statements import Statement
from backout.model.plan import Plan, PlanRefused
from backout.plan.rollback import Request
from backout.runbook.certify.certificates import record_certificate
from backout.runbook.observe import observe
from backout.runbook.rollback.rollback import prepare, rank_for_next

from line import Story, equip

if TYPE_CHECKING:
    from pathlib import Path

    from backout.runbook.toolbox import Toolbox

SAFE = "ALTER TABLE orders ADD COLUMN note text"
WRITE = "INSERT INTO orders (total, note) VALUES ($1, $2)"
HEAD, TRIED = "0001_orders", "0002_note"


class Sent:
    """Port Statements."""

    def __init__(self, *statements: Statement) -> None:
        self.statements = statements

    def read(self) -> tuple[Statement, ...]:
        return self.statements


class Untold:
    """Port Statements where nothing keeps them."""

    def read(self) -> tuple[Statement, ...]:
        raise UsageError("the extension is not there")


def arranged(folder: Path, *, statements: object = None) -> tuple[Story, Toolbox]:
    """Return a World in which a migration came with the bad version."""
    story = Story(folder / "journal.sqlite")
    story.world.migrate(TRIED, SAFE)
    return story, equip(story.tools(), statements=Sent() if statements is None else statements)


def record(story: Story, tools: Toolbox, *, reversible: bool | None = True, **other: Any) -> None:
    """Record a certificate of the trial of just that, but for what is given."""
    state = story.world.schema.read()
    before = [each.name for each in state.applied if each.name != TRIED]
    at, shape = story.world.clock.now() - 60, read_statement(WRITE)
    assert shape is not None
    made = Certificate(
        old=story.good.id, new=story.bad.id, old_code="code:a", new_code="code:b", head=before[-1] if before else "",
        migrations=tuple((each.name, each.checksum) for each in state.applied if each.name == TRIED),
        steps=(Step(Phase.OLD, 40, 0),), coverage=Coverage(4, 5, 7, 8, 2), not_exercised=(), reversible=reversible,
        blocker="`SELECT total FROM orders` fails: no such column (42703)" if reversible is False else None,
        reasons=() if reversible is not None else ("R = 0",), shapes=(shape.fingerprint,), at=at,
        expires_at=at + LASTS_S,
    )  # fmt: skip
    record_certificate(tools.journal, "production", replace(made, **other), actor="me")


def list_notes(tools: Toolbox) -> list[str]:
    """Return what the plan says of certificates."""
    _, plan = prepare(tools, Request("it fails"))
    assert isinstance(plan, Plan), plan
    return [note for note in plan.notes if note.startswith("certificate")]


def test_a_plan_says_what_was_seen(tmp_path: Path) -> None:
    """No more than that, and until when it counts."""
    story, tools = arranged(tmp_path)
    assert list_notes(tools) == []
    record(story, tools)
    (note,) = list_notes(tools)
    assert "No failure found in 40 requests; 11 of 13 routes and statements of the old code seen; 2 rows" in note
    record(story, tools, reversible=None, at=story.world.clock.now())
    (note,) = list_notes(tools)
    assert note.endswith("saw too little to say: R = 0")


@pytest.mark.parametrize(
    "other",
    [
        {"new": "another version"},
        {"old": "another version"},
        {"head": "0000_another"},
        {"migrations": ((TRIED, "edited"),)},
        {"migrations": ()},
        {"expires_at": 1.0},
    ],
)
def test_a_certificate_of_something_else_says_nothing(tmp_path: Path, other: dict[str, Any]) -> None:
    """Both versions, the head, the names and checksums of the migrations, and a day."""
    story, tools = arranged(tmp_path)
    record(story, tools, **other)
    assert list_notes(tools) == []


def test_code_is_known_by_its_hash_as_well(tmp_path: Path) -> None:
    """A folder was tried before it was deployed; its code is kept here."""
    story, tools = arranged(tmp_path)
    store = tools.rollback.bundle_store
    assert store is not None
    codes = []
    for version in (story.good.id, story.bad.id):
        bundle = story.world.bundles.fetch(version)
        store.keep(bundle)
        codes.append(hash_modules(bundle.modules))
    old, new = codes
    record(story, tools, old="code:a", new="code:b", old_code=old, new_code=new)
    assert len(list_notes(tools)) == 1


@pytest.mark.parametrize(
    ("sql", "since", "counts"),
    [
        (WRITE.replace("$1", "7").lower(), 5, True),
        ("INSERT INTO orders (total, note, kind) VALUES ($1, $2, $3)", 5, False),
        ("COPY orders FROM STDIN", 5, False),
        ("INSERT INTO orders (total, note, kind) VALUES ($1, $2, $3)", -900, True),
        ("SELECT kind FROM orders", 5, True),
        ("SET application_name = 'a'", 5, True),
    ],
)
def test_a_write_that_the_trial_had_no_shape_of_ends_it(
    tmp_path: Path, sql: str, since: float, *, counts: bool
) -> None:
    """One that was sent since the new code is live; what only reads ends nothing."""
    story = Story(tmp_path / "journal.sqlite")
    live_since = story.world.live.created_at
    story.world.migrate(TRIED, SAFE)
    tools = equip(story.tools(), statements=Sent(Statement(sql, None, 1, live_since + since)))
    record(story, tools)
    assert bool(list_notes(tools)) is counts


def test_that_nothing_tells_what_was_written_is_said(tmp_path: Path) -> None:
    """It still counts: that it may have ended is in the note."""
    story, tools = arranged(tmp_path, statements=Untold())
    record(story, tools)
    (note,) = list_notes(tools)
    assert note.endswith(
        "(whether the new code has written in other ways since is not known: the extension is not there)"
    )
    tools = equip(tools, statements=None)
    assert "no source of statements" in list_notes(tools)[0]


def test_a_no_is_a_refusal_that_a_person_may_overrule(tmp_path: Path) -> None:
    """By safety rule 4, although the migration's text is safe; a later yes takes its place."""
    story, tools = arranged(tmp_path)
    record(story, tools, reversible=False)
    _, refused = prepare(tools, Request("it fails"))
    assert isinstance(refused, PlanRefused)
    assert refused.rule == "4 schema"
    assert "a trial at" in refused.reason
    assert "`SELECT total FROM orders` fails: no such column (42703)" in refused.reason
    _, forced = prepare(tools, Request("it fails", force_schema=TRIED))
    assert isinstance(forced, Plan)
    assert any("found no way back" in note for note in forced.notes)
    record(story, tools, at=story.world.clock.now())
    assert len(list_notes(tools)) == 1


def test_no_write_makes_a_no_void(tmp_path: Path) -> None:
    """What failed in the trial fails whatever the new code writes."""
    story = Story(tmp_path / "journal.sqlite")
    story.world.migrate(TRIED, SAFE)
    sent = Statement("COPY orders FROM STDIN", None, 1, story.world.live.created_at + 5)
    tools = equip(story.tools(), statements=Sent(sent))
    record(story, tools, reversible=False)
    _, refused = prepare(tools, Request("it fails"))
    assert isinstance(refused, PlanRefused)
    assert "a trial at" in refused.reason


def test_a_no_about_another_old_version_refuses_nothing(tmp_path: Path) -> None:
    """What failed was other code than the one that is returned to."""
    story, tools = arranged(tmp_path)
    record(story, tools, reversible=False, old="another version", old_code="code:c")
    assert list_notes(tools) == []


def test_a_yes_about_another_old_version_hides_no_no(tmp_path: Path) -> None:
    """The newest trial of each pair counts: of the version that is left and the one that is returned to."""
    story, tools = arranged(tmp_path)
    record(story, tools, reversible=False)
    record(story, tools, old="another version", old_code="code:c", at=story.world.clock.now())
    _, refused = prepare(tools, Request("it fails"))
    assert isinstance(refused, PlanRefused)
    assert "`SELECT total FROM orders` fails: no such column (42703)" in refused.reason


def test_what_only_looks_heeds_a_no_too(tmp_path: Path) -> None:
    """Status, the card, the list of deployments and preflight name no target that a rollback would refuse."""
    story, tools = arranged(tmp_path)
    assert list_candidates(observe(tools), leaving=story.bad.id)[0].eligible
    record(story, tools, reversible=False)
    nearest = list_candidates(observe(tools), leaving=story.bad.id)[0]
    assert (nearest.version, nearest.eligible, nearest.rule) == (story.good.id, False, "4 schema")
    _, ranked = rank_for_next(tools)
    assert story.good.id not in [each.version for each in ranked if each.eligible]
