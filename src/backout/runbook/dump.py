"""A dump, and its proof: taken, restored into a scratch server, compared table by table; then the old ones go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backout.analysis.dumps import differences, expired, is_due, newest_verified, summary
from backout.errors import BackoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.model.dump import Dump
    from backout.ports import Clock, DumpRestores, Dumps


@dataclass(frozen=True, slots=True)
class DumpTools:
    """What a dump needs.

    Args:
        keep_s: how long dumps are kept. refused: returns the dumps that may not be used, and why. doubtful: those of
            them that can be read.
    """

    dumps: Dumps
    restores: DumpRestores
    clock: Clock
    keep_s: float
    refused: Callable[[], Sequence[tuple[str, BackoutError]]] = tuple
    doubtful: Callable[[], Sequence[Dump]] = tuple
    say: Callable[[str], None] = lambda _text: None


@dataclass(frozen=True, slots=True)
class DumpOutcome:
    """What became of a call: the dump (the newest verified one when none was due), and those that went."""

    dump: Dump | None
    taken: bool
    removed: tuple[Dump, ...] = ()


def dump(tools: DumpTools, *, every_s: float = 0.0, checksums: bool = False) -> DumpOutcome:
    """Take a dump when the newest verified one is older than `every_s`, prove it, and let the old ones go.

    One that cannot be proven is kept with its problem, and removes nothing.

    Raises:
        AuthError, ProviderUnavailable, Refused, BackoutError: see `PostgresDumps.take`.
    """
    before = tools.dumps.kept()
    if every_s and not is_due(before, tools.clock.now(), every_s):
        return DumpOutcome(newest_verified(before), taken=False)
    tools.say("dumping, and counting in the same snapshot")
    taken = tools.dumps.take(checksums=checksums)
    proven = verify(tools, taken)
    if proven.problem:
        return DumpOutcome(proven, taken=True)
    now = tools.clock.now()
    doubted = tuple(each for each in tools.doubtful() if each.ended_at <= now - tools.keep_s)
    gone = (*expired(tools.dumps.kept(), now, tools.keep_s), *doubted)
    for old in gone:
        tools.dumps.remove(old)
    return DumpOutcome(proven, taken=True, removed=gone)


def verify(tools: DumpTools, found: Dump) -> Dump:
    """Restore a dump into a scratch server, compare, and keep what was found."""
    tools.say(f"restoring {found.id} into a scratch server, to compare {len(found.tables)} tables")
    left_out: tuple[str, ...] = ()
    try:
        there = tools.restores.tried(found)
        problem, left_out = summary(differences(found.tables, there.tables)), there.left_out
    except BackoutError as error:
        problem = str(error)
    at = None if problem else tools.clock.now()
    proven = replace(found, verified_at=at, problem=problem, not_proved=(*left_out, *found.not_compared))
    tools.dumps.keep(proven)
    return proven


def restore(tools: DumpTools, found: Dump, url: str) -> tuple[str, ...]:
    """Restore a dump into an empty database, compare it, and return what was left out, in words.

    Raises:
        Refused: it is not empty. BackoutError: pg_restore's words, or what differs.
    """
    tools.say(f"restoring {found.id}: {found.rows:,} rows in {len(found.tables)} tables")
    there = tools.restores.restore(found, url)
    differing = differences(found.tables, there.tables)
    if differing:
        raise BackoutError(f"the restored database differs: {summary(differing)}", where=found.id)
    return there.left_out
