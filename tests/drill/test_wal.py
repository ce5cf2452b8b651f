"""WAL of a real Postgres under load: what a kill costs, that production goes on, and that every loss is named."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psycopg
import pytest
from backup_lab import PASSWORD, Lab, restored, running_lab
from kept import template
from small_cluster import SEGMENT

from backout.journal.sqlite import SqliteJournal
from backout.providers.archive.gaps import read_gaps
from backout.providers.archive.receiver_status import read_status
from backout.providers.child import is_running
from backout.providers.clock import SystemClock

from extent import by_extent, long
from polling import PATIENCE_S, until
from tls_lab import HOST, authority, tls_front

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Record

LIMIT_MB = 64
SYNC_KILLS = by_extent(1, 2, proof=20)
STREAM_KILLS = by_extent(1, 1, proof=20)
CLIENTS = 4


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return template()


@contextlib.contextmanager
def receiving(folder: Path, cache: Path, mode: str = "stream", *, small: bool = True) -> Iterator[Lab]:
    """Run a server whose slots are limited, and a receiver that a base backup stands behind."""
    limit = {"max_slot_wal_keep_size": f"{LIMIT_MB}MB", "max_wal_size": "48MB", "min_wal_size": "32MB"}
    with running_lab(folder, cache, limit, small=small) as lab:
        lab.configure(f'wal = "{mode}"\nsync_timeout = "3s"', {"PATH": os.environ["PATH"]})
        lab.execute("CREATE TABLE t (n bigint PRIMARY KEY, filler text)")
        started = lab.backout("db", "wal", "start")
        assert started.code == 0, started.err
        taken = lab.backout("db", "backup")
        assert taken.code == 0, taken.err
        try:
            yield lab
        finally:
            if lab.server.status() is not None:
                lab.backout("db", "wal", "stop")
            for job in ("watchdog", "receiver"):
                _end(lab, job, signal.SIGKILL)


def _pid(lab: Lab, job: str) -> int | None:
    with contextlib.suppress(FileNotFoundError, ValueError):
        return int((lab.archive / f"{job}.lock").read_text() or "0") or None
    return None


def _end(lab: Lab, job: str, number: signal.Signals) -> None:
    pid = _pid(lab, job)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def children_named(pid: int, name: str) -> list[int]:
    """Return the processes below `pid` with that name."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            head, _, rest = stat.read_text().rpartition(")")
            if head.partition("(")[2] == name[:15] and int(rest.split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


@dataclass
class Load:
    """Clients that insert one row a transaction, and remember what was acknowledged, and when."""

    dsn: str
    acknowledged: dict[int, float] = field(default_factory=dict)
    longest_wait_s: float = 0.0

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def count(self) -> int:
        return len(self.acknowledged)

    def _work(self, client: int) -> None:
        number = client
        with contextlib.suppress(psycopg.Error), psycopg.connect(self.dsn, autocommit=True) as connection:
            while not self._stop.is_set():
                begun = time.monotonic()
                connection.execute("INSERT INTO t VALUES (%s, 'x')", (number,))
                now = time.monotonic()
                self.acknowledged[number] = now
                self.longest_wait_s = max(self.longest_wait_s, now - begun)
                number += CLIENTS


def kill_server(lab: Lab) -> float:
    """Kill every process of the server at once, remove its data directory, and return when."""
    pids = []
    for cwd in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if cwd.readlink() == lab.server.data_directory:
                pids.append(int(cwd.parent.name))
    at = time.monotonic()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: lab.server.status() is None, what="the server is gone")
    shutil.rmtree(lab.server.data_directory)
    return at


def recovered(lab: Lab, folder: Path) -> set[int]:
    """Restore the newest backup with all WAL that was received, and return the rows."""
    backup = max(path.name for path in (lab.archive / "base").iterdir())
    server = restored(lab, backup, folder)
    status = server.start(timeout_s=60.0)
    try:

        def promoted() -> bool:
            with psycopg.connect(status.socket_dsn) as connection:
                return connection.execute("SELECT NOT pg_is_in_recovery()").fetchone() == (True,)

        until(promoted, timeout_s=60.0, what="the replay ended")
        with psycopg.connect(status.socket_dsn) as connection:
            return {row[0] for row in connection.execute("SELECT n FROM t").fetchall()}
    finally:
        server.stop(mode="immediate")


