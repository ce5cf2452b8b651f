"""Base backups of a real Postgres: taken, kept, laid out, started; damaged, killed, refused."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest
from backup_lab import Lab, restored, running_lab
from kept import template

from backout.config import load
from backout.config.environment import Environment
from backout.errors import AuthError, BackoutError, Busy, Refused
from backout.model.database.recovery import BackupKind
from backout.model.incident.incident import RunState
from backout.providers.archive.holding import Holding
from backout.providers.archive.repository import Repository
from backout.providers.archive.sealing import Key
from backout.providers.archive.stores import FolderStore
from backout.providers.archive.taking import StagedBackups
from backout.providers.clock import SystemClock
from backout.providers.postgres.server.binaries import find_binaries
from backout.runbook.backup.backup import BackupActions, BackupTools, prepare
from backout.wiring.db import backups as wired
from backout.wiring.records import open_journal

from extent import by_extent, long
from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from backout.providers.archive.origin import Origin

    from conftest import Record

pytestmark = pytest.mark.rotating("drills", 5)

KEY = "0f" * 32
CUTS = by_extent(2, 3, proof=16)
SENDERS = "SELECT count(*) FROM pg_stat_replication"
SLOTS = "SELECT count(*) FROM pg_replication_slots"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return template()


@pytest.fixture
def lab(quick_path: Path, cache: Path) -> Iterator[Lab]:
    with running_lab(quick_path, cache) as running:
        yield running


def taken(lab: Lab, *arguments: str) -> str:
    """Take a backup and return its id."""
    answer = lab.backout("db", "backup", "--json", *arguments)
    assert answer.code == 0, answer.err
    backup = answer.json["backup"]
    assert isinstance(backup, dict)
    return str(backup["id"])


def rows_of(lab: Lab, backup: str, folder: Path, key: Key | None = None) -> object:
    """Start a restored backup and return how many rows the table has in it."""
    server = restored(lab, backup, folder, key=key)
    status = server.start()
    try:
        with psycopg.connect(status.socket_dsn) as connection:
            row = connection.execute("SELECT count(*), sum(n) FROM t").fetchone()
            assert row is not None
            return row
    finally:
        server.stop(mode="immediate")


@pytest.mark.parametrize("encrypted", [long(False), True], ids=["plain", "encrypted"])
def test_a_chain_is_taken_kept_and_laid_out_again(lab: Lab, quick_path: Path, *, encrypted: bool) -> None:
    """Full, incremental, incremental: each one starts and holds exactly what was committed before it."""
    if encrypted:
        lab.configure('key_env = "BACKUP_KEY"', {"BACKUP_KEY": KEY})
    key = Key.parse(KEY) if encrypted else None
    lab.execute("CREATE TABLE t AS SELECT generate_series(1, 50000) AS n")
    expected = {}
    for change in ("SELECT 1", "UPDATE t SET n = n + 1 WHERE n % 100 = 0", "INSERT INTO t SELECT 7 FROM t LIMIT 99"):
        lab.execute(change)
        expected[taken(lab)] = (lab.value("SELECT count(*) FROM t"), lab.value("SELECT sum(n) FROM t"))
    listed = lab.backout("db", "backups", "list", "--json").json["backups"]
    assert isinstance(listed, list)
    assert [each["kind"] for each in listed] == ["full", "incremental", "incremental"]
    assert [each["encrypted"] for each in listed] == [encrypted] * 3
    assert all(each["verified_at"] for each in listed)
    assert listed[1]["stored_bytes"] < listed[0]["stored_bytes"] / 5
    for number, (backup, counted) in enumerate(expected.items()):
        assert rows_of(lab, backup, quick_path / f"out{number}", key) == counted
    assert lab.backout("db", "backups", "verify").code == 0
    assert list((lab.archive / "staging").iterdir()) == []
    if encrypted:
        kept = b"".join(path.read_bytes() for path in lab.archive.rglob("*") if path.is_file())
        assert b"pg_class" not in kept
        assert b"PG_VERSION" not in kept


def test_what_is_damaged_is_named(lab: Lab, quick_path: Path) -> None:
    """A bit, a cut, a file or a whole parent that is gone: the error names the part, and nothing passes as whole."""
    lab.execute("CREATE TABLE t AS SELECT generate_series(1, 50000) AS n")
    full, incremental = taken(lab), taken(lab)
    pack = lab.archive / "base" / full / "pack-000000"
    index = lab.archive / "base" / incremental / "index"
    whole = {path: path.read_bytes() for path in (pack, index, lab.archive / "base" / full / "record.json")}
    middle = len(whole[pack]) // 2
    broken = whole[pack][:middle] + bytes([whole[pack][middle] ^ 1]) + whole[pack][middle + 1 :]
    damages: list[tuple[Path, bytes | None, str]] = [
        (pack, broken, "decompressed"),
        (pack, whole[pack][:-1], "bytes instead of"),
        (pack, None, "missing"),
        (index, whole[index][:-1] + b"x", "damaged"),
        (index, None, "missing"),
        (lab.archive / "base" / full / "record.json", None, "it is missing"),
        (lab.archive / "base" / full / "record.json", b"{", "cannot be read"),
    ]
    for path, content, words in damages:
        path.write_bytes(content) if content is not None else path.unlink()
        answer = lab.backout("db", "backups", "verify", incremental)
        assert answer.code == 1, (path, answer)
        assert words in answer.err, answer.err
        assert path.name in answer.err or full in answer.err
        path.write_bytes(whole[path])
    assert lab.backout("db", "backups", "verify", incremental).code == 0
    leftovers = [path.name for path in lab.archive.iterdir() if path.name.startswith((".", "checking"))]
    assert leftovers == []


def test_another_key_or_none_is_said_before_anything_is_read(lab: Lab, quick_path: Path) -> None:
    """Exit code 4; neither key is shown."""
    lab.configure('key_env = "BACKUP_KEY"', {"BACKUP_KEY": KEY})
    lab.execute("CREATE TABLE t AS SELECT 1 AS n")
    backup = taken(lab)
    lab.configure('key_env = "BACKUP_KEY"', {"BACKUP_KEY": "11" * 32})
    answer = lab.backout("db", "backups", "verify")
    assert answer.code == AuthError.exit_code
    assert "was encrypted with key" in answer.err
    assert "11" * 32 not in answer.err
    lab.configure()
    assert "there is no key" in lab.backout("db", "backups", "verify", backup).err
    record = lab.archive / "base" / backup / "record.json"
    lab.configure('key_env = "BACKUP_KEY"', {"BACKUP_KEY": KEY})
    record.write_text(record.read_text().replace('"timeline": 1', '"timeline": 2'), encoding="utf-8")
    answer = lab.backout("db", "backups", "verify", backup)
    assert answer.code == Refused.exit_code
    assert "changed after it was written" in answer.err
    assert f"--accept-unsigned {backup}" in answer.err


# --- refused ----------------------------------------------------------------------------------------------------------


def test_what_cannot_be_backed_up_is_refused_before_anything_is_written(lab: Lab, quick_path: Path) -> None:
    """A role without REPLICATION, a password that is wrong, nobody there, tablespaces, an impossible incremental."""
    lab.execute("CREATE ROLE reader LOGIN PASSWORD 'of the reader'")
    port = lab.status.port
    asked: list[tuple[str, str, int]] = [
        (f"postgresql://reader:of%20the%20reader@127.0.0.1:{port}/postgres", "lacks REPLICATION", 4),
        (f"postgresql://postgres:wrong-canary@127.0.0.1:{port}/postgres", "refuses the connection", 4),
        ("postgresql://postgres:wrong-canary@127.0.0.1:1/postgres", "cannot be read", 7),
    ]
    for url, words, code in asked:
        lab.variables["DATABASE_URL"] = url
        answer = lab.backout("db", "backup")
        assert (answer.code, words in answer.err) == (code, True), answer
        assert "canary" not in answer.err
    lab.configure()
    answer = lab.backout("db", "backup", "--incremental")
    assert answer.code == 3
    assert "no backup yet" in answer.err
    (quick_path / "space").mkdir()
    lab.execute(f"CREATE TABLESPACE far LOCATION '{quick_path / 'space'}'")
    answer = lab.backout("db", "backup")
    assert answer.code == 3
    assert "tablespaces (far)" in answer.err
    assert not lab.archive.exists()


_PROGRAM = """#!/bin/sh
echo "pg_basebackup: error: could not write to file \\"base/1/1255\\": No space left on device" >&2
exit 1
"""


def test_programs_that_do_not_fit_and_a_full_disk(lab: Lab, quick_path: Path) -> None:
    """Another major version is refused with the way out; a full disk is said in Postgres' words, and can be resumed."""
    programs = quick_path / "bin"
    shutil.copytree(find_binaries().directory, programs, symlinks=True)
    toml = lab.folder / "backout.toml"
    text = toml.read_text(encoding="utf-8")
    toml.write_text(text.replace('url_env = "DATABASE_URL"', f'url_env = "DATABASE_URL"\nbinaries = "{programs}"'))
    (programs / "pg_basebackup").unlink()
    (programs / "pg_basebackup").write_text(_PROGRAM, encoding="ascii")
    (programs / "pg_basebackup").chmod(0o755)
    answer = lab.backout("db", "backup")
    assert "no room left" in answer.err, answer
    assert "No space left on device" in answer.err
    assert lab.backout("db", "backups", "list", "--json").json["backups"] == []
    older = quick_path / "older"
    older.mkdir()
    (older / "postgres").write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 17.4'\n", encoding="ascii")
    (older / "postgres").chmod(0o755)
    toml.write_text(text.replace('url_env = "DATABASE_URL"', f'url_env = "DATABASE_URL"\nbinaries = "{older}"'))
    answer = lab.backout("db", "backup")
    assert "the server is version 18, the programs here are version 17" in answer.err
    toml.write_text(text, encoding="utf-8")
    assert lab.backout("db", "backup").code == 0
    assert len(lab.backout("runs", "list", "--json").json["runs"]) <= 2  # type: ignore[arg-type]


