"""A journal that anybody may have written into: an error of ours that says what, where and what next; never another."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from cli_shell import backout
from nastiness import ROWS

from backout.errors import BackoutError, ProviderUnavailable
from backout.journal.sqlite import SqliteJournal
from backout.model.incident.incident import RunState
from backout.model.plan import Plan, PlanKind, Step
from backout.model.version import Mark
from backout.report.incident.timeline_entries import tell
from backout.report.incident.timeline_text import format_text, make_record
from backout.runbook.incident.ends import read_end
from backout.runbook.incident.timeline import read_records
from backout.runbook.probing.looks import find_connections_before, find_health_before, find_probes_before
from backout.runbook.rollback.triggers import read_snapshots
from backout.runbook.safety.cooldown import find_newest_automatic

from line import Story, watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COLUMNS = {
    "event": ("at", "environment", "run", "step", "kind", "data", "actor", "prev_hash", "hash"),
    "head": ("seq", "hash"),
    "lease": ("fence", "run", "host", "pid", "process_start", "command", "since", "expires_at"),
    "counts": ("version", "second", "requests", "errors", "canceled", "latency", "routes"),
    "checkpoint": ("at", "data"),
    "schema_version": ("version", "at"),
}

ONE_ROW = {
    "event": "seq = (SELECT max(seq) / 2 FROM event)",
    "head": "one = 1",
    "lease": "environment = 'production'",
    "counts": "second = (SELECT min(second) FROM counts)",
    "checkpoint": "name = (SELECT min(name) FROM checkpoint)",
    "schema_version": "version = 1",
}
CONFIG = """[app]
name = "a"
[environments.production]
platform = { provider = "cloudflare", account_id = "a1", script = "s" }
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A journal with a watch, a rollback, marks, counts and checkpoints in it."""
    story = Story(tmp_path_factory.mktemp("whole") / "journal.sqlite")
    assert watch(story.tools()).state is RunState.DONE
    return story


def poisoned(story: Story, path: Path, *statements: tuple[str, tuple[object, ...]]) -> None:
    """Copy the journal and run the statements on the copy, its triggers dropped: whoever owns a file can do that."""
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    with closing(sqlite3.connect(story.path)) as source, closing(sqlite3.connect(path)) as copy:
        source.backup(copy)
        for (name,) in copy.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            copy.execute(f"DROP TRIGGER {name}")
        for statement, values in statements:
            copy.execute(statement, values)
        copy.commit()


def nothing() -> tuple[()]:
    return ()


def down() -> tuple[()]:
    raise ProviderUnavailable("no answer", hint="later")


def timeline(book: SqliteJournal) -> str:
    """Tell everything that the journal knows, in words and as JSON."""
    records = read_records(
        "production", since=0.0, now=4e9, book=book, listed=down, queued=nothing, holds=nothing
    )  # fmt: skip
    found = tell(records, since=0.0, until=4e9, at=1.8e9)
    return f"{format_text(found)}{make_record(found)}"


def use_all_of_it(story: Story, path: Path) -> list[str]:
    """Do everything that reads the journal; return what raised anything but an error of ours."""
    clock, version = story.world.clock, story.bad.id
    plan = Plan(PlanKind.ROLLBACK, "production", "why", (Step("s", "t", {}, ""),), (), ())

    def journal() -> SqliteJournal:
        return SqliteJournal(path, clock)

    before = story.path
    story.path = path
    tools = story.tools()
    story.path = before
    uses: dict[str, Callable[[], object]] = {
        "runs": lambda: journal().runs(),
        "runs of production": lambda: journal().runs("production"),
        "find": lambda: journal().find("guard"),
        "result": lambda: [journal().result(run.id, "watch") for run in journal().runs()],
        "events": lambda: list(journal().events()),
        "marks": lambda: journal().marks("production"),
        "marked": lambda: journal().find_mark("production", version, Mark.STABLE),
        "kept": lambda: journal().load_counts("production", 0, 2**40),
        "checkpoint": lambda: journal().load_checkpoint("production", "looks"),
        "chain": lambda: journal().verify_chain(),
        "note": lambda: journal().note("production", "hold.set", "k", {}, actor="a"),
        "submit": lambda: journal().submit(plan, actor="a", reason="r"),
        "ask": lambda: journal().ask("guard", "abort", actor="a", reason="r"),
        "health before": lambda: find_health_before(tools, version, clock.now(), ()),
        "probes before": lambda: find_probes_before(tools, version, clock.now()),
        "connections before": lambda: find_connections_before(tools, version, clock.now()),
        "newest automatic": lambda: find_newest_automatic(tools, ()),
        "triggers": lambda: read_snapshots(tools),
        "timeline": lambda: timeline(journal()),
        "ends": lambda: [read_end(journal(), journal(), run) for run in journal().runs()],
    }
    failures = []
    for name, use in uses.items():
        try:
            use()
        except BackoutError as error:
            text = f"{error.what} {error.where} {error.hint}"
            if len(text) > 2000 or not error.what or (error.where is None and error.hint is None):
                failures.append(f"{name}: {text[:200]}")
        except Exception as error:  # noqa: BLE001 - that is what this test looks for
            failures.append(f"{name}: {type(error).__name__}: {str(error)[:80]}")
    return failures


@pytest.mark.parametrize("table", COLUMNS)
def test_a_column_that_holds_anything(whole: Story, quick_path: Path, table: str) -> None:
    """Every value of the bag in each column of each table (other ones in the next column), in one row of many."""
    failures = []
    for number, column in enumerate(COLUMNS[table]):
        for name, value in ROWS[number % 3 :: 3] if column != "data" else ROWS:
            statement = f"UPDATE {table} SET {column} = ? WHERE {ONE_ROW[table]}"  # noqa: S608 - names of this file
            path = quick_path / "journal.sqlite"
            try:
                poisoned(whole, path, (statement, (value,)))
            except sqlite3.IntegrityError:
                continue  # what the table itself refuses cannot stand there
            failures += [f"{table}.{column} = {name}: {text}" for text in use_all_of_it(whole, path)]
    assert not failures, "\n".join(failures[:20])


SHAPES = {
    "a mark of another kind": ("mark", {"mark": "x", "version": 1}),
    "a mark without a version": ("mark", {"mark": "stable"}),
    "a mark with a time in words": (
        "mark",
        {
            "mark": "stable",
            "version": "v",
            "code_hash": None,
            "at": "now",
            "run": "",
            "why": "",
            "migration_head": None,
        },
    ),
    "a run without a plan": ("run.submitted", {}),
    "a plan that is a list": ("run.submitted", {"plan": [], "hash": "h"}),
    "a plan of another kind": ("run.submitted", {"plan": {"kind": "x", "steps": []}, "hash": "h"}),
    "a step without arguments": (
        "run.submitted",
        {
            "plan": {"kind": "guard", "environment": "production", "why": "w", "steps": [{"action": "watch"}]},
            "hash": "h",
        },
    ),
    "steps that are numbers": ("run.submitted", {"plan": {"kind": "guard", "steps": [1, 2]}, "hash": "h"}),
}


@pytest.mark.parametrize("name", SHAPES)
def test_an_event_of_another_shape(whole: Story, quick_path: Path, name: str) -> None:
    """What stands in an event is JSON, but not what backout writes there."""
    kind, data = SHAPES[name]
    path = quick_path / "journal.sqlite"
    row = (kind, json.dumps(data))
    poisoned(whole, path, ("UPDATE event SET kind = ?, data = ? WHERE seq = (SELECT max(seq) FROM event)", row))
    assert use_all_of_it(whole, path) == []


@pytest.mark.parametrize("name", ["cut", "foreign", "no head", "a directory", "no database", "no rights"])
def test_a_file_that_is_no_journal(whole: Story, quick_path: Path, name: str) -> None:
    """Cut off, another program's, without its head, no file, no database: said, and nothing is written into it."""
    path = quick_path / "journal.sqlite"
    poisoned(whole, path)
    if name == "cut":
        path.write_bytes(path.read_bytes()[:9000])
    elif name == "no head":
        poisoned(whole, path, ("DELETE FROM head", ()))
    elif name == "foreign":
        path.unlink()
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE customers (id INTEGER)")
    elif name == "a directory":
        path.unlink()
        path.mkdir()
    elif name == "no database":
        path.write_bytes(b"no database" * 400)
    elif name == "no rights":
        path.chmod(0o000)
    before = path.read_bytes() if path.is_file() and name == "foreign" else b""
    assert use_all_of_it(whole, path) == []
    if name == "foreign":
        assert path.read_bytes() == before
        with pytest.raises(BackoutError, match="another program's database"):
            SqliteJournal(path, whole.world.clock).runs()


