"""A journal of no use, at night: the five commands that must answer do, every other one says what is wrong.

The whole table {what is wrong with the journal} x {command} x {the API answers or not}, with the program as a process.
"""

from __future__ import annotations

import itertools
import os
import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from typed import Ended, Typist, shared_typist

from backout.journal.sqlite import SqliteJournal
from backout.model.plan import Plan, PlanKind, Step
from backout.model.version import Mark, VersionId, VersionMark
from backout.providers.clock import SystemClock

from extent import by_extent
from scripted_server import answer, refused_url, scripted_server
from twin_harness import ACCOUNT, TOKEN, Api, running_api

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

CONFIG = """[app]
name = "shop"
[environments.production]
platform = {{ provider = "cloudflare", account_id = "{account}", script = "{script}", api_base_url = "{api}" }}
health = {{ url = "{health}" }}
"""
VARIABLES = {
    "CLOUDFLARE_API_TOKEN": TOKEN, "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "COLUMNS": "120",
}  # fmt: skip
WELL = answer({"status": "ok", "services": {"database": "ok"}})
NASTY = "\x1b]0;owned\x07\x9b31m"
_OBEYED = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]")


def spoil_bytes(first: int, last: int | None) -> Callable[[Path], None]:
    """Return what overwrites these bytes of a journal."""

    def spoil(path: Path) -> None:
        content = bytearray(path.read_bytes())
        end = len(content) if last is None else last
        content[first:end] = bytes((number * 151 + 7) % 256 for number in range(end - first))
        path.write_bytes(content)

    return spoil


def edit(*statements: str, value: str | None = None) -> Callable[[Path], None]:
    """Return what runs these statements on a journal, its triggers dropped; `value`: for the last one."""

    def spoil(path: Path) -> None:
        with closing(sqlite3.connect(path)) as journal:
            for (name,) in journal.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                journal.execute(f"DROP TRIGGER {name}")
            for number, statement in enumerate(statements, start=1):
                journal.execute(statement, (value,) if value is not None and number == len(statements) else ())
            journal.commit()

    return spoil


def replace_by_folder(path: Path) -> None:
    """Put a folder where the journal is."""
    path.unlink()
    path.mkdir()


@dataclass(frozen=True)
class State:
    """What is wrong with a journal.

    Args:
        spoil: done to the file before.
        within: how the process is hindered, `@` is the journal's folder.
        is_read: the marks in it are known all the same.
        says: what stands in the sentence about it, "": none is due.
        is_private: the hold's own folder can be written to.
        is_written: so can the journal.
        is_emptied: its file is there, and nothing is in it.
        lock: what another process does with it meanwhile.
    """

    spoil: Callable[[Path], object] = lambda _path: None
    within: dict[str, Any] = field(default_factory=dict)
    is_read: bool = False
    says: str = "damaged"
    is_private: bool = True
    is_written: bool = False
    is_emptied: bool = False
    lock: str = ""