@pytest.mark.long
def test_a_killed_server_leaves_a_run_that_goes_on_later(lab: Lab) -> None:
    """Nobody answers in the middle: exit 7, and the same command goes on when it is there again."""
    lab.execute("CREATE TABLE t AS SELECT 1 AS n")
    taken(lab)
    lab.server.stop(mode="immediate")
    assert lab.backout("db", "backup").code == 7
    answer = lab.backout("db", "backups", "list")
    assert answer.code == 7
    assert "not known" in answer.out
    assert "restorable: timeline 1, from" in answer.out
    lab.status = lab.server.start(port=lab.status.port)
    assert lab.backout("db", "backup").code == 0


@pytest.mark.long
def test_retention_removes_old_chains_and_a_dry_run_says_so(lab: Lab) -> None:
    """With a window of nothing only the newest chain stays; a dry run changes nothing."""
    lab.execute("CREATE TABLE t AS SELECT 1 AS n")
    first, second = taken(lab), taken(lab)
    lab.configure('keep = "0s"')
    answer = lab.backout("db", "backup", "--dry-run", "--full", "--json")
    assert answer.json["would_remove"] == []
    third = taken(lab, "--full")
    assert sorted(path.name for path in (lab.archive / "base").iterdir()) == [third]
    assert {first, second} & {path.name for path in (lab.archive / "base").iterdir()} == set()