# --- what a kill of the server costs ----------------------------------------------------------------------------------


@pytest.mark.proof
@pytest.mark.parametrize("trial", range(STREAM_KILLS))
def test_streaming_loses_less_than_a_second_of_commits(
    quick_path: Path, cache: Path, trial: int, proof: Record
) -> None:
    """Every process of the server killed under load, its data directory removed: what is lost was just acknowledged."""
    with receiving(quick_path, cache) as lab:
        with Load(lab.dsn) as load:
            until(lambda: load.count() > 1500, timeout_s=30.0, what="there is load")
            killed_at = kill_server(lab)
        found = recovered(lab, quick_path / "out")
        lost = {number: at for number, at in load.acknowledged.items() if number not in found}
        late = [number for number, at in lost.items() if at < killed_at - 1.0]
        proof(
            "streaming: no commit that was acknowledged a second before the server was lost with its data is lost",
            trials=load.count(),
            failures=len(late),
            note=f"{len(lost)} of {load.count()} lost in the last run",
        )
        assert late == []


@pytest.mark.rotating("streaming of WAL", 3)
@pytest.mark.long
@pytest.mark.proof
def test_synchronous_mode_loses_no_acknowledged_commit(quick_path: Path, cache: Path, proof: Record) -> None:
    """The same with commits that wait for the receiver: none is lost, however often it is done."""
    lost_in_all = 0
    for trial in range(SYNC_KILLS):
        folder = quick_path / f"trial{trial}"
        folder.mkdir()
        with receiving(folder, cache, "sync") as lab:
            until(lambda lab=lab: _promises(lab)[-1:] == ["wal.promise_kept"], what="the promise is given")  # type: ignore[misc]
            with Load(lab.dsn) as load:
                until(lambda load=load: load.count() > 400, timeout_s=30.0, what="there is load")  # type: ignore[misc]
                kill_server(lab)
            lost = set(load.acknowledged) - recovered(lab, folder / "out")
            lost_in_all += bool(lost)
            assert lost == set()
        shutil.rmtree(folder)
    proof("synchronous mode: no acknowledged commit is lost with the server", trials=SYNC_KILLS, failures=lost_in_all)


# --- production goes on -----------------------------------------------------------------------------------------------


def _promises(lab: Lab) -> list[str]:
    journal = SqliteJournal(lab.folder / ".backout" / "journal.sqlite", SystemClock())
    return [event.kind for event in journal.events(environment="lab", kind="wal.*")]


@pytest.mark.rotating("streaming of WAL", 3)
@pytest.mark.long
@pytest.mark.parametrize("how", ["killed", long("stuck")])
def test_commits_go_on_within_the_timeout_when_the_receiver_is_lost(quick_path: Path, cache: Path, how: str) -> None:
    """Receiver and its keeper killed, or pg_receivewal frozen, under load: the watchdog frees commits, and says so."""
    with receiving(quick_path, cache, "sync") as lab:
        until(lambda: _promises(lab)[-1:] == ["wal.promise_kept"], what="the promise is given")
        keeper = _pid(lab, "receiver")
        assert keeper is not None
        (receiver,) = children_named(keeper, "pg_receivewal")
        with Load(lab.dsn) as load:
            until(lambda: load.count() > 100, timeout_s=30.0, what="there is load")
            if how == "killed":
                _end(lab, "receiver", signal.SIGKILL)
            else:
                os.kill(receiver, signal.SIGSTOP)
            before = load.count()
            until(lambda: load.count() > before + 200, timeout_s=15.0, what="commits go on")
        if how == "stuck":
            os.kill(receiver, signal.SIGCONT)
        assert load.longest_wait_s < 8.0  # sync_timeout is 3 s; the rest is for a machine that is busy
        assert "wal.promise_lost" in _promises(lab)
        if how == "killed":
            answer = lab.backout("db", "wal", "status")
            assert answer.code == 1
            assert "do not wait" in answer.out
            assert "UNPROTECTED: WAL is not being received" in answer.out
        assert lab.backout("db", "wal", "start").code == 0
        until(lambda: _promises(lab)[-1:] == ["wal.promise_kept"], timeout_s=20.0, what="it is given again")


