"""Take a dump and prove it: restore it into a scratch server, compare table by table, then remove old ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.analysis.recovery.dumps import find_expired, find_newest_verified, is_due, list_differences, summarize
from backout.errors import BackoutError
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.model.database.dump import Dump, Restored
    from backout.ports import Clock, DumpRestores, Dumps


class DumpTools(Value, frozen=True):
    """What a dump needs.

    Args:
        keep_s: how long dumps are kept.
        refused: returns the dumps that may not be used, and why.
        doubtful: those of them that can be read.
    """

    dumps: Dumps
    restores: DumpRestores
    clock: Clock
    keep_s: float
    refused: Callable[[], Sequence[tuple[str, BackoutError]]] = tuple
    doubtful: Callable[[], Sequence[Dump]] = tuple
    say: Callable[[str], None] = lambda _text: None


class DumpOutcome(Value, frozen=True):
    """The result of a call: the dump (the newest verified one when none was due), and the removed ones."""

    dump: Dump | None
    taken: bool
    removed: tuple[Dump, ...] = ()


def dump(tools: DumpTools, *, every_s: float = 0.0, checksums: bool = False) -> DumpOutcome:
    """Take a dump when the newest verified one is older than `every_s`, prove it, and remove old ones.

    One that cannot be proven is kept, with its problem, and nothing is removed then.

    Raises:
        AuthError, ProviderUnavailable, Refused, BackoutError: see `PostgresDumps.take`.
    """
    before = tools.dumps.list_dumps()
    if every_s and not is_due(before, tools.clock.now(), every_s):
        return DumpOutcome(find_newest_verified(before), taken=False)
    tools.say("dumping, and hashing the same snapshot")
    taken = tools.dumps.take(checksums=checksums)
    proven = verify(tools, taken)
    if proven.problem:
        return DumpOutcome(proven, taken=True)
    now = tools.clock.now()
    doubted = tuple(each for each in tools.doubtful() if each.ended_at <= now - tools.keep_s)
    gone = (*find_expired(tools.dumps.list_dumps(), now, tools.keep_s), *doubted)
    for old in gone:
        tools.dumps.remove(old)
    return DumpOutcome(proven, taken=True, removed=gone)


def verify(tools: DumpTools, found: Dump) -> Dump:
    """Restore a dump into a scratch server, compare, and store the result."""
    tools.say(f"restoring {found.id} into a scratch server, to compare {len(found.tables)} tables")
    left_out: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    try:
        there = tools.restores.try_restore(found)
        skipped = list_unchecked(found, there)
        problem, left_out = summarize(list_differing(found, there)), there.left_out
    except BackoutError as error:
        problem = str(error)
    at = None if problem else tools.clock.now()
    not_proved = (*left_out, *found.not_compared, *skipped)
    proven = replace(found, verified_at=at, problem=problem, not_proved=not_proved)
    tools.dumps.keep(proven)
    return proven


def restore(tools: DumpTools, found: Dump, url: str) -> Restored:
    """Restore a dump into an empty database, and return what is there, with the second check and what was left out.

    Raises:
        Refused: it is not empty.
        BackoutError: pg_restore's words; or the number of rows differs.
    """
    tools.say(f"restoring {found.id}: {found.rows:,} rows in {len(found.tables)} tables")
    there = tools.restores.restore(found, url)
    counted = list_differences(found.tables, there.tables)
    if counted:
        raise BackoutError(f"the restored database differs: {summarize(counted)}", where=found.id)
    return there


def list_differing(found: Dump, there: Restored) -> tuple[str, ...]:
    """Return in words how a restore differs from the source, by its own count and by the second check."""
    return tuple(dict.fromkeys((*list_differences(found.tables, there.tables), *there.check.differs)))


def list_unchecked(found: Dump, there: Restored) -> tuple[str, ...]:
    """Return in words what the second check could not compare."""
    if found.figures is None:
        why = found.no_figures or "an earlier version took the dump"
        return (f"definitions, sequences and large objects: the dump has no figures of them ({why})",)
    return (*((f"everything but rows: {there.check.failed}",) if there.check.failed else ()), *there.check.not_compared)
