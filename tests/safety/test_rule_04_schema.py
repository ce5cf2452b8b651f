"""Rule 4: over a changed or unreadable schema code is not rolled back; only the named migration passes, and is kept."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.errors import ProviderUnavailable
from backout.model.database.statements import Outcome, Statement, StatementProof
from backout.model.database.statements import Trial as StatementTrial
from backout.model.incident.notice import NoticeKind
from backout.model.plan import Plan, PlanRefused
from backout.plan.rollback import Request
from backout.runbook.rollback.rollback import prepare
from backout.runbook.rollback.statement_replay import record_proof

from arranged import migrated
from extent import long
from line import Story, equip, roll_back, watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.providers.memory import World

    from drillbook import Drillbook, Trial

WHY = ("rollback", "-m", "it fails", "--json")
ROLLBACK = (*WHY, "--confirm", "production", "--no-wait")
DROPPED = "20991231000000_drop_orders"


# --- on the twin, with the real program ---


def deployed_bad(drillbook: Drillbook) -> Trial:
    """Return a trial in which the bad version just took the good one's place; the verdict ends its watches."""
    trial = drillbook.trial().replace((r'watch = "\d+s"', 'watch = "60s"'))
    trial.make_live(drillbook.good)
    trial.make_live(drillbook.bad)
    return trial


def refuses(trial: Trial, *args: str) -> None:
    """Run the program; it ends with exit 3 by this rule, and the traffic stays where it is."""
    ended = trial.run(*args)
    assert ended.code == 3, (args, ended.err)
    assert "4 schema" in ended.err + ended.out
    assert trial.live() == trial.book.bad


@pytest.mark.both_homes
@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
def test_rule_04_schema(drillbook: Drillbook) -> None:
    """A migration came with the bad version: guard holds with the options and a report, and nothing overrides it."""
    trial = deployed_bad(drillbook)
    with migrated(drillbook, DROPPED):
        watched = trial.run("guard", "--mode", "act", "--json")
        assert watched.code == 3, watched.err
        assert (watched.json["verdict"], watched.json["action"]) == ("regressed", "refused")
        assert any(f"--force=schema {DROPPED}" in option for option in watched.json["options"])
        assert any("roll forward" in option for option in watched.json["options"])
        assert DROPPED in Path(watched.json["report_path"]).read_text(encoding="utf-8")
        assert trial.live() == drillbook.bad
        refuses(trial, *ROLLBACK)
        refuses(trial, *ROLLBACK, "--yes")
        refuses(trial, *ROLLBACK, "--accept-unproven", "--restore-secrets", "--yes")
        refuses(trial, *ROLLBACK, drillbook.good)
        refuses(trial, *ROLLBACK, "--force", "schema", "another")
        refuses(trial, *ROLLBACK, "--force", "schema", "unknown")


@pytest.mark.both_homes
@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
@pytest.mark.calm
def test_rule_04_the_named_migration_passes_and_is_recorded(drillbook: Drillbook) -> None:
    """In the journal's plan, and in the incident report."""
    trial = deployed_bad(drillbook)
    with migrated(drillbook, DROPPED):
        forced = trial.run(*WHY, "--confirm", "production", "--force", "schema", DROPPED)
        assert forced.code in (0, 7), forced.err
        assert trial.live() == drillbook.good
        shown = trial.run("runs", "show", forced.json["run_id"], "--json").json
        assert f"the schema check was overruled by hand for migration head {DROPPED}" in shown["plan"]["notes"]
        report = Path(forced.json["report_path"]).read_text(encoding="utf-8")
        assert f"overruled by hand for migration head {DROPPED}" in report


@pytest.mark.both_homes
@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
@pytest.mark.parametrize("trouble", ["database down", long("wrong password")])
def test_rule_04_an_unreadable_head_is_no_permission(drillbook: Drillbook, trouble: str) -> None:
    """Nobody knows whether the old code fits: guard and rollback refuse, and only `unknown` passes."""
    trial = deployed_bad(drillbook)
    with contextlib.ExitStack() as stack:
        if trouble == "database down":
            stack.enter_context(drillbook.fault("service-down", "database"))
        else:
            dsn = str(drillbook.stage.twin.postgres_dsn)
            password = dsn.partition("://")[2].partition("@")[0].partition(":")[2]
            url = trial.folder / "database-url"
            url.write_text(dsn.replace(f":{password}@", ":not-the-password@"), encoding="utf-8")
            url.chmod(0o600)
            trial.replace((r'"[^"]*/database-url"', f'"{url}"'))
        watched = trial.run("guard", "--mode", "act", "--json")
        assert watched.code == 3, watched.err
        assert "cannot be read" in watched.json["why"]
        assert "not-the-password" not in watched.out + watched.err
        assert trial.live() == drillbook.bad
        refuses(trial, *ROLLBACK, "--yes")
        refuses(trial, *ROLLBACK, "--force", "schema", DROPPED)
        assert trial.run(*ROLLBACK, "--force", "schema", "unknown").code == 0
    assert trial.live() == drillbook.good


# --- the finer halves, on the World ---


def test_rule_04_somebody_is_told(quick_path: Path) -> None:
    """The refusal is a notice with the rule and the way on."""
    story = Story(quick_path / "journal.sqlite")
    story.world.migrate("0002_drop_orders")
    tools = story.tools()
    run = watch(tools)
    concluded = tools.runs.result(run.id, "conclude")
    assert isinstance(concluded, dict)
    assert (concluded["action"], concluded["rule"]) == ("refused", "4 schema")
    assert story.world.activations == []
    (notice,) = [each for each in story.world.notices if each.kind is NoticeKind.REFUSED]
    assert "0002_drop_orders" in notice.text


