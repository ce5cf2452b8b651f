"""Rows are damaged on purpose: rescued from backups and WAL, found late, or beyond what the backups reach."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import time
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.errors import BackoutError
from backout.model.value import Value
from backout.private import make_private_folder, write_over
from backout.wiring.drills.data import WHY, tell
from backout.wiring.drills.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import LiteralString

    from backout.model.drill import Measured
    from backout.wiring.drills.deployment import Scene
    from backout.wiring.drills.ground import Ground
    from backout.wiring.drills.trial import Ended, Program

_PATIENCE_S: Final = 60.0
_POLL_S: Final = 0.5
_ORDERS: Final = 3
"""So many are confirmed before anything is damaged."""
_DAYS: Final = 3
_KEY_BYTES: Final = 32
_KEPT_WAL: Final = "'1GB'"


class Damage(Value, frozen=True):
    """One transaction that overwrote a column of orders.

    Args:
        transaction: its id.
        at: Unix seconds.
        before: the column before, by the order's id.
    """

    transaction: str
    at: float
    before: dict[object, object]


def make_backups(ground: Ground) -> dict[str, object]:
    """Return the tables of an environment whose database is backed up into a folder."""
    return {"database": _make_database(ground, {})}


def make_sealed_backups(ground: Ground) -> dict[str, object]:
    """Return the same with backups that are encrypted; the key is made."""
    make_private_folder(ground.planted)
    write_over(_find_key(ground), _make_key())
    return {"database": _make_database(ground, {"key_file": str(_find_key(ground))})}


def _make_database(ground: Ground, more: dict[str, object]) -> dict[str, object]:
    folder = ground.directory / "backups"
    shutil.rmtree(folder, ignore_errors=True)  # of other drills, without a key or with another one
    url = str(ground.directory / "stage" / "database-url")
    backup = {"directory": str(folder), "wal": "stream", **more}
    return {"provider": "postgres", "url_file": url, "migrations": "prisma", "backup": backup}


def _find_key(ground: Ground) -> Path:
    return ground.planted / "backup-key"


def _make_key() -> bytes:
    return base64.b64encode(os.urandom(_KEY_BYTES))


def perform_corrupted_rows(scene: Scene) -> Measured:
    """Overwrite a column of all orders, and rescue the rows while the application goes on writing.

    Raises:
        BackoutError: the backups that this rests on could not be made.
    """
    with backed_up(scene), Witness(scene.ground.stage) as witness:
        damage = write_over_rows(scene, witness)
        began = time.time()
        ended = _rescue(scene, damage.transaction)
        restored_at = time.time()
    return _tell_rows(scene, ended, damage, (began, restored_at), witness)


def perform_late_find(scene: Scene) -> Measured:
    """Overwrite a column of all orders, go on for days as if nothing were wrong, and rescue what was overwritten.

    A day is a segment of WAL and a backup, which has the damage in it. Some of the orders are changed meanwhile: what
    was changed stays as it is.

    Raises:
        BackoutError: as `perform_corrupted_rows`; nobody could find the transaction.
    """
    stage = scene.ground.stage
    with backed_up(scene), Witness(stage) as witness:
        damage = write_over_rows(scene, witness)
        changed = min(damage.before, key=str)
        for day in range(1, _DAYS + 1):
            stage.query("UPDATE public.orders SET note = %s WHERE id = %s", f"changed on day {day}", changed)
            stage.query("SELECT pg_switch_wal()")
            scene.say(f"day {day}: other transactions, and a backup with the damage in it")
            _take_backup(scene)
        began = time.time()
        ended = _rescue(scene, _find_transaction(scene))
        restored_at = time.time()
    measured = _tell_rows(scene, ended, damage, (began, restored_at), witness)
    ((note,),) = stage.query("SELECT note FROM public.orders WHERE id = %s", changed)
    if note != f"changed on day {_DAYS}":
        raise BackoutError(f"what was changed since the damage is lost: {note}", where=scene.drill.name)
    return measured


def perform_wal_gap(scene: Scene) -> Measured:
    """Damage rows while no WAL is received and the server throws its own away: no backup reaches that moment.

    Afterwards a new base backup has to protect the database again.

    Raises:
        BackoutError: as `perform_corrupted_rows`; the database is not protected again.
    """
    stage = scene.ground.stage
    with backed_up(scene) as receiver, Witness(stage) as witness:
        receiver.kill()
        _limit_kept_wal(scene, "'1MB'")
        damage = write_over_rows(scene, witness)
        for _ in range(_DAYS):
            stage.query("SELECT pg_switch_wal()")
            stage.query("CHECKPOINT")
        _limit_kept_wal(scene, _KEPT_WAL)
        scene.say("the server threw away WAL that nobody had received")
        scene.trial.start("db", "wal", "run", "--json")
        _await_wal(scene, "received again", lambda ended: ended.record.get("receiving") is True)
        began = time.time()
        ended = scene.trial.run("db", "restore", damage.transaction, *WHY, "--json")
        restored_at = time.time()
        _await_new_base(scene)
    return _tell_rows(scene, ended, damage, (began, restored_at), witness)


def perform_lost_key(scene: Scene) -> Measured:
    """Lose the key of the backups before rows are damaged; afterwards a new key has to protect the database again.

    Raises:
        BackoutError: as `perform_wal_gap`.
    """
    with backed_up(scene) as receiver, Witness(scene.ground.stage) as witness:
        receiver.kill()
        write_over(_find_key(scene.ground), _make_key())
        scene.say("lost the key; there is another one")
        damage = write_over_rows(scene, witness)
        began = time.time()
        ended = scene.trial.run("db", "restore", damage.transaction, *WHY, "--json")
        restored_at = time.time()
        scene.trial.start("db", "wal", "run", "--json")
        _await_new_base(scene)
    return _tell_rows(scene, ended, damage, (began, restored_at), witness)


@contextlib.contextmanager
def backed_up(scene: Scene) -> Iterator[Program]:
    """Have WAL received until the block ends, and a base backup; yields the receiver.

    Raises:
        BackoutError: there is no base backup.
    """
    trial = scene.trial
    _limit_kept_wal(scene, _KEPT_WAL)
    receiver = trial.start("db", "wal", "run", "--json")
    try:
        _take_backup(scene)
        yield receiver
    finally:
        trial.kill_running()
        if not trial.is_closed:
            trial.run("db", "wal", "stop", "--json")


def _take_backup(scene: Scene) -> None:
    taken = scene.trial.run("db", "backup", "--full", "--json")
    if taken.code != 0:
        raise BackoutError(f"no base backup: {taken.err.strip()[-500:]}", where=scene.drill.name)
    scene.say("took a base backup")


def write_over_rows(scene: Scene, witness: Witness) -> Damage:
    """Overwrite a column of all confirmed orders in one transaction: the application has no more to write to them.

    Raises:
        BackoutError: there is none.
    """
    stage = scene.ground.stage
    while len(witness.rows) < _ORDERS:
        time.sleep(_POLL_S)
    damaged_at = time.time()
    rows = stage.query(
        "WITH old AS (SELECT id, total_cents FROM public.orders WHERE confirmed_at IS NOT NULL FOR UPDATE), "
        "bad AS (UPDATE public.orders o SET total_cents = -1 FROM old WHERE o.id = old.id RETURNING old.*) "
        "SELECT pg_current_xact_id()::text, id, total_cents FROM bad"
    )
    if not rows:
        raise BackoutError("no order was confirmed that could be overwritten", where=scene.drill.name)
    scene.say(f"overwrote {len(rows)} rows")
    return Damage(str(rows[0][0]), damaged_at, {key: total for _, key, total in rows})


def count_wrong(scene: Scene, damage: Damage) -> int:
    """Return how many of the overwritten rows are not as they were."""
    now = {row[0]: row[1] for row in scene.ground.stage.query("SELECT id, total_cents FROM public.orders")}
    return sum(now.get(key) != total for key, total in damage.before.items())


def _tell_rows(scene: Scene, ended: Ended, damage: Damage, times: tuple[float, float], witness: Witness) -> Measured:
    loss = witness.measure_loss()
    found = replace(loss, rows=(loss.rows or 0) + count_wrong(scene, damage))
    return tell(scene, ended, (damage.at, *times), found)


def _rescue(scene: Scene, transaction: str) -> Ended:
    """Rescue what a transaction damaged; its WAL is received in some seconds, as the refusal says before that."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        ended = scene.trial.run("db", "restore", transaction, *WHY, "--json")
        if ended.record.get("rule") != "preflight" or time.monotonic() > until:
            return ended
        time.sleep(_POLL_S)