def test_without_a_limit_on_slots_nothing_is_started(quick_path: Path, cache: Path) -> None:
    """Exit 3 with the line to type; no slot, no process, nothing in the folder; "off" is refused as well."""
    with running_lab(quick_path, cache) as lab:
        assert lab.backout("db", "wal", "start").code == 3
        lab.configure('wal = "stream"')
        for command in ("start", "run"):
            answer = lab.backout("db", "wal", command)
            assert answer.code == 3
            assert "ALTER SYSTEM SET max_slot_wal_keep_size" in answer.err
        assert lab.value("SELECT count(*) FROM pg_replication_slots") == 0
        assert not (lab.archive / "receiver.log").exists()
        lab.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '64MB'", "SELECT pg_reload_conf()")
        lab.configure('wal = "sync"')
        lab.execute("ALTER SYSTEM SET synchronous_standby_names = 'theirs'", "SET synchronous_commit = local")
        lab.execute("SELECT pg_reload_conf()")
        until(lambda: lab.value("SHOW synchronous_standby_names") == "theirs", what="it is read")
        answer = lab.backout("db", "wal", "start")
        assert answer.code == 3
        assert "not backout's" in answer.err


@pytest.mark.rotating("streaming of WAL", 3)
@pytest.mark.long
@pytest.mark.parametrize("stored", [True, False])
def test_a_lost_slot_is_a_gap_that_only_a_new_base_closes(quick_path: Path, cache: Path, *, stored: bool) -> None:
    """The receiver is gone too long: the server's disk stays bounded, the gap is named, a new base protects again.

    `stored`: whether each segment that was received whole had reached the store.
    """
    with receiving(quick_path, cache, small=False) as lab:
        assert lab.backout("db", "wal", "status").code == 0
        whole = next((lab.server.data_directory / "pg_wal").glob("*03")) if not stored else None
        content = whole.read_bytes() if whole is not None else b""
        _end(lab, "receiver", signal.SIGKILL)
        if whole is not None:
            (partial,) = lab.archive.glob("incoming/*/*04.partial")
            (partial.parent / whole.name).write_bytes(content)
        seen = []
        for _ in range(12):
            lab.execute("INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(1, 12000) g", "TRUNCATE t")
            lab.execute("CHECKPOINT")
            seen.append(lab.backout("db", "wal", "status").out)
        assert any("of max_slot_wal_keep_size for the receiver" in text for text in seen)
        assert "the slot is lost" in seen[-1]
        kept = sum(path.stat().st_size for path in (lab.server.data_directory / "pg_wal").iterdir() if path.is_file())
        assert kept < (LIMIT_MB + 6 * 16) << 20
        started = lab.backout("db", "wal", "start")
        assert started.code == 0, started.err
        until(lambda: len(read_gaps(lab.archive)) == 1, timeout_s=20.0, what="the gap is named")
        assert "pg_receivewal ended" not in (lab.archive / "receiver.log").read_text(encoding="utf-8")
        answer = lab.backout("db", "wal", "status")
        assert answer.code == 1
        assert "UNPROTECTED" in answer.out
        until(lambda: (found := read_status(lab.archive)) is not None and found.receiving, what="it receives again")
        assert lab.backout("db", "backup").code == 0
        until(lambda: lab.backout("db", "wal", "status").code == 0, what="it is protected again")
        assert "restorable" in lab.backout("db", "backups", "list").out