# --- killed -----------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process was killed at this very moment."""


class DyingStore(FolderStore):
    """A folder whose user is killed at its n-th change, before or after it."""

    def __init__(self, directory: Path, dies_at: int) -> None:
        super().__init__(directory)
        self.changes = 0
        self._dies_at = dies_at

    def put(self, key: str, data: bytes) -> None:
        self._maybe_die()
        super().put(key, data)
        self._maybe_die()

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._maybe_die()
            super().delete([key])
            self._maybe_die()

    def _maybe_die(self) -> None:
        self.changes += 1
        if self.changes == self._dies_at:
            raise Killed


def tools_of(lab: Lab, store: FolderStore) -> BackupTools:
    """Return the tools of `backout db backup` on another store."""
    config = load(Environment(lab.variables), start=lab.folder)
    repository = Repository(store, find_binaries, incoming=lab.archive / "incoming", key=None)
    origin: Origin = wired.make_origin(config)
    staged = StagedBackups(repository, lab.archive, origin, SystemClock())
    book = open_journal(config)
    return BackupTools(
        environment="lab",
        actor="test",
        clock=SystemClock(),
        journal=book,
        runs=book,
        cluster=origin.cluster,
        backups=repository,
        taker=staged,
        keeper=staged,
        full_every_s=7 * 86400.0,
        keep_s=0.0,
    )


@pytest.mark.long
def test_a_kill_at_every_change_of_the_store_leaves_the_same_in_the_end(
    lab: Lab, quick_path: Path, proof: Record
) -> None:
    """Before and after each object: resumed, there is the same backup once, the old chain is gone, and no leftovers."""
    lab.execute("CREATE TABLE t AS SELECT generate_series(1, 20000) AS n")
    taken(lab)
    shutil.copytree(lab.archive, quick_path / "before")
    journal = lab.folder / ".backout" / "journal.sqlite"
    shutil.copy(journal, quick_path / "journal")
    dies_at, trials, finished = 0, 0, False
    while not finished:
        dies_at += by_extent(4, 3, proof=1)
        trials += 1
        shutil.rmtree(lab.archive)
        shutil.copytree(quick_path / "before", lab.archive)
        for path in journal.parent.glob("journal.sqlite*"):
            path.unlink()
        shutil.copy(quick_path / "journal", journal)
        tools = tools_of(lab, DyingStore(lab.archive, dies_at))
        plan = prepare(tools, BackupKind.FULL)
        run = tools.journal.submit(plan, actor="test", reason="test")
        try:
            tools.journal.drive(run, BackupActions(tools), actor="test")
            finished = True
        except Killed:
            again = tools_of(lab, FolderStore(lab.archive))
            ended = again.journal.drive(run, BackupActions(again), actor="test")
            assert ended.state is RunState.DONE
        backup = str(plan.step("store_backup").args["backup"])
        kept = {path.name for path in (lab.archive / "base").iterdir()}
        assert kept == {backup}, dies_at
        files = {path.name for path in (lab.archive / "base" / backup).iterdir()}
        assert files == {"index", "record.json", "pack-000000"}, dies_at
        assert list((lab.archive / "staging").iterdir()) == []
    assert dies_at > 10
    assert rows_of(lab, backup, quick_path / "out") == (20000, lab.value("SELECT sum(n) FROM t"))
    proof("a backup killed before or after any change of its store is the same when resumed", trials=trials, failures=0)