def _find_transaction(scene: Scene) -> str:
    """Return the transaction that wrote the most orders, as a person finds it."""
    found = scene.trial.run("db", "transactions", "--table", "orders", "--json").record.get("transactions")
    rows = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    if not rows:
        raise BackoutError("no transaction that wrote orders is listed", where=scene.drill.name)
    return str(max(rows, key=_count_updated)["xid"])


def _count_updated(transaction: dict[str, object]) -> int:
    tables = transaction.get("tables")
    rows = [each for each in tables if isinstance(each, dict)] if isinstance(tables, list) else []
    return sum(int(each.get("updated") or 0) for each in rows)


def _limit_kept_wal(scene: Scene, size: LiteralString) -> None:
    """Have the server keep so much WAL for a receiver that is gone."""
    scene.ground.stage.query("ALTER SYSTEM SET max_slot_wal_keep_size = " + size)
    scene.ground.stage.query("SELECT pg_catalog.pg_reload_conf()")


def _await_wal(scene: Scene, what: str, is_so: Callable[[Ended], bool]) -> None:
    """Return when `db wal status` says so. Raises BackoutError: it does not come to that."""
    until = time.monotonic() + _PATIENCE_S
    while not is_so(ended := scene.trial.run("db", "wal", "status", "--json")):
        if time.monotonic() > until:
            raise BackoutError(f"not {what}: {ended.out.strip()[-500:]}", where=scene.drill.name)
        time.sleep(_POLL_S)


def _await_new_base(scene: Scene) -> None:
    """Take the base backup from which on the database is protected again. Raises BackoutError: it is not."""
    _take_backup(scene)
    _await_wal(scene, "protected again", lambda ended: ended.code == 0)
