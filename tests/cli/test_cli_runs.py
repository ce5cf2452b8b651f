"""`backout runs`: what each run came to stands in the list, for a person and as JSON."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cli_shell import backout
from source_trees import nodes_of

from backout.cli.support.style import Style
from backout.errors import DecisionNeeded
from backout.journal.sqlite import SqliteJournal
from backout.model.approval import ApprovalRule, Change
from backout.model.guard.policy import Mode
from backout.model.incident.incident import RunState
from backout.model.objects.versions import Moment
from backout.model.plan import Plan, PlanKind, Step
from backout.plan.objects import plan_restore
from backout.providers.clock import SystemClock
from backout.runbook.recover.tools import BEGAN

from line import Story, by_version, roll_back, watch

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = """[app]
name = "a"
[journal]
path = "journal.sqlite"
[environments.production]
platform = { provider = "cloudflare", account_id = "a1", script = "s" }
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A healthy watch, a regressed one that only observes, a rollback by hand, and one that guard made itself."""
    (tmp_path / "backout.toml").write_text(CONFIG)
    story = Story(tmp_path / "journal.sqlite")
    watch(story.tools(), mode=Mode.OBSERVE)
    roll_back(story.tools())
    story.world.clock.sleep(7 * 3600)
    worse = story.world.upload("worse")
    story.world.traffic_rule = by_version(worse.id)
    story.world.deploy(worse)
    story.world.clock.sleep(2)
    watch(story.tools(), mode=Mode.ACT)
    return tmp_path


def test_the_list_has_the_verdicts(project: Path) -> None:
    """Of a watch the verdict and what followed; of a rollback whether the service is well."""
    runs = backout(project, "runs", "list", "--json").json["runs"]
    assert isinstance(runs, list)
    told = [(each["kind"], each["verdict"], each["action"], each["rule"], each["verified"]) for each in reversed(runs)]
    assert told[:3] == [
        ("guard", "healthy", "stable", None, None),
        ("guard", "regressed", "hold", "observe", None),
        ("rollback", None, None, None, True),
    ]
    assert told[3:] == [("guard", "regressed", "rollback", None, None), ("rollback", None, None, None, True)]
    assert "requests failed" in runs[-2]["reason"]
    lines = backout(project, "runs", "list", variables={"COLUMNS": "80"}).out.splitlines()
    assert lines[0].split() == ["RUN", "STATE", "VERDICT", "STARTED", "WHY"]
    rows = [line for line in lines[1:] if not line.startswith(" ")]
    assert [re.split(r"\s{2,}", line)[2] for line in reversed(rows)] == [
        "healthy, marked stable",
        "regressed, observed",
        "verified",
        "regressed, rolled back",
        "verified",
    ]
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if line.endswith("…")]  # why stands whole, in lines below
    reasons = " ".join(line.strip() for line in lines if line.startswith(" "))
    assert all(" ".join(str(each["why"]).split()) in reasons for each in runs)


def test_an_environment_s_list_has_the_restores_of_its_objects(project: Path) -> None:
    """They are kept beside the environment, whose code may go back meanwhile; a person looks for them there."""
    journal = SqliteJournal(project / "journal.sqlite", SystemClock())
    plan = plan_restore("production", "models", "", Moment(1.0, 2.0), snapshot=False)
    run = journal.submit(plan, actor="ops", reason="damage")
    runs = backout(project, "runs", "list", "-e", "production", "--json").json["runs"]
    assert isinstance(runs, list)
    assert len(runs) == 6
    assert (runs[0]["run_id"], runs[0]["environment"]) == (run, "production/objects")


def test_one_run_says_what_it_came_to(project: Path) -> None:
    """With the reason."""
    runs = backout(project, "runs", "list", "--json").json["runs"]
    assert isinstance(runs, list)
    watched = runs[-2]["run_id"]
    assert backout(project, "runs", "show", watched, "--json").json["verdict"] == "regressed"
    assert "  regressed, observed: " in backout(project, "runs", "show", watched).out


def test_one_run_is_shown_by_the_clock(project: Path) -> None:
    """No Unix seconds, no empty values, no line that is wider than the terminal; --json has RFC 3339."""
    runs = backout(project, "runs", "list", "--json").json["runs"]
    assert isinstance(runs, list)
    marked = runs[-1]["run_id"]
    assert any(str(each["data"].get("at")).endswith("Z") for each in events_of(project, marked))
    lines = backout(project, "runs", "show", marked, variables={"COLUMNS": "80"}).out.splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert not re.search(r"\b\d{10}\.\d", text)
    assert re.search(r"at: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\s+UTC", " ".join(text.split()))
    assert not re.search(r": ,|attempt: 1\b", text)


def events_of(project: Path, run: str) -> list[dict[str, Any]]:
    events = backout(project, "runs", "show", run, "--json").json["events"]
    assert isinstance(events, list)
    return events


def test_a_table_cuts_behind_words_and_wraps_what_is_to_be_whole() -> None:
    """A column with room goes on below itself, one without below the row."""
    style = Style(width=60)
    assert style.shorten("watch the deployment of a version", 20) == "watch the..."
    assert style.shorten("x" * 40, 10) == "xxxxxxx..."
    words = "one two three four five six seven eight nine ten eleven"
    roomy = style.table(("A", "B"), [("a", words)], whole=True).splitlines()
    assert roomy == ["A  B", "a  one two three four five six seven eight nine ten eleven"]
    beside = style.table(("A", "B"), [("a" * 20, words)], whole=True).splitlines()
    assert beside[1:] == [f"{'a' * 20}  one two three four five six seven", f"{' ' * 22}eight nine ten eleven"]
    below = style.table(("A", "B"), [("a" * 40, words)], whole=True).splitlines()
    assert below[1:] == ["a" * 40, f"    {words}"]


def test_another_program_reads_one_line_for_each_row(project: Path) -> None:
    """In a pipe nothing is cut or goes on below, so that grep and awk find it; COLUMNS says otherwise."""
    lines = backout(project, "runs", "list").out.splitlines()
    runs = backout(project, "runs", "list", "--json").json["runs"]
    assert isinstance(runs, list)
    assert len(lines) == len(runs) + 1
    assert all(line.endswith(" ".join(str(run["why"]).split())) for line, run in zip(lines[1:], runs, strict=True))


SOURCE = Path(__file__).parents[2] / "src" / "backout" / "cli"


def test_no_table_cuts_its_reasons() -> None:
    """A last column of words is shown whole: the next table with one is made so, or this fails."""
    cut = [
        f"{path.name}:{node.lineno}"
        for path in SOURCE.rglob("*.py")
        for node in nodes_of(path)
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", "") == "table"
        and re.search(r"\b(?:WHY|WHAT|HOW|WHERE|TITLE)\b[^,]*'\)?$", ast.unparse(node.args[0]))
        and not any(keyword.arg == "whole" for keyword in node.keywords)
    ]
    assert cut == []


@pytest.fixture
def unfinished(tmp_path: Path) -> Iterator[tuple[Path, SqliteJournal, str]]:
    """A rollback that no process drives: the folder, its journal, and the run."""
    (tmp_path / "backout.toml").write_text(CONFIG)
    journal = SqliteJournal(tmp_path / "journal.sqlite", SystemClock())
    plan = Plan(PlanKind.ROLLBACK, "production", "500s", (Step("activate", "Activate v1"),))
    yield tmp_path, journal, journal.submit(plan, actor="ops", reason="500s")
    journal.close()


def test_a_paused_run_is_shown_with_who_and_why(unfinished: tuple[Path, SqliteJournal, str]) -> None:
    """In the list and by itself; what to type next goes on or gives it up; a second pause is refused."""
    folder, _, run = unfinished
    told = backout(folder, "runs", "pause", run, "-m", "let me look")
    assert told.code == 0
    assert told.out == f"run {run} is paused: 0 of 1 steps are done\n"
    assert f"next: backout runs resume {run}" in told.err
    assert backout(folder, "runs", "pause", run, "-m", "again").code == 3
    assert backout(folder, "runs", "pause", "nope", "-m", "again").code == 2
    (listed,) = backout(folder, "runs", "list", "--json").json["runs"]  # type: ignore[misc]
    assert (listed["state"], listed["pause"]["why"]) == ("paused", "let me look")
    lines = " ".join(backout(folder, "runs", "list").out.split())
    assert "paused, by " in lines
    assert "let me look; 500s" in lines
    shown = backout(folder, "runs", "show", run)
    assert re.search(r"^  paused, by \S+ at [\d:]+ UTC: let me look$", shown.out, re.MULTILINE)
    assert f"next: backout runs resume {run}" in shown.err


def test_a_pause_of_what_has_closed_the_application_says_what_stays_closed(
    unfinished: tuple[Path, SqliteJournal, str],
) -> None:
    """Its deadline stands, and nothing opens by itself."""
    folder, journal, run = unfinished
    began = {"run": run, "actor": "ops", "at": 1_700_000_000.0, "deadline": 1_700_003_600.0}
    journal.note("production", BEGAN, run, began, actor="ops")
    told = backout(folder, "runs", "pause", run, "-m", "let me look")
    assert "production stays closed meanwhile (page, fence, queues), since 2023-11-14T22:13:20.000Z" in told.err
    assert "its deadline 2023-11-14T23:13:20.000Z stands" in told.err
    journal.ask(run, "resume", actor="ops", reason="")
    assert backout(folder, "runs", "pause", run, "-m", "again", "--json").json["closed"] is True


def test_a_resume_lifts_the_pause(unfinished: tuple[Path, SqliteJournal, str]) -> None:
    """Before it is driven: here that ends at the token which is missing."""
    folder, journal, run = unfinished
    backout(folder, "runs", "pause", run, "-m", "let me look")
    assert backout(folder, "runs", "resume", run).code == 4
    found = journal.find(run)
    assert found is not None
    assert (found.state, found.pause) == (RunState.INTERRUPTED, None)
    asked = [event.data["what"] for event in journal.events(run=run, kind="run.asked")]
    assert asked == ["pause", "resume"]


APPROVALS = '[environments.production.approvals]\nrequired_for = ["rollback"]\nexpires = "10m"\n'


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[tuple[Path, SqliteJournal, str]]:
    """A rollback that waits for its approval: the folder, its journal, and the run."""
    (tmp_path / "backout.toml").write_text(CONFIG + APPROVALS)
    rule = ApprovalRule((Change.ROLLBACK,), expires_s=600.0)
    journal = SqliteJournal(tmp_path / "journal.sqlite", SystemClock(), approvals=rule)
    plan = Plan(PlanKind.ROLLBACK, "production", "500s", (Step("activate", "Activate v1"),))
    run = journal.submit(plan, actor="ops", reason="500s")
    activates: Any = SimpleNamespace(arguments=dict, effect=True)
    with pytest.raises(DecisionNeeded):
        journal.drive(run, {"activate": activates}, actor="ops")
    yield tmp_path, journal, run
    journal.close()


def test_a_plan_that_waits_is_approved_by_its_run(waiting: tuple[Path, SqliteJournal, str]) -> None:
    """The plan is shown, production's name asked for, and the approval stands in the list, with its end."""
    folder, journal, run = waiting
    listed = backout(folder, "runs", "list")
    assert "waiting for approval 0/1" in listed.out
    assert f"next: backout runs approve {run} -m WHY" in listed.err
    asked = backout(folder, "runs", "approve", run, "-m", "I looked")
    assert (asked.code, journal.find(run).approval) == (3, None)  # type: ignore[union-attr]
    assert "add --confirm production" in asked.err
    given = backout(folder, "runs", "approve", run, "-m", "I looked", "--confirm", "production", "--json")
    assert given.code == 0
    record: Any = given.json
    assert record["approval"]["why"] == "I looked"
    assert record["approval"]["plan_hash"] == record["plan_hash"]
    assert "Activate v1" in given.err
    assert f"next: backout runs resume {run}" in given.err
    assert re.search(
        r"approved until [\d:]+ UTC, by \S+ at [\d:]+ UTC: I looked", backout(folder, "runs", "show", run).out
    )
    assert backout(folder, "runs", "approve", run, "-m", "again", "--confirm", "production").code == 3


def test_breaking_the_glass_needs_a_reason(waiting: tuple[Path, SqliteJournal, str]) -> None:
    """Without one it is a wrong call, and nothing is recorded."""
    folder, journal, run = waiting
    told = backout(folder, "runs", "resume", run, "--break-glass")
    assert told.code == 2
    assert "--break-glass needs a reason" in told.err
    assert journal.find(run).glass is None  # type: ignore[union-attr]


def test_a_second_person_is_refused_where_the_journal_cannot_prove_one(tmp_path: Path) -> None:
    """By `config check`, with what to do; `runs` and all that looks still work."""
    (tmp_path / "backout.toml").write_text(CONFIG + APPROVALS + 'by = "second-person"\n')
    told = backout(tmp_path, "config", "check", "--json")
    assert told.code == 78
    (mistake,) = told.json["mistakes"]  # type: ignore[misc]
    assert "environments.production.approvals.by: a second person is not provable" in mistake
    assert backout(tmp_path, "runs", "list").code == 0