@pytest.mark.rotating("streaming of WAL", 3)
@pytest.mark.long
def test_wal_that_cannot_be_replayed_protects_nothing(quick_path: Path, cache: Path) -> None:
    """wal_level was `minimal` for a while: said by each command, until a new base backup is there."""
    with receiving(quick_path, cache) as lab:
        lab.execute("INSERT INTO t VALUES (1, 'good')")
        assert lab.backout("db", "wal", "stop").code == 0
        for name, value in (("wal_level", "minimal"), ("max_wal_senders", "0"), ("summarize_wal", "off")):
            lab.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        lab.status = lab.server.restart()
        said = " ".join(lab.backout("db", "wal", "status").out.split())
        assert "UNPROTECTED: wal_level is minimal" in said
        lab.execute("INSERT INTO t VALUES (2, 'minimal')", "ALTER SYSTEM RESET ALL")
        lab.status = lab.server.restart()
        within = str(lab.value("SELECT pg_current_wal_lsn()::text"))
        lab.execute("INSERT INTO t VALUES (3, 'later')")
        assert lab.backout("db", "wal", "start").code == 0
        until(lambda: lab.backout("db", "wal", "status", "--json").json["lag_bytes"] == 0, what="it is received")
        for words in (("wal", "status"), ("backups", "list"), ("check",)):
            answer = lab.backout("db", *words)
            assert answer.code == 1
            assert "UNPROTECTED: WAL cannot be replayed from" in " ".join(answer.out.split())
            assert 'wal_level was "minimal"' in " ".join(answer.out.split())
        refused = lab.backout("db", "restore", within, "--side", "--dry-run")
        assert refused.code == 3, refused.out
        assert lab.backout("db", "backup").code == 0
        until(lambda: lab.backout("db", "wal", "status").code == 0, timeout_s=20.0, what="it is protected again")
        assert lab.backout("db", "check").code == 0


