"""Public post-mortems at small scale: the mechanism of each, on real parts (docs/research/post-mortems.md)."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import signal
import threading
import time
from typing import TYPE_CHECKING, Final, Self

import psycopg
from msgspec.structs import replace

from backout.analysis.drills import find_bad
from backout.analysis.history.remarks import drop_remarks
from backout.decoding import decode_values
from backout.errors import BackoutError
from backout.model.deployment import Share
from backout.model.drill import DrillAction, Loss, Measured
from backout.model.version import VersionId
from backout.private import make_private_folder, write_over
from backout.providers.child import find_free_ports, find_unprivileged_prefix
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer
from backout.wiring.drills.data import tell
from backout.wiring.drills.deployment import (
    Scene,
    broken_after,
    deploy,
    make_bad,
    measure,
    start_guard,
)
from backout.wiring.drills.witness import Witness

if TYPE_CHECKING:
    from backout.twin.stage import Stage
    from backout.wiring.drills.ground import Ground

_OLD: Final = "post-mortem/flag-wakes-dead-code"
_ON_NEW: Final = 88.0
"""Seven of eight servers, in percent."""
_DATABASE: Final = "post-mortem"
_JUST_S: Final = 1.0
"""What was confirmed so shortly before the loss may be lost, as docs/backups.md says of a stream."""
_ROWS_BEFORE: Final = 20
_PATIENCE_S: Final = 60.0
_SETTINGS: Final = {
    "shared_buffers": "16MB",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_slot_wal_keep_size": "1GB",
}
_WHY: Final = ("-m", "a drill", "--confirm", "production")


def perform_github(scene: Scene) -> Measured:
    """Have two guards, which know nothing of each other, decide while the API is away: one switch is to come of it.

    Raises:
        BackoutError: as `measure`; it was switched more than once, or back and forth.
    """
    ground = scene.ground
    other = Scene(ground, scene.drill, ground.make_trial(scene.drill.file.watch), scene.visitors, scene.say)
    sides = (scene, other)
    try:
        guards = [start_guard(side) for side in sides]
        with Witness(ground.stage) as witness:
            version, since = deploy(scene)
            for guard in guards:
                guard.await_words('"type":"tick"')
            with broken_after(scene):
                ended = [guard.await_end() for guard in guards]
            acted = next((number for number, each in enumerate(ended) if each.record.get("action") == "rollback"), None)
            if acted is None:
                scene.say("neither could act while the API was away; the same command again on the first side")
                acted, ended[0] = 0, scene.trial.run("guard", "--mode", "act", "--json")
    finally:
        other.trial.close()
    history = drop_remarks(scene.trial.tools().deployments.history())
    made = [each for each in history if each.created_at > since]
    scene.say(f"{len(made)} switch; exit codes {', '.join(str(each.code) for each in ended)}")
    if [each.sole for each in made] != [ground.good]:
        shown = ", ".join(each.main[:8] for each in made)
        raise BackoutError(f"one switch was to come of it, and these were made: {shown}", where=scene.drill.name)
    found = measure(sides[acted], ended[acted], version, since, witness.measure_loss())
    said = ended[1 - acted].record
    return replace(found, detail=f"{found.detail}; the other side: {said.get('action') or said.get('what')}")


def perform_knight(scene: Scene) -> Measured:
    """Leave an eighth of the traffic to old code, in which a flag wakes what lay dead; a person ends the split.

    Raises:
        BackoutError: as `measure`; guard went back to the old code.
    """
    stage, tools = scene.ground.stage, scene.trial.tools()
    stage.query("CREATE TABLE IF NOT EXISTS public.flags (name text PRIMARY KEY)")
    new = scene.ground.home.deploy(scene.drill.file.deploy.variant)
    old = scene.ground.home.deploy(_OLD)
    try:
        scene.ground.await_past(tools, scene.drill, old)
        guard = start_guard(scene)
        with Witness(stage) as witness:
            shares = (Share(VersionId(new), _ON_NEW), Share(VersionId(old), 100 - _ON_NEW))
            since = tools.deployments.deploy(shares, message="seven of eight", force=True).created_at
            stage.query("INSERT INTO public.flags VALUES ('retail')")
            scene.say("deployed to seven of eight, and set the flag")
            ended = guard.await_end()
            live = tools.deployments.history()[0]
            if live.sole == old:
                raise BackoutError("guard went back to the code that the flag wakes", where=scene.drill.name)
            tools.deployments.activate(new, message="the eighth as well", force=True)
            whole_at = time.time()
            time.sleep(_JUST_S)
        children, lasted_s = _count_children(stage)
    finally:
        stage.query("DELETE FROM public.orders WHERE note = 'child'")
        stage.query("DROP TABLE public.flags")
        scene.ground.mark_disturbed()
    loss = witness.measure_loss()
    bad = find_bad(scene.visits, make_bad(scene.drill.file.bad, old), since, whole_at)
    return Measured(
        action=DrillAction.NONE if ended.record.get("action") in ("stable", "hold", "accept") else DrillAction.ROLLBACK,
        rto_s=None if lasted_s is None else round(lasted_s, 3),
        rpo=replace(loss, rows=(loss.rows or 0) + children),
        bad_requests=len(bad),
        requests=sum(visit.at >= since for visit in scene.visits),
        detail=f"guard: {ended.record.get('action')}; {children} orders that nobody gave; {ended.record.get('reason')}",
    )


def make_own_database(ground: Ground) -> dict[str, object]:
    """Return the table `database` of an environment with a server of its own, which has no backup yet."""
    folder = ground.directory / _DATABASE
    shutil.rmtree(folder, ignore_errors=True)
    make_private_folder(folder)
    write_over(folder / "url", b"")
    (port,) = find_free_ports(1)
    write_over(folder / "port", str(port).encode())
    control = (*find_unprivileged_prefix(), find_binaries().path("pg_ctl"), "-D", str(folder / "data"), "-w")
    server = {
        "data_directory": str(folder / "data"),
        "start": shlex.join((*control, "-l", str(folder / "log"), "start")),
        "stop": shlex.join((*control, "-m", "fast", "stop")),
    }
    backup = {"directory": str(folder / "backups"), "wal": "stream"}
    return {"database": {"provider": "postgres", "url_file": str(folder / "url"), "server": server, "backup": backup}}


def perform_gitlab(scene: Scene) -> Measured:
    """Remove the live database's data directory, and bring everything back from base backup and WAL.

    Raises:
        BackoutError: nobody was told that nothing protects the database; what the recovery rests on could not be made.
    """
    folder, trial = scene.ground.directory / _DATABASE, scene.trial
    port, password = int((folder / "port").read_text(encoding="ascii")), secrets.token_hex(12)
    server = PostgresServer(folder / "data", find_binaries(), log_file=folder / "first.log")
    server.create(settings={**_SETTINGS, "port": str(port)})
    server.start(port=port, password=password)
    dsn = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
    write_over(folder / "url", dsn.encode())
    try:
        _demand(trial.run("db", "backups", "list", "--json").code == 1, "nobody was told that there is no backup")
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE projects (id int PRIMARY KEY)")
        receiver = trial.start("db", "wal", "run", "--json")
        taken = trial.run("db", "backup", "--full", "--json")
        _demand(taken.code == 0, f"no base backup: {taken.err.strip()[-500:]}")
        until = time.monotonic() + _PATIENCE_S
        while trial.run("db", "backups", "list", "--json").code != 0:  # WAL arrives in some seconds
            _demand(time.monotonic() < until, "the backup is there, and nothing is protected")
        scene.say("took a base backup; WAL is received")
        with _Writer(dsn) as writer:
            writer.await_rows(_ROWS_BEFORE)
            lost_at = time.time()
            _remove(server)
        scene.say(f"removed the data directory, {len(writer.confirmed)} rows were confirmed")
        receiver.kill()
        began = time.time()
        ended = trial.run("db", "restore", "latest", "--swap", "--also-back", "unknown", *_WHY, "--json")
        restored_at = time.time()
        with psycopg.connect(dsn, autocommit=True) as connection:
            there = {row[0] for row in connection.execute("SELECT id FROM projects")}
    finally:
        server.stop(mode="immediate")
    missing = [at for number, at in writer.confirmed.items() if number not in there]
    older = [at for at in missing if at < lost_at - _JUST_S]
    found = tell(scene, ended, (lost_at, began, restored_at), Loss(len(older), 0, _measure_span(missing, lost_at)))
    return replace(found, detail=f"{found.detail}; {len(missing)} of {len(writer.confirmed)} rows are not there")


def _measure_span(missing: list[float], lost_at: float) -> float:
    """Return how long before the loss the oldest row was confirmed that is not there, in seconds."""
    return round(max(lost_at - min(missing), 0.0), 3) if missing else 0.0


def _demand(holds: bool, what: str) -> None:
    if not holds:
        raise BackoutError(what, where="the drill")


def _remove(server: PostgresServer) -> None:
    """Remove the data directory of a running server; what is left of the server ends, and an empty folder stays."""
    status = server.status()
    shutil.rmtree(server.data_directory)
    if status is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(status.pid, signal.SIGQUIT)
    make_private_folder(server.data_directory)


class _Writer:
    """Inserts rows one after the other until the block ends, and remembers which were confirmed, and when."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write, name="writer", daemon=True)
        self.confirmed: dict[int, float] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def await_rows(self, number: int) -> None:
        """Return when so many more rows were confirmed. Raises BackoutError: they are not."""
        wanted, until = len(self.confirmed) + number, time.monotonic() + _PATIENCE_S
        while len(self.confirmed) < wanted:
            if time.monotonic() > until or not self._thread.is_alive():
                raise BackoutError("no row is written", where="the drill's database")
            time.sleep(0.05)

    def _write(self) -> None:
        with contextlib.suppress(psycopg.Error), psycopg.connect(self._dsn, autocommit=True) as connection:
            number = 0
            while not self._over.wait(0.05):
                number += 1
                connection.execute("INSERT INTO projects (id) VALUES (%s)", (number,))
                self.confirmed[number] = time.time()


def _count_children(stage: Stage) -> tuple[int, float | None]:
    """Return how many orders nobody gave, and for how many seconds they came."""
    found = stage.query(
        "SELECT count(*)::int, extract(epoch FROM max(created_at) - min(created_at))::float8 "
        "FROM public.orders WHERE note = 'child'"
    )
    return decode_values(found[0], tuple[int, float | None])