def test_what_a_person_sees(whole: Story, tmp_path: Path) -> None:
    """A command says what is damaged, where, and what to type; its exit code is 1 and no traceback."""
    (tmp_path / "backout.toml").write_text(CONFIG)
    path = tmp_path / ".backout" / "journal.sqlite"
    path.parent.mkdir(mode=0o700)
    poisoned(whole, path, ("UPDATE event SET data = ? WHERE kind = 'run.submitted'", ("[" * 100_000,)))
    answer = backout(tmp_path, "runs", "list")
    assert answer.code == 1, answer.err
    assert "the journal is damaged: event" in answer.err
    assert str(path) in answer.err
    assert f"mv {path}* {path.parent}/damaged-journal/" in answer.err
    assert "mistake in backout" not in answer.err


def test_a_plan_without_the_arguments_of_its_steps_is_damage(whole: Story, tmp_path: Path) -> None:
    """A step that is not as we write it names what it lacks, wherever it is read; never a KeyError."""
    (tmp_path / "backout.toml").write_text(CONFIG)
    path = tmp_path / ".backout" / "journal.sqlite"
    path.parent.mkdir(mode=0o700)
    statement = "UPDATE event SET data = replace(data, '\"mode\"', '\"x\"') WHERE kind = 'run.submitted'"
    poisoned(whole, path, (statement, ()))
    answer = backout(tmp_path, "guard", "report", variables={"CLOUDFLARE_API_TOKEN": "t"})
    assert answer.code == 1, answer.err
    assert "the journal is damaged: the step conclude does not have the expected shape" in answer.err
    assert "`mode`" in answer.err
