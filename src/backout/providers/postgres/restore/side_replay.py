"""Brings a side instance to its target: watches the replay, and restarts it where the WAL requires larger settings."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping  # noqa: TC003 - msgspec reads it
from typing import TYPE_CHECKING, Final

from msgspec import field

from backout.decoding import decode_json
from backout.errors import BackoutError
from backout.model.database.recovery import SideOrder, SideState
from backout.model.database.wal import parse_lsn
from backout.model.names import is_id, is_wal_file
from backout.model.value import Value
from backout.providers.postgres.restore.side_files import read_boot_id, read_text
from backout.providers.postgres.restore.side_settings import NEEDED, find_lacked
from backout.providers.postgres.server.session import open_working, reading

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from pathlib import Path

    from backout.providers.postgres.server.launcher import PostgresServer, ServerStatus

TIMEOUT_S: Final = 3600.0
_POLL_S: Final = 0.05
_LOOK_S: Final = 60.0
_LONGEST_REASON: Final = 300
_PROMOTED_S: Final = 600.0
_PROMOTION_POLL_S: Final = 0.01
_STOPPED: Final = "recovery stopping"
"""In the log when replay has come to its target; a standby may pause for other reasons."""


HOW: Final = frozenset({"overlay", "reflink", "copy"})
"""How the files of an instance come to be there."""
_NO_SUPERUSER: Final = "permission denied to set parameter"
_NO_LOGIN: Final = re.compile(r"FATAL: +(role|database) \".{1,64}\" (does not exist|is not permitted to log in)")


class Unopenable(BackoutError):
    """An instance that can never be asked how far it is."""


class Laid(Value, frozen=True):
    """The layout of a side instance, as recorded in its folder.

    Args:
        boot: the boot of the machine in which it was made; "" when all of it has reached the disk since.
        least: how large settings have to be that replay wants as large as on the origin, see `side_settings.NEEDED`.
    """

    order: SideOrder
    superuser: str
    how: str
    lower: str
    boot: str = ""
    least: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, place: str, bases: Path) -> Laid | None:
        """Return what a folder tells, None where there is no instance, or none that was laid out here.

        Args:
            place: where its data directory stands if not in the folder: what the file says counts only if it is that.
            bases: where the bases lie over which instances are laid.

        Raises:
            Undecodable: the file is damaged.
        """
        try:
            content = (folder / "laid.json").read_bytes()
        except OSError:
            return None
        found = decode_json(content, cls, what="laid.json", where=str(folder))
        order, lower = found.order, str(bases / found.order.backup) if found.how == "overlay" else ""
        names = order.name == folder.name and is_id(order.backup) and all(map(is_wal_file, order.wal))
        is_ours = order.place in {"", place} and found.lower == lower and found.how in HOW
        return found if names and is_ours and found.least.keys() <= NEEDED.keys() else None

    @property
    def is_whole(self) -> bool:
        """Whether its files are what was written: an instance syncs nothing, so a crash of the machine ends it."""
        return self.boot in {"", read_boot_id()}


def replay(
    server: PostgresServer,
    laid: Laid,
    dsn_of: Callable[[ServerStatus], str],
    progress: Callable[[str, int, int], None],
    brought: Future[None],
) -> tuple[ServerStatus, tuple[SideState, int]] | None:
    """Start an instance and return it at its target; None when the WAL wants larger settings than it has.

    Args:
        brought: when all of its WAL is there, or why it is not.

    Raises:
        BackoutError: it does not start, or replay ended before the target; Postgres is quoted.
    """
    try:
        status = server.status() or server.start(timeout_s=TIMEOUT_S)
    except BackoutError:
        if _lacks(server, laid):
            return None
        raise
    looked = _await_target(server, laid, dsn_of(status), progress, brought)
    return None if looked is None else (status, looked)


def look_at_replay(dsn: str, server: PostgresServer) -> tuple[SideState, int]:
    """Return its state and how far it has replayed; (REPLAYING, 0) while it takes no connections yet.

    Raises:
        Unopenable: the role is no superuser in it, is not there, or may not log in. Until replay has come to its target
            a role that was made since the base is not there yet.
    """
    import psycopg

    query = (
        "SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() END, "
        "pg_last_wal_replay_lsn()"
    )
    # Before the connection is refused, or the log may speak of a target that was reached only after that.
    stopped_before = _STOPPED in read_text(server.log_file)
    try:
        with reading(dsn, statement_timeout_s=_LOOK_S) as connection:
            row = connection.execute(query).fetchone()
    except (psycopg.OperationalError, UnicodeError) as error:  # it starts, and has not said yet where its socket is
        if _NO_SUPERUSER in str(error):
            what = "the copy cannot be opened: the role of the connection string is no superuser in it"
            hint = "name a superuser of the cluster in database.admin_url_env"
            raise Unopenable(what, where=str(server.data_directory), hint=hint) from None
        refused = _NO_LOGIN.search(str(error))
        if refused is not None and stopped_before:
            what = f"the copy is at its target and cannot be opened: {refused[0][:_LONGEST_REASON]}"
            hint = "name a superuser that the cluster had then in database.admin_url_env"
            raise Unopenable(what, where=str(server.data_directory), hint=hint) from None
        return SideState.REPLAYING, 0
    assert row is not None
    replayed = parse_lsn(row[2]) if row[2] else 0
    if not row[0]:
        return SideState.PROMOTED, replayed
    there = row[1] == "paused" and _STOPPED in read_text(server.log_file)
    return (SideState.PAUSED if there else SideState.REPLAYING), replayed


class Looks:
    """What was seen last of each instance, so that a command connects to it once.

    One that waits at its target stays so while its server runs, unless it is promoted; one that was promoted, too.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, tuple[SideState, int]]] = {}

    def look(self, name: str, dsn: str, server: PostgresServer, status: ServerStatus) -> tuple[SideState, int]:
        """Return its state and how far it has replayed.

        What cannot be asked counts as replaying: the command that starts it reports that; here it can be dropped.
        """
        pid, looked = self._known.get(name, (0, (SideState.REPLAYING, 0)))
        if pid == status.pid and looked[0] is not SideState.REPLAYING:
            return looked
        try:
            looked = look_at_replay(dsn, server)
        except BackoutError:
            looked = SideState.REPLAYING, 0
        self._known[name] = status.pid, looked
        return looked

    def forget(self, name: str) -> None:
        """Have it asked the next time."""
        self._known.pop(name, None)


