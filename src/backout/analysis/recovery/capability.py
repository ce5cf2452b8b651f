"""Which ways to recover are open, what each lacks, and which path is chosen; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.extras import describe_install
from backout.model.database.capability import (
    Choice,
    Granularity,
    Lack,
    Readiness,
    RecoveryPath,
    RecoveryWay,
    Surroundings,
    Window,
)

if TYPE_CHECKING:
    from backout.model.database.capability import Archiver, ServerFacts, Slot, VendorWay
    from backout.model.database.recovery import BaseBackup

_MUCH_WAL: Final = 1024**3
_NEARLY_ALL: Final = 0.9
_INCREMENTAL_SINCE: Final = 17
_OWN, _PGBACKREST, _DUMPS = "own backups", "pgBackRest", "dumps"


def choose(around: Surroundings) -> Choice:
    """Return every way, the best first, and the path of the best one that is ready."""
    ways = [_make_own_way(around)]
    ways += [_make_pgbackrest_way(around.pgbackrest)] if around.pgbackrest is not None else []
    ways += [_make_vendor_way(each, around.environment) for each in around.vendor.ways] if around.vendor else []
    ways += [_make_dumps_way(around)]
    managed_first = around.vendor is not None
    ranked = tuple(sorted(ways, key=lambda way: _rank(way, managed_first=managed_first)))
    best = ranked[0]
    if best.readiness is Readiness.READY:
        where = "overwrites the live database" if best.in_place else "makes a new database beside the live one"
        why = f"{best.name}: ready, to {_describe_exactness(best.granularity)}, and it {where}"
        return Choice(ranked, best.path, why, list_warnings(around))
    nearest = next((way for way in ranked if way.readiness is Readiness.POSSIBLE and way.lacks), None)
    why = "nothing can be recovered from here yet"
    if nearest is not None:
        why += f"; nearest: {nearest.name}, which lacks: {nearest.lacks[0].what}"
    return Choice(ranked, None, why, list_warnings(around))


def find_window(backups: tuple[BaseBackup, ...]) -> Window:
    """Return what base backups alone can reach (their WAL reaches further)."""
    if not backups:
        return Window()
    return Window(len(backups), min(each.ended_at for each in backups), max(each.ended_at for each in backups))


def _rank(way: RecoveryWay, *, managed_first: bool) -> tuple[int, int, bool, bool]:
    return (
        list(Readiness).index(way.readiness),
        list(Granularity).index(way.granularity),
        way.in_place,
        (way.path is RecoveryPath.MANAGED) is not managed_first,
    )


def _describe_exactness(granularity: Granularity) -> str:
    words = {
        Granularity.LSN: "the exact commit",
        Granularity.MICROSECOND: "the microsecond",
        Granularity.SECOND: "the second",
        Granularity.SNAPSHOT: "the moment of its last copy",
    }
    return words[granularity]


def _make_own_way(around: Surroundings) -> RecoveryWay:
    lacks = [*_list_tool_lacks(around), *_list_server_lacks(around)]
    if around.own.problem:
        lacks.append(Lack(around.own.problem))
    elif not around.own.copies:
        if around.wal not in ("", "off") and around.is_receiving is False:
            first = "WAL is not being received, and a backup without the WAL after it leads to no later moment"
            lacks.append(Lack(first, f"backout db wal start -e {around.environment}"))
        lacks.append(Lack("there is no base backup yet", f"backout db backup -e {around.environment}"))
    # What is backed up already can be restored, whatever the server says now.
    ready = around.own.copies > 0 and not _list_tool_lacks(around) and not around.own.problem
    return RecoveryWay(
        _OWN,
        RecoveryPath.OWN,
        Readiness.READY if ready else _judge_readiness(lacks),
        Granularity.SNAPSHOT if around.wal == "off" else Granularity.LSN,
        in_place=False,
        keeps_old=True,
        earliest=around.own.earliest,
        latest=around.own.latest,
        lacks=tuple(lacks),
        note=(
            "base backups alone: WAL is not received (database.backup.wal); once it is received, a new backup is needed"
            if around.wal == "off"
            else "base backups and WAL; a side instance first, then rescue or swap"
        ),
    )


def _judge_readiness(lacks: list[Lack]) -> Readiness:
    return Readiness.POSSIBLE if all(lack.line for lack in lacks) else Readiness.CLOSED


def _list_tool_lacks(around: Surroundings) -> list[Lack]:
    tools, facts = around.tools, around.facts
    if not tools.version:
        return [Lack("Postgres's own programs are not here", describe_install("database"))]
    if facts is not None and tools.major != facts.server_version // 10_000:
        major = facts.server_version // 10_000
        what = (
            f"the programs are of {tools.version}, the server is {major}: a base backup runs on its own version alone"
        )
        return [Lack(what, f'database.binaries = "/usr/lib/postgresql/{major}/bin"')]
    return []


def _list_server_lacks(around: Surroundings) -> list[Lack]:
    facts = around.facts
    if facts is None:
        return [Lack(f"the database cannot be asked: {around.problem}", "check the connection string")]
    lacks: list[Lack] = []
    if facts.pooler.name:
        what = f"{facts.pooler.name} stands in between, and replication needs the server's own address"
        lacks.append(Lack(what, 'database.admin_url_env = "DATABASE_ADMIN_URL"'))
    elif facts.replication.granted is False:
        at_vendor = around.vendor is not None
        line = "" if at_vendor else f'ALTER ROLE "{facts.user}" REPLICATION;'
        closed = "the vendor does not allow replication" if at_vendor else "the role may not replicate"
        lacks.append(Lack(f"{closed}: {facts.replication.why}", line))
    elif facts.replication.granted is None:
        lacks.append(Lack(f"replication could not be tried: {facts.replication.why}", "backout db check"))
    if facts.settings.get("wal_level") == "minimal":
        lacks.append(Lack("wal_level is minimal", "ALTER SYSTEM SET wal_level = 'replica';  -- then a restart"))
    if facts.settings.get("max_wal_senders") == "0":
        lacks.append(Lack("max_wal_senders is 0", "ALTER SYSTEM SET max_wal_senders = 10;  -- then a restart"))
    return lacks


def _make_pgbackrest_way(window: Window) -> RecoveryWay:
    ready = window.copies > 0 and not window.problem
    lacks = () if ready else (Lack(window.problem or "its repository holds no backup", "pgbackrest info"),)
    return RecoveryWay(
        _PGBACKREST,
        RecoveryPath.OWN,
        Readiness.READY if ready else Readiness.POSSIBLE,
        Granularity.LSN,
        in_place=False,
        keeps_old=True,
        earliest=window.earliest,
        latest=window.latest,
        lacks=lacks,
        note="the existing repository, restored to a side directory",
    )


def _make_vendor_way(way: VendorWay, environment: str) -> RecoveryWay:
    lacks = (Lack(way.missing, f"{way.line} -e {environment}" if way.line else ""),) if way.missing else ()
    if not way.has_client:
        lacks = (Lack("no client here: use the vendor's own tools"),)
    return RecoveryWay(
        way.name,
        RecoveryPath.MANAGED,
        _judge_readiness(list(lacks)) if lacks else Readiness.READY,
        way.granularity,
        in_place=way.in_place,
        keeps_old=way.keeps_old,
        earliest=way.earliest,
        latest=way.latest,
        lacks=lacks,
        note=way.note,
    )


def _make_dumps_way(around: Surroundings) -> RecoveryWay:
    lacks: list[Lack] = []
    tools, facts = around.tools, around.facts
    if not tools.version:
        lacks.append(Lack("pg_dump is not here", describe_install("database")))
    elif facts is not None and tools.major < facts.server_version // 10_000:
        major = facts.server_version // 10_000
        what = f"pg_dump {tools.version} does not read a newer server ({major})"
        lacks.append(Lack(what, f'database.binaries = "/usr/lib/postgresql/{major}/bin"'))
    if around.dumps.problem:
        lacks.append(Lack(around.dumps.problem))
    elif not around.dumps.copies:
        lacks.append(Lack("there is no verified dump yet", f"backout db dump -e {around.environment}"))
    note = "logical: into a new, empty database"
    if facts is not None and not any(facts.privileges.get(name) for name in ("superuser", "pg_read_all_data")):
        note += "; it holds what the role may read"
    return RecoveryWay(
        _DUMPS,
        RecoveryPath.OWN,
        Readiness.READY if not lacks else _judge_readiness(lacks),
        Granularity.SNAPSHOT,
        in_place=False,
        keeps_old=True,
        earliest=around.dumps.earliest,
        latest=around.dumps.latest,
        lacks=tuple(lacks),
        note=note,
    )


def list_warnings(around: Surroundings) -> tuple[str, ...]:
    """Return what endangers a recovery, or the live database because of one; whole sentences."""
    found = list(around.vendor.notes) if around.vendor else []
    facts = around.facts
    use = around.connections
    if use is not None and use.limit and use.share >= _NEARLY_ALL:
        found.append(f"{use.used} of {use.limit} connections are in use ({use.scope}): a recovery needs a few more.")
    if facts is None:
        return tuple(found)
    if not facts.tls and not around.is_here:
        found.append("The connection has no TLS: the password and the data can be read on the way.")
    elif facts.tls and not facts.tls_verified and not around.is_here:
        found.append("The server's certificate is not verified: add sslmode=verify-full to the connection string.")
    if facts.pooler.transactions:
        found.append(f"{facts.pooler.name} gives each transaction another connection: locks of a session do not hold.")
    found += _warn_of_wal(facts)
    if facts.archiver is not None:
        found += _warn_of_archive(facts.archiver)
    found += [text for slot in facts.slots or () for text in _warn_of_slot(slot, facts)]
    return tuple(found)


def _warn_of_wal(facts: ServerFacts) -> list[str]:
    found = []
    if facts.in_recovery:
        found.append("This is a standby: restore points and slots belong on the primary.")
    if facts.settings.get("track_commit_timestamp") == "off":
        found.append("track_commit_timestamp is off: when a transaction committed is known only from the WAL.")
    if facts.server_version // 10_000 >= _INCREMENTAL_SINCE and facts.settings.get("summarize_wal") == "off":
        found.append("summarize_wal is off: only full backups are possible.")
    if facts.settings.get("full_page_writes") == "off":
        found.append("full_page_writes is off: a base backup taken under load cannot be trusted.")
    return found


def _warn_of_archive(archiver: Archiver) -> list[str]:
    if archiver.last_failed_at is None or archiver.last_failed_at <= (archiver.last_archived_at or 0.0):
        return []
    return [f"The server's own archiving fails: {archiver.last_failed}, {archiver.failed} failures so far."]


def _warn_of_slot(slot: Slot, facts: ServerFacts) -> list[str]:
    found = []
    if slot.wal_status == "lost":
        found.append(f"The slot {slot.name} has lost WAL: what read from it has a hole.")
    limited = facts.settings.get("max_slot_wal_keep_size", "-1") not in ("-1", "-1MB")
    if not slot.active and not limited and "max_slot_wal_keep_size" in facts.settings:
        found.append(
            f"The slot {slot.name} is not read, and max_slot_wal_keep_size is not set: it fills the disk in the end."
        )
    elif (slot.retained_bytes or 0) > _MUCH_WAL:
        found.append(f"The slot {slot.name} holds back {(slot.retained_bytes or 0) / 1024**3:.1f} GB of WAL.")
    return found