STATES = {
    "whole": State(is_read=True, says="", is_written=True),
    "missing": State(lambda path: path.unlink(), says="", is_written=True),
    "header": State(spoil_bytes(0, 100)),
    "header, page size": State(spoil_bytes(16, 60)),
    "first page": State(spoil_bytes(100, 4096)),
    "pages": State(spoil_bytes(4096, None)),
    "emptied": State(lambda path: os.truncate(path, 0), says="", is_written=True, is_emptied=True),
    "cut off": State(lambda path: os.truncate(path, path.stat().st_size // 2)),
    "schema": State(edit("PRAGMA writable_schema=ON", "UPDATE sqlite_master SET sql = ?", value=f"CREATE {NASTY}")),
    "no text": State(edit("UPDATE event SET data = CAST(x'ff1b5d303b6f776e65640780' AS TEXT)")),
    "no table": State(edit("DROP TABLE event")),
    "another program's": State(lambda path: (path.unlink(), edit("CREATE TABLE x (y)")(path)), says="another program"),
    "newer": State(edit("INSERT INTO schema_version VALUES (99, 1.0)"), says="newer"),
    "a folder": State(replace_by_folder, says="journal"),
    "unreadable": State(lambda path: path.chmod(0), {"obeys": True}, says="journal cannot be"),
    "read-only file": State(lambda path: path.chmod(0o400), {"obeys": True}, is_read=True, says=""),
    "read-only folder": State(
        lambda path: path.parent.chmod(0o500), {"obeys": True}, is_read=True, says="for writing", is_private=False
    ),
    "read-only mount": State(within={"read_only": "@"}, is_read=True, says="for writing", is_private=False),
    "full": State(within={"full": ["@", 600_000]}, is_read=True, says="full", is_private=False),
    "no more room": State(within={"longest": 0}, is_read=True, says="full", is_private=False),
    "locked": State(lock="BEGIN EXCLUSIVE", says="locked"),
}  # fmt: skip


@dataclass
class Lab:
    """The twin's API, a health endpoint and a typist; each trial has an application and a journal of its own."""

    typist: Typist
    folder: Path
    api: Api
    health: str
    trials: Iterator[int] = field(default_factory=itertools.count)

    @contextmanager
    def trial(self, state: State, api: str) -> Iterator[Trial]:
        """Lend a trial in which the journal is in that state."""
        script = f"shop{next(self.trials)}"
        folder = self.folder / script
        own = folder / ".backout"
        own.mkdir(parents=True, mode=0o700)
        for code in ("good", "bad"):
            self.api.upload(script, f"export default {{}} // {code}")
        listed = self.api.call("GET", f"{script}/deployments").result["deployments"]
        bad, good = (each["versions"][0]["version_id"] for each in listed[:2])
        url = f"{self.api.url}/client/v4" if api == "up" else refused_url()
        text = CONFIG.format(account=ACCOUNT, script=script, api=url, health=self.health)
        (folder / "backout.toml").write_text(text)
        path = own / "journal.sqlite"
        write_journal(path, good, bad)
        card = f"Every id was read from the provider at 2026-11-01T00:00:00.000Z.\n- version {bad} at 100 %\n"
        (own / "card-production.md").write_text(f"THE LAST CARD\n{card}")
        for file in own.iterdir():
            file.chmod(0o600)
        state.spoil(path)
        holder = sqlite3.connect(path, isolation_level=None) if state.lock else None
        try:
            if holder is not None:
                holder.execute("PRAGMA locking_mode=EXCLUSIVE")
                holder.execute(state.lock)
            yield Trial(self, state, api, folder, script, good, bad)
        finally:
            if holder is not None:
                holder.close()
            own.chmod(0o700)


def write_journal(path: Path, good: str, bad: str) -> None:
    """Write a journal that knows a stable version, and a watch of another one that was given up."""
    journal = SqliteJournal(path, SystemClock())
    journal.mark("production", VersionMark(Mark.STABLE, VersionId(good), None, 1e9, "guard-1", "healthy"), actor="test")
    plan = Plan(
        PlanKind.GUARD,
        "production",
        "watch it",
        (Step("watch", "watch", {"version": bad, "deployment": "d", "since": 1e9}),),
    )
    run = journal.submit(plan, actor="test", reason="r")
    journal.ask(run, "abort", actor="test", reason="r")
    journal.close()


@dataclass(frozen=True)
class Trial:
    """A project's folder with its journal, and what is so at the provider."""

    lab: Lab
    state: State
    api: str
    folder: Path
    script: str
    good: str
    bad: str

    @property
    def card(self) -> str:
        """Where the card is."""
        return str(self.folder / ".backout" / "card-production.md")

    def type(self, *arguments: str) -> Ended:
        """Type a command there."""
        own = str(self.folder / ".backout")
        within = {
            name: own if value == "@" else [own, *value[1:]] if isinstance(value, list) else value
            for name, value in self.state.within.items()
        }
        words = (*arguments, "-e", "production")
        return self.lab.typist.type(self.folder, *words, variables=VARIABLES, within=within)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab with the twin's own API."""
    folder = tmp_path_factory.mktemp("unusable")
    with running_api(folder) as api, scripted_server() as health:
        health.will(WELL)
        yield Lab(shared_typist(), folder, api, f"{health.url}/health")


def told(ended: Ended) -> str:
    """Return all that was shown, when it is fit to be shown and no mistake of ours."""
    assert not _OBEYED.search(ended.out + ended.err), ended
    text = ended.text
    assert "Traceback" not in text, text
    assert "mistake in backout" not in text, text
    assert "owned" not in text, text
    assert "the test cannot do this" not in text, text
    return text


def check_known(trial: Trial, text: str, *, says: str) -> None:
    """Look that what is known without the provider is told."""
    for known in ("ok (200", trial.lab.health, trial.card, trial.bad, says):  # the card knows the bad one in any case
        assert known in text, text
    if trial.state.is_read:
        assert trial.good in text, text


def check_panic(trial: Trial) -> None:
    """Exit 5 and the lines without a journal, 3 where a person has to decide, 7 and the lines without the API."""
    state, ended = trial.state, trial.type("panic")
    text = told(ended)
    if trial.api == "down":
        is_used = state.is_read or not state.says
        assert ended.code == (7 if is_used else 5), text
        assert "$ npx wrangler" in text, text
        check_known(trial, text, says="" if is_used else state.says)
    elif state.is_written:  # the endpoint does not say which version answered, so the target is not proved
        assert ended.code == 3, text
        assert ("going back" in text) is state.is_read, text
    else:  # the provider's list has no mark, nor has that card: without the journal no version is known as proven
        assert ended.code == (5 if state.is_read else 3), text
        assert "nothing was changed" in text
        assert f"npx wrangler rollback {trial.good} --name {trial.script}" in text, text


def check_card(trial: Trial) -> None:
    """A page of what the provider tells; without it the last one."""
    ended = trial.type("card")
    text, page = told(ended), ended.out.decode()
    if trial.api == "up":
        assert "## What is live" in page, text
        assert ended.code == (1 if trial.state.says and not trial.state.is_read else 0), text
    else:
        assert ended.code == 7, text
        assert "THE LAST CARD" in page
        check_known(trial, text, says="" if trial.state.is_read else trial.state.says)


def check_status(trial: Trial) -> None:
    """What is live, and that the journal is of no use; or what was live last, and exit 7."""
    state, ended = trial.state, trial.type("status", "--json")
    text, record = told(ended), ended.json
    assert record["schema"] == "backout.status/1"
    assert record["health"]["overall"] == "ok"
    if trial.api == "up":
        assert record["live_version"] == trial.bad
        assert ended.code == (1 if state.says else 0), text
        assert state.says in (record["journal"] or ""), text
        assert told(trial.type("status"))
        return
    assert (ended.code, record["live_version"], record["last_live"]["version"]) == (7, None, trial.bad), text
    assert record["last_stable"] is None or record["last_stable"]["version"] == trial.good
    assert (record["health_url"], record["card"]) == (trial.lab.health, trial.card)
    assert state.is_read or not state.says or [each for each in record["unread"] if state.says in each], text
    check_known(trial, told(trial.type("status")), says="" if state.is_read else state.says)


def check_hold(trial: Trial) -> None:
    """Here, at the provider, or both; neither is an error that says so."""
    for command, held in ((("hold", "-m", "by hand"), True), (("unhold",), False)):
        ended = trial.type(*command, "--json")
        text = told(ended)
        if not trial.state.is_private and trial.api == "down":
            assert ended.code == 7, text
            assert "nothing was changed, neither here nor at the provider" in text
        else:
            assert ended.code == (0 if trial.state.is_private and trial.api == "up" else 5), text
            assert (ended.json["held"], ended.json["everywhere"]) == (held, trial.api == "up")
        if trial.api == "down":
            check_known(trial, text, says="" if trial.state.is_read else trial.state.says)


def check_doctor(trial: Trial) -> None:
    """What is wrong with the journal is a gap of its own, and every other check is made."""
    state, ended = trial.state, trial.type("doctor", "--json")
    text, checks = told(ended), {check["name"]: check for check in ended.json["checks"]}
    read = "ok" if state.is_read or not state.says else "missing"
    schema = checks.get("journal_schema", {"state": "ok", "why": ""})
    if state.is_emptied:
        assert (checks["journal"]["state"], checks["journal"]["level"]) == ("missing", "should"), text
        assert "is empty" in checks["journal"]["why"], text
    elif read == "ok":
        assert (checks["journal"]["state"], schema["state"]) == ("ok", "ok"), text
    else:
        assert "missing" in (checks["journal"]["state"], schema["state"]), text
        assert state.says in f"{checks['journal']['why']} {schema['why']}", text
    gaps = {name for name in ("journal", "journal_schema", "journal_writable", "disk") if _is_missing(checks, name)}
    assert bool(gaps) is not state.is_written, text
    assert checks["health"]["state"] == "ok", text
    there = "ok" if trial.api == "up" else "unmeasured"
    assert (checks["platform"]["state"], checks["hold"]["state"]) == (there, there), text
    assert ended.code == (1 if gaps else 7 if trial.api == "down" else 0), text


def _is_missing(checks: Mapping[str, Mapping[str, str]], name: str) -> bool:
    return name in checks and checks[name]["state"] == "missing" and checks[name]["level"] == "must"


COMMANDS = {
    "panic": check_panic,
    "card": check_card,
    "status": check_status,
    "hold": check_hold,
    "doctor": check_doctor,
}


Cell = tuple[str, tuple[str, ...], str]
"""(state of the journal, command, whether the API is "up" or "down")."""


def check_all(lab: Lab, cells: Iterable[Cell], check: Callable[[Trial, tuple[str, ...]], None]) -> None:
    """Look at these cells of the table, several at once: most of the time they wait for the API or a tail."""

    def wrong(cell: Cell) -> str:
        state, command, api = cell
        try:
            with lab.trial(STATES[state], api) as trial:
                check(trial, command)
        except AssertionError as error:
            return f"{' '.join(command)}, journal {state}, API {api}: {error}"
        return ""

    with ThreadPoolExecutor(16) as several:
        failures = [text for text in several.map(wrong, cells) if text]
    assert not failures, "\n\n".join(failures)


def check_needed(trial: Trial, command: tuple[str, ...]) -> None:
    """Look at a command that has to answer."""
    COMMANDS[command[0]](trial)


TABLE = tuple((state, (command,), api) for state, command, api in itertools.product(STATES, COMMANDS, ("up", "down")))


def test_a_part_of_the_table(lab: Lab) -> None:
    """Each state, each command, with the API and without: not each with each."""
    check_all(lab, [cell for number, cell in enumerate(TABLE) if number % 13 == 0], check_needed)


@pytest.mark.rotating("tables of everything", 2)
@pytest.mark.long
@pytest.mark.proof
def test_the_whole_table(lab: Lab) -> None:
    """Each command in each state, with the API and without; but in a proof, a third of them."""
    check_all(lab, TABLE[:: by_extent(3, 3, proof=1)], check_needed)  # ten cells a state, so that no kind is left out


OTHERS = (
    ("runs", "list"),
    ("timeline",),
    ("runs", "show", "guard-1"),
    ("runs", "resume", "guard-1"),
    ("runs", "abort", "guard-1", "-m", "w"),
    ("audit", "verify"),
    ("incident", "list"),
    ("deployments", "list"),
    ("deployments", "show", "x"),
    ("deployments", "release", "x", "-m", "w"),
    ("rollback", "--dry-run"),
    ("rollback", "-m", "w", "--confirm", "production"),
    ("guard", "--for", "1s"),
    ("guard", "report"),
    ("diagnose",),
    ("explain",),
    ("forecast",),
    ("notify", "list"),
    ("secrets", "check"),
    ("config", "check", "--online"),
    ("db", "backups", "list"),
)


@pytest.mark.long
@pytest.mark.proof
def test_every_other_command_says_what_is_wrong(lab: Lab) -> None:
    """An answer, or one error with what to type next; never a traceback, and no byte of the file on the terminal."""
    states = ("header", "pages", "schema", "no text", "newer", "a folder", "unreadable", "full", "read-only mount")
    cells = tuple(itertools.product(states, OTHERS, ("up",)))
    check_all(lab, cells[:: by_extent(2, 2, proof=1)], check_other)  # 21 commands: each meets about every other state


def check_other(trial: Trial, command: tuple[str, ...]) -> None:
    """Look at any other command."""
    ended = trial.type(*command, "--no-input")
    text = told(ended)
    assert ended.code in {0, 1, 2, 3, 4, 5, 6, 7, 78}, ended
    assert text.count("error:") <= 1, text
    if "error:" in text and ended.code not in {2, 3}:
        assert "next:" in text, text