@pytest.mark.parametrize(
    "apply",
    [
        lambda world: world.migrate("0002_drop_orders"),
        lambda world: world.migrate("0002_drop_orders", finished=False),
    ],
    ids=["applied", "failed half-way"],
)
def test_rule_04_only_the_right_name_passes(quick_path: Path, apply: object) -> None:
    """Any other name, and every other flag together, do not."""
    assert callable(apply)
    story = Story(quick_path / "journal.sqlite")
    apply(story.world)
    for force in ("", "0001_init", "0002", "unknown"):
        request = Request(message="it fails", accept_unproven=True, force_secrets=True, force_schema=force)
        _, outcome = prepare(story.tools(), request)
        assert isinstance(outcome, PlanRefused), force
        assert outcome.rule == "4 schema"
    run = roll_back(story.tools(), Request(message="it fails", force_schema="0002_drop_orders"))
    assert story.world.live.sole == story.good.id
    assert any("0002_drop_orders" in note for note in run.plan.notes)


def test_rule_04_a_head_that_cannot_be_read_holds(quick_path: Path) -> None:
    """The database does not answer: not a reason to think that nothing changed."""
    story = Story(quick_path / "journal.sqlite")

    def unreadable(name: str) -> None:
        if name == "schema.read":
            raise ProviderUnavailable("the database does not answer")

    story.world.before_call = unreadable
    run = watch(story.tools())
    concluded = story.tools().runs.result(run.id, "conclude")
    assert isinstance(concluded, dict)
    assert (concluded["action"], concluded["rule"]) == ("refused", "4 schema")
    assert story.world.activations == []


SAFE = "ALTER TABLE orders ADD COLUMN note text"
DROP = "ALTER TABLE orders DROP COLUMN total"


def test_rule_04_over_a_safe_migration_the_code_goes_back_alone(quick_path: Path) -> None:
    """A verdict says that the old code runs as before; the plan names the migration."""
    story = Story(quick_path / "journal.sqlite")
    story.world.migrate("0002_note", SAFE)
    _, outcome = prepare(story.tools(), Request(message="it fails"))
    assert isinstance(outcome, Plan)
    assert any(note.endswith("each change judged safe for it: 0002_note") for note in outcome.notes)
    watch(story.tools())
    assert story.world.live.sole == story.good.id


@pytest.mark.parametrize(
    ("arrange", "words"),
    [
        (lambda world: world.migrate("0002_drop", DROP), "0002_drop breaks the old code"),
        (lambda world: (world.migrate("0002_note", SAFE), world.migrate("0003_drop", DROP)), "0003_drop breaks"),
        (lambda world: world.migrate("0002_note", SAFE, finished=False), "failed half-way"),
        (lambda world: world.migrate("0002_note"), "no file here: 0002_note"),
        (lambda world: world.migrate("0002_new", "CREATE UNIQUE INDEX u ON orders (total)"), "may break the old code"),
    ],
    ids=["breaking", "one of two", "half-way", "no file", "safe-if"],
)
def test_rule_04_over_any_other_it_does_not(quick_path: Path, arrange: Callable[[World], object], words: str) -> None:
    """A statement that breaks, or that nobody could judge: hold, with the reason."""
    story = Story(quick_path / "journal.sqlite")
    arrange(story.world)
    _, outcome = prepare(story.tools(), Request(message="it fails"))
    assert isinstance(outcome, PlanRefused)
    assert (outcome.rule, words in outcome.reason) == ("4 schema", True), outcome.reason
    watch(story.tools())
    assert story.world.activations == []


def test_rule_04_a_file_that_was_edited_since_is_no_verdict(quick_path: Path) -> None:
    """What was applied is another script than the one that lies here."""
    story = Story(quick_path / "journal.sqlite")
    story.world.migrate("0002_note", SAFE)
    story.world.migrations[-1] = replace(story.world.migrations[-1], checksum="of what was applied")
    story.world.migration_files[-1] = replace(story.world.migration_files[-1], checksum="of what lies here")
    _, outcome = prepare(story.tools(), Request(message="it fails"))
    assert isinstance(outcome, PlanRefused)
    assert "the file is not the one that was applied: 0002_note" in outcome.reason


def test_rule_04_an_application_that_checks_the_head_goes_back_over_nothing(quick_path: Path) -> None:
    """Images that refuse to start on an unknown head exist: then no migration is safe."""
    story = Story(quick_path / "journal.sqlite")
    story.world.migrate("0002_note", SAFE)
    _, outcome = prepare(equip(story.tools(), app_checks_head=True), Request(message="it fails"))
    assert isinstance(outcome, PlanRefused)
    assert "0002_note breaks the old code" in outcome.reason


def test_rule_04_a_statement_that_failed_overrules_the_verdict(quick_path: Path) -> None:
    """The statement replay is about real statements on real data: one that fails is quoted, on this head alone."""
    story = Story(quick_path / "journal.sqlite")
    story.world.migrate("0002_note", SAFE)
    tools = story.tools()
    failing = StatementTrial(Statement("SELECT *  FROM orders", calls=12), Outcome.FAILS, "cached plan must not change")
    for head in ("0001_init", "0002_note"):
        record_proof(tools.journal, "production", StatementProof(head, story.world.clock.now(), (failing,)), actor="me")
        _, outcome = prepare(tools, Request(message="it fails"))
        assert isinstance(outcome, Plan if head == "0001_init" else PlanRefused)
    assert isinstance(outcome, PlanRefused)
    assert "the old code fails on it: cached plan must not change (`SELECT * FROM orders`, called 12 times)" in (
        outcome.reason
    )
    record_proof(tools.journal, "production", StatementProof("0002_note", story.world.clock.now() + 1, ()), actor="me")
    assert isinstance(prepare(tools, Request(message="it fails"))[1], Plan)