@pytest.mark.rotating("streaming of WAL", 3)
@pytest.mark.long
def test_after_a_failover_the_old_timelines_partial_segment_is_no_hole(quick_path: Path, cache: Path) -> None:
    """The receiver had less of it than the server that was promoted; the new timeline's first segment has it all."""
    with receiving(quick_path, cache) as lab:
        lab.execute("INSERT INTO t VALUES (1, 'received')")
        until(lambda: lab.backout("db", "wal", "status", "--json").json["lag_bytes"] == 0, what="it is received")
        _end(lab, "receiver", signal.SIGKILL)
        lab.execute("INSERT INTO t VALUES (2, 'not received')", "INSERT INTO t VALUES (3, 'not received')")
        lab.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
        lab.server.stop()
        (lab.server.data_directory / "recovery.signal").touch()
        with (lab.server.data_directory / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
            file.write("restore_command = 'false'\nrecovery_target_timeline = 'latest'\n")
        lab.status = lab.server.start(port=lab.status.port)
        until(lambda: lab.value("SELECT NOT pg_is_in_recovery()"), timeout_s=30.0, what="it is promoted")
        for path in (lab.server.data_directory / "pg_wal").glob("00000001*"):
            path.unlink()  # only what is of the new timeline is still there
        assert lab.backout("db", "wal", "start").code == 0
        lab.execute("INSERT INTO t VALUES (4, 'on the new timeline')")
        until(lambda: (found := read_status(lab.archive)) is not None and found.receiving and found.timeline == 2
              and found.lag_bytes == 0, timeout_s=40.0, what="the new timeline is received")  # fmt: skip
        reached = lab.backout("db", "restore", "latest", "--side", "--json")
        assert reached.code == 0, reached.err
        with psycopg.connect(str(reached.json["side"]["dsn"])) as connection:  # type: ignore[index,call-overload]
            assert connection.execute("SELECT array_agg(n ORDER BY n) FROM t").fetchone() == ([1, 2, 3, 4],)
        lab.backout("db", "restore", "--drop-side", str(reached.json["side"]["name"]))  # type: ignore[index,call-overload]


@pytest.mark.rotating("streaming of WAL", 3)
@pytest.mark.long
def test_a_side_across_minimal_is_refused_before_anything_is_laid_out(quick_path: Path, cache: Path) -> None:
    """Nobody has read the WAL back since: the plan does, names where it ends, and nothing of it has to be resumed."""
    with receiving(quick_path, cache) as lab:
        lab.execute("INSERT INTO t VALUES (1, 'good')")
        before = str(lab.value("SELECT pg_current_wal_lsn()::text"))
        assert lab.backout("db", "wal", "stop").code == 0
        for name, value in (("wal_level", "minimal"), ("max_wal_senders", "0"), ("summarize_wal", "off")):
            lab.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        lab.status = lab.server.restart()
        lab.execute("INSERT INTO t VALUES (2, 'minimal')", "ALTER SYSTEM RESET ALL")
        lab.status = lab.server.restart()
        assert lab.backout("db", "wal", "start").code == 0
        lab.execute("INSERT INTO t VALUES (3, 'later')")
        within = str(lab.value("SELECT pg_current_wal_lsn()::text"))
        lab.execute("INSERT INTO t VALUES (4, 'much later')")
        until(lambda: lab.backout("db", "wal", "status", "--json").json["lag_bytes"] == 0, what="it is received")
        for words in ((within, "--side"), ("latest", "--side"), (within, "--side", "--dry-run")):
            for read in (lab.archive / "wal").rglob("read.json"):
                read.unlink()
            refused = lab.backout("db", "restore", *words)
            assert refused.code == 3, refused.err
            said = " ".join(refused.err.split())
            assert 'cannot be replayed: wal_level was "minimal"' in said
            assert "resume" not in said
        listed = lab.backout("db", "restore", "--list", "--json")
        assert listed.json["sides"] == []
        assert lab.backout("db", "restore", before, "--side", "--dry-run").code == 0
        assert lab.backout("db", "backup").code == 0
        lab.execute("INSERT INTO t VALUES (5, 'behind the new base')")
        until(lambda: lab.backout("db", "restore", "latest", "--side", "--dry-run").code == 0, what="it is reached")


@pytest.mark.rotating("streaming of WAL", 3)
@pytest.mark.long
def test_a_receiver_that_lags_is_no_promise_up_to_now(quick_path: Path, cache: Path) -> None:
    """Nothing of the last commits is here: each command says up to which one it can be brought back."""
    with receiving(quick_path, cache) as lab:
        lab.execute("INSERT INTO t VALUES (1, 'received')")
        at = str(lab.value("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24')"))
        until(lambda: lab.backout("db", "wal", "status", "--json").json["lag_bytes"] == 0, what="it is received")
        whole = lab.backout("db", "backups", "list", "--json").json["protection"]
        keeper = _pid(lab, "receiver")
        assert keeper is not None
        (receiver,) = children_named(keeper, "pg_receivewal")
        os.kill(receiver, signal.SIGSTOP)
        try:
            lab.execute("INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(2, 5000) g")
            for words in (("backups", "list"), ("wal", "status"), ("check",)):
                said = " ".join(lab.backout("db", *words).out.split())
                assert f"last commit {at}:" in said, said
                assert "bytes of WAL since are not received" in said, said
                assert "up to now" not in said
            found = lab.backout("db", "backups", "list", "--json").json["protection"]
            assert found["behind_bytes"] > 400_000  # type: ignore[index,call-overload]
            assert found["reaches_at"] == whole["reaches_at"]  # type: ignore[index,call-overload]
        finally:
            os.kill(receiver, signal.SIGCONT)


@pytest.mark.rotating("streaming of WAL", 3)
@pytest.mark.long
def test_a_full_disk_leaves_a_partial_segment_that_is_received_again(quick_path: Path, cache: Path) -> None:
    """Its length is odd, and pg_receivewal refuses it; what it holds is kept, and the rest comes behind it."""
    with receiving(quick_path, cache) as lab:
        lab.execute("INSERT INTO t VALUES (1, 'before')")
        until(lambda: lab.backout("db", "wal", "status", "--json").json["lag_bytes"] == 0, what="it is received")
        keeper = _pid(lab, "receiver")
        assert keeper is not None
        (receiver,) = children_named(keeper, "pg_receivewal")
        os.kill(keeper, signal.SIGSTOP)
        os.kill(receiver, signal.SIGKILL)
        until(lambda: not is_running(receiver), what="the receiver is gone")  # it renames a segment that is complete
        (partial,) = (lab.archive / "incoming").rglob("*.partial")
        end = len(partial.read_bytes().rstrip(b"\0"))
        os.truncate(partial, end + 100)
        os.kill(keeper, signal.SIGCONT)
        lab.execute("INSERT INTO t VALUES (2, 'after')")
        until(lambda: lab.backout("db", "wal", "status").code == 0, timeout_s=30.0, what="it is received again")
        until(lambda: lab.backout("db", "wal", "status", "--json").json["lag_bytes"] == 0, what="all of it is")
        assert recovered(lab, quick_path / "out") == {1, 2}


@pytest.mark.rotating("streaming of WAL", 3)
@pytest.mark.long
def test_latest_reaches_the_last_commit_that_was_acknowledged(quick_path: Path, cache: Path) -> None:
    """In synchronous mode the server is lost under load: a side at `latest` has every row, the last one included."""
    with receiving(quick_path, cache, "sync") as lab:
        until(
            lambda: lab.value("SHOW synchronous_standby_names") == "backout_lab",
            timeout_s=30.0,
            what="it is waited for",
        )
        with Load(lab.dsn) as load:
            until(lambda: load.count() > 150, timeout_s=60.0, what="there is load")
            kill_server(lab)
        answer = lab.backout("db", "restore", "latest", "--side", "--json")
        assert answer.code == 0, answer.err
        side = lab.backout("db", "restore", "--list", "--json").json["sides"][0]  # type: ignore[index]
        try:
            with psycopg.connect(side["dsn"]) as copy:
                found = {row[0] for row in copy.execute("SELECT n FROM t").fetchall()}
        finally:
            lab.backout("db", "restore", "--drop-side", side["name"])
        assert set(load.acknowledged) - found == set()


def whole_segments(archive: Path) -> list[Path]:
    """Return the segments that are kept, once there are two: received is not kept yet."""
    found = [path for path in (archive / "wal").rglob("0*") if path.is_file()]
    return found if len(found) >= 2 else []


@pytest.mark.long
def test_a_receiver_that_dies_is_started_again_and_misses_nothing(quick_path: Path, cache: Path) -> None:
    """pg_receivewal killed, and the server restarted: the slot keeps what was missed; segments are kept compressed."""
    with receiving(quick_path, cache) as lab:
        keeper = _pid(lab, "receiver")
        assert keeper is not None
        (receiver,) = children_named(keeper, "pg_receivewal")
        os.kill(receiver, signal.SIGKILL)
        lab.execute("INSERT INTO t SELECT g, repeat('x', 900) FROM generate_series(1, 40000) g")
        until(lambda: children_named(keeper, "pg_receivewal") not in ([], [receiver]), what="it is started again")
        lab.status = lab.server.restart()
        assert lab.status.port == int(lab.dsn.rpartition(":")[2].partition("/")[0])
        lab.execute("INSERT INTO t VALUES (-1, 'after')")
        until(lambda: lab.backout("db", "wal", "status").code == 0, timeout_s=30.0, what="it is up to date")
        until(lambda: (found := read_status(lab.archive)) is not None and found.restarts >= 2, what="both are counted")
        stored = until(lambda: whole_segments(lab.archive), what="whole segments are stored")
        assert sum(path.stat().st_size for path in stored) < len(stored) * SEGMENT / 4
        assert recovered(lab, quick_path / "out") == {-1, *range(1, 40001)}


def test_a_receiver_that_is_disconnected_again_and_again_does_not_wait_longer_each_time(
    quick_path: Path, cache: Path
) -> None:
    """It had received in between: a pause that grows is for a server that does not answer."""
    with receiving(quick_path, cache) as lab:
        for restarts in range(1, 4):
            lab.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
            until(lambda least=restarts: _has_restarted(lab, least), what="it receives again")
        text = (lab.archive / "receiver.log").read_text(encoding="utf-8")
        assert set(re.findall(r"trying again in (\S+) s", text)) == {"0.2"}


def _has_restarted(lab: Lab, times: int) -> bool:
    found = read_status(lab.archive)
    return found is not None and found.restarts >= times and found.receiving


@pytest.mark.rotating("streaming of WAL", 3)
@pytest.mark.long
def test_stop_drops_the_slot_and_run_is_busy_when_it_runs(quick_path: Path, cache: Path) -> None:
    """A second receiver is refused; after stop the server keeps nothing, and status says UNPROTECTED."""
    with receiving(quick_path, cache) as lab:
        assert lab.backout("db", "wal", "start", "--json").json["pid"] == _pid(lab, "receiver")
        stopped = lab.backout("db", "wal", "stop", "--json").json
        assert (stopped["stopped"], stopped["slot_dropped"]) == (True, True)
        assert lab.value("SELECT count(*) FROM pg_replication_slots") == 0
        again = lab.backout("db", "wal", "stop", "--json").json
        assert (again["stopped"], again["slot_dropped"]) == (False, False)
        answer = lab.backout("db", "wal", "status", "--json")
        assert answer.code == 1
        assert answer.json["running"] is False
        log = (lab.archive / "receiver.log").read_text(encoding="utf-8")
        assert "canary" not in log
        everything = b"".join(path.read_bytes() for path in lab.archive.glob("*") if path.is_file())
        assert b"canary" not in everything


@pytest.mark.rotating("streaming of WAL", 3)
@pytest.mark.long
def test_after_a_swap_to_an_earlier_moment_only_a_new_base_protects(quick_path: Path, cache: Path) -> None:
    """The server comes back on a new timeline, before what was received: said, and protected by a new base only."""
    with receiving(quick_path, cache) as lab:
        lab.execute("INSERT INTO t VALUES (1, 'good')")
        target = lab.value("SELECT pg_current_wal_insert_lsn()::text")
        lab.execute("INSERT INTO t SELECT g, repeat('x', 900) FROM generate_series(2, 30000) g")
        until(lambda: lab.backout("db", "wal", "status").code == 0, timeout_s=30.0, what="it is received")
        backup = max(path.name for path in (lab.archive / "base").iterdir())
        ends = {"recovery_target_lsn": str(target), "recovery_target_action": "promote"}
        limit = {"max_slot_wal_keep_size": f"{LIMIT_MB}MB"}
        swapped = restored(lab, backup, quick_path / "swapped", settings={**ends, **limit})
        lab.server.stop()
        lab.server = swapped
        lab.status = swapped.start(port=lab.status.port)
        until(lambda: lab.value("SELECT NOT pg_is_in_recovery()"), timeout_s=30.0, what="it is promoted")
        assert lab.value("SELECT count(*) FROM t") == 1
        answer = lab.backout("db", "wal", "status")
        assert answer.code == 1
        assert "UNPROTECTED: the newest base backup is of timeline 1, the cluster is on 2" in answer.out
        lab.execute("INSERT INTO t VALUES (2, 'after the swap')")
        until(lambda: (found := read_status(lab.archive)) is not None and found.receiving and found.timeline == 2,
              timeout_s=40.0, what="the new timeline is received")  # fmt: skip
        taken = lab.backout("db", "backup", "--json")
        assert taken.code == 0, taken.err
        assert taken.json["backup"]["kind"] == "full"  # type: ignore[index]
        until(lambda: lab.backout("db", "wal", "status").code == 0, timeout_s=20.0, what="it is protected again")
        lab.execute("INSERT INTO t VALUES (3, 'after the base')")
        until(lambda: lab.backout("db", "wal", "status", "--json").json["lag_bytes"] == 0, what="it is received")
        assert recovered(lab, quick_path / "again") == {1, 2, 3}


@pytest.mark.rotating("streaming of WAL", 3)
@pytest.mark.long
@pytest.mark.parametrize("slot", ["kept", "dropped"])
def test_after_the_undo_of_a_swap_the_older_timeline_has_no_unnamed_gap(
    quick_path: Path, cache: Path, slot: str
) -> None:
    """The branch in between went further; the older one goes on from its slot, or names what is lost."""
    with receiving(quick_path, cache) as lab:
        lab.execute("INSERT INTO t VALUES (1, 'good')")
        until(lambda: lab.backout("db", "wal", "status").code == 0, timeout_s=30.0, what="it is received")
        backup = max(path.name for path in (lab.archive / "base").iterdir())
        limit = {"max_slot_wal_keep_size": f"{LIMIT_MB}MB"}
        swapped = restored(lab, backup, quick_path / "swapped", settings=limit)
        left, port = lab.server, lab.status.port
        left.stop()
        lab.server, lab.status = swapped, swapped.start(port=port)
        until(lambda: lab.value("SELECT NOT pg_is_in_recovery()"), timeout_s=30.0, what="it is promoted")
        lab.execute("INSERT INTO t SELECT g, repeat('x', 900) FROM generate_series(2, 60000) g")
        until(lambda: (found := read_status(lab.archive)) is not None and found.receiving and found.timeline == 2,
              timeout_s=40.0, what="the branch is received")  # fmt: skip
        until(lambda: lab.backout("db", "wal", "status", "--json").json["lag_bytes"] == 0, what="all of it is")
        _end(lab, "receiver", signal.SIGKILL)
        swapped.stop(mode="immediate")
        lab.server, lab.status = left, left.start(port=port)
        if slot == "dropped":
            lab.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
            lab.execute("INSERT INTO t SELECT g, repeat('x', 900) FROM generate_series(2, 30000) g")
        lab.execute("INSERT INTO t VALUES (-1, 'on the older timeline')")
        assert lab.backout("db", "wal", "start").code == 0
        until(lambda: (found := read_status(lab.archive)) is not None and found.receiving and found.timeline == 1
              and found.lag_bytes == 0, timeout_s=40.0, what="the older timeline is received")  # fmt: skip
        answer = lab.backout("db", "wal", "status")
        gaps = [gap for gap in read_gaps(lab.archive) if gap.timeline == 1]
        if slot == "kept":
            assert (answer.code, gaps) == (0, []), answer.out
        else:
            assert len(gaps) == 1
            assert answer.code == 1
            assert "UNPROTECTED: " in answer.out
            refused = lab.backout(
                "db", "restore", str(lab.value("SELECT pg_current_wal_lsn()::text")), "--side", "--dry-run"
            )
            assert refused.code == 3
            assert "the archive has a hole" in refused.err


@pytest.mark.rotating("streaming of WAL", 3)
@pytest.mark.long
def test_over_tls_with_programs_that_have_none(quick_path: Path, cache: Path) -> None:
    """A server that wants TLS: backup and receiver go through the proxy, which verifies its certificate."""
    limit = {"max_slot_wal_keep_size": f"{LIMIT_MB}MB"}
    trusted = authority(quick_path / "ca")
    with (
        running_lab(quick_path / "pg", cache, limit) as lab,
        tls_front(lab.status.port, *trusted.issue(), offer_plus=False) as port,
    ):
        lab.configure('wal = "stream"', {"PATH": os.environ["PATH"]})
        lab.variables["DATABASE_URL"] = (
            f"host={HOST} hostaddr=127.0.0.1 port={port} user=postgres dbname=postgres password={PASSWORD} "
            f"sslmode=verify-full sslrootcert={trusted.root}"
        )
        started = lab.backout("db", "wal", "start")
        try:
            assert started.code == 0, started.err
            taken = lab.backout("db", "backup")
            assert taken.code == 0, taken.err
            lab.execute("CREATE TABLE t AS SELECT generate_series(1, 100000) AS n")
            until(lambda: lab.backout("db", "wal", "status").code == 0, timeout_s=20.0, what="it is received")
            until(lambda: lab.backout("db", "wal", "status", "--json").json["lag_bytes"] == 0, what="all of it is")
            assert lab.value("SELECT application_name FROM pg_stat_replication") == "backout_lab"
        finally:
            lab.backout("db", "wal", "stop")
        assert recovered(lab, quick_path / "out") == set(range(1, 100001))