def end_recovery(dsn: str, state: SideState) -> None:
    """Have a server take writes, which is over when this returns.

    One that waits at its target ends its recovery as soon as it is resumed (PostgreSQL, `recovery_target_action`), with
    a checkpoint, which syncs nothing here; it would notice a promotion only when its sleep of a second is over.

    Args:
        state: what it is in now.

    Raises:
        BackoutError: it is still in recovery ten minutes later.
    """
    with open_working(dsn) as connection:
        if state is SideState.REPLAYING:
            connection.execute("SELECT pg_promote(true, %s)", (int(_PROMOTED_S),))
        elif state is SideState.PAUSED:
            connection.execute("SELECT pg_wal_replay_resume()")
        deadline = time.monotonic() + _PROMOTED_S
        while connection.execute("SELECT pg_is_in_recovery()").fetchone() != (False,):
            if time.monotonic() > deadline:
                raise BackoutError("it is still in recovery", where="side instance")
            time.sleep(_PROMOTION_POLL_S)


def _lacks(server: PostgresServer, laid: Laid) -> bool:
    """Whether its log names a setting that was raised on the origin since, and that it was not started with."""
    wanted = find_lacked(read_text(server.log_file))
    return any(value > laid.least.get(name, 0) for name, value in wanted.items())


def _await_target(
    server: PostgresServer,
    laid: Laid,
    dsn: str,
    progress: Callable[[str, int, int], None],
    brought: Future[None],
) -> tuple[SideState, int] | None:
    """Return its state and how far it has replayed, once it is not replaying any more; None: see `replay`."""
    order, begin = laid.order, 0
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        state, replayed = look_at_replay(dsn, server)
        if state is not SideState.REPLAYING:
            return state, replayed
        begin = begin or replayed
        if begin:
            progress("replaying", replayed - begin, max(order.lsn - begin, 1))
        if brought.done():
            brought.result()
        if _lacks(server, laid):
            return None  # replay waits for ever, or has just ended
        if server.status() is None:
            said = read_text(server.log_file)[-1500:].strip()
            raise BackoutError(f"replay ended before its target: {said}", where=str(server.data_directory))
        time.sleep(_POLL_S)
    raise BackoutError("replay did not come to its target in time", where=str(server.data_directory))