@pytest.mark.long
@pytest.mark.proof
def test_kill_9_at_any_time_then_the_same_command_again(lab: Lab, quick_path: Path, proof: Record) -> None:
    """The process and what it started are gone; the next command ends with one more whole backup, and no leftovers."""
    lab.execute("CREATE TABLE t AS SELECT generate_series(1, 400000) AS n")
    chance, known = random.Random(5), 0  # noqa: S311 a seeded test
    for trial in range(CUTS):
        argv = (sys.executable, "-m", "backout", "db", "backup", "--full")
        environment = {"PATH": os.environ["PATH"], **lab.variables}
        process = subprocess.Popen(argv, cwd=lab.folder, env=environment, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=chance.uniform(0.2, 1.5))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        until(lambda: not lab.value(SENDERS), what="nothing receives any more")
        backup = taken(lab)
        found = lab.backout("db", "backups", "list", "--json").json["backups"]
        assert isinstance(found, list)
        assert known < len(found) <= known + 2
        known = len(found)
        assert {path.name for path in (lab.archive / "base").iterdir()} == {each["id"] for each in found}
        assert list((lab.archive / "staging").iterdir()) == []
        assert lab.backout("db", "backups", "verify", backup).code == 0, trial
    proof("a backup killed by kill -9 at any time is finished by the next command", trials=CUTS, failures=0)


@pytest.mark.long
def test_a_backup_that_ends_at_once_leaves_nobody_who_receives_wal(lab: Lab) -> None:
    """By kill -9 or Ctrl-C. pg_basebackup's second process would hold WAL on the server, by a slot, for good."""
    lab.execute("CREATE TABLE t AS SELECT generate_series(1, 1000000) AS n")
    for number in (signal.SIGKILL, signal.SIGINT):
        caught = False
        while not caught:
            argv = (sys.executable, "-m", "backout", "db", "backup", "--full")
            environment = {"PATH": os.environ["PATH"], **lab.variables}
            with subprocess.Popen(argv, cwd=lab.folder, env=environment, stderr=subprocess.DEVNULL) as process:
                until(lambda: lab.value(SLOTS) or process.poll() is not None, what="WAL is received")
                process.send_signal(number)
            caught = process.returncode != 0
        until(lambda: not lab.value(SENDERS), what="nothing receives any more")
        assert lab.value(SLOTS) == 0
        taken(lab)


def test_what_an_interrupted_backup_left_running_is_waited_for_and_named(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock is held by each of its processes: here by one that outlives it, as where the kernel cannot end it."""
    monkeypatch.setattr("backout.providers.archive.taking._ENDS_WITHIN_S", 0.2)
    (lab.archive / "staging" / "20260101-000000").mkdir(parents=True)
    with Holding(lab.archive, "taking").held() as held:
        left = subprocess.Popen(("/bin/sleep", "97.5"), pass_fds=(held,))
    try:
        tools = tools_of(lab, FolderStore(lab.archive))
        with pytest.raises(Busy, match="pg_basebackup of another backup") as raised:
            tools.taker.take("20260101-000001", None, lambda *_: None)
        assert "pgrep" in str(raised.value.hint)
        assert [path.name for path in (lab.archive / "staging").iterdir()] == ["20260101-000000"]
    finally:
        left.kill()
        left.wait()
    tools.taker.take("20260101-000001", None, lambda *_: None)
    assert (lab.archive / "staging" / "20260101-000001.json").is_file()


def test_a_backup_that_was_taken_and_is_gone_is_an_error(lab: Lab) -> None:
    """Somebody removed the staging folder between the steps: said, nothing stored."""
    tools = tools_of(lab, FolderStore(lab.archive))
    with pytest.raises(BackoutError, match="no longer here"):
        tools.keeper.store("20260101-000000", 1.0, lambda *_: None)
