"""Migrations: their state in one environment and compared with others, what would be applied, schema drift."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.recovery.drift import find_differences
from backout.analysis.recovery.migrations import assess, compare
from backout.errors import AuthError, BackoutError, ProviderRejected, ProviderUnavailable, Refused
from backout.model.database.catalog import Drift
from backout.model.database.migrations import HistoryLook, Standing
from backout.model.value import Value
from backout.rules import SafetyRule
from backout.runbook.recovery.restore_points import AFTER_MIGRATION, BEFORE_MIGRATION, record_point

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from backout.model.database.compatibility import MigrationFile
    from backout.model.database.migrations import Comparison, KnownMigration
    from backout.model.database.schema import SchemaState
    from backout.model.plan import Json
    from backout.ports import Clock, Journal, PointMarker, Schema, SchemaCatalog


class Side(Value, frozen=True):
    """One environment's history; `protected`: migrations reach the others first."""

    environment: str
    schema: Schema
    protected: bool


def read_standing(asked: Side, others: Sequence[Side], known: Sequence[KnownMigration]) -> Standing:
    """Read the histories and compare them with the files and each other; an unreachable database stops nothing."""
    look, looks = _read_history(asked), tuple(_read_history(side) for side in others)
    report = assess(look.state, known) if look.state is not None else None
    comparisons = tuple(
        _compare_sides((asked, look.state), (side, other.state), known)
        for side, other in zip(others, looks, strict=True)
        if look.state is not None and other.state is not None
    )
    return Standing(look, report, looks, comparisons)


def _read_history(side: Side) -> HistoryLook:
    try:
        return HistoryLook(side.environment, state=side.schema.read())
    except (AuthError, ProviderRejected, ProviderUnavailable) as error:
        return HistoryLook(side.environment, problem=str(error), exit_code=error.exit_code)


def _compare_sides(
    asked: tuple[Side, SchemaState], other: tuple[Side, SchemaState], known: Sequence[KnownMigration]
) -> Comparison:
    """Compare two; migrations reach the protected one later, or, of two alike, the one that was asked for."""
    ours, theirs = (asked[0].environment, asked[1]), (other[0].environment, other[1])
    asked_first = other[0].protected and not asked[0].protected
    return compare(theirs, ours, known) if asked_first else compare(ours, theirs, known)


def list_unapplied(schema: Schema, files: Sequence[MigrationFile]) -> tuple[str, ...]:
    """Return the names of the files not applied, in order.

    Raises:
        Refused: an earlier migration failed and is unresolved.
    """
    state = schema.read()
    if state.failed:
        name = state.failed[-1]
        raise Refused(
            f"migration {name} failed before and is unresolved",
            where="the migration history",
            hint=f"prisma migrate resolve --rolled-back {name}",
        )
    done = {row.name for row in state.applied if row.stands}
    return tuple(file.name for file in files if file.name not in done)


class Deploying(Value, frozen=True):
    """The tools to apply migrations.

    Args:
        deploy: applies what is pending, and reports each name when it is done.
        journal: records who applied what, and why.
        points: records a restore point around each migration, None where a return to one is not possible.
    """

    environment: str
    actor: str
    clock: Clock
    journal: Journal
    deploy: Callable[[Callable[[str], None]], tuple[str, ...]]
    points: PointMarker | None = None
    say: Callable[[str], None] = lambda _text: None


def apply(tools: Deploying, pending: Sequence[str], reason: str, applied: Callable[[str], None]) -> tuple[str, ...]:
    """Apply what is pending, and return what was applied; the intent is in the journal before anything is changed.

    Raises:
        BackoutError: as the migrations' provider; a failed migration is also in the journal.
    """
    begun = f"{tools.clock.now():.3f}"
    names: list[Json] = list(pending)

    def note(kind: str, key: str, data: Mapping[str, Json]) -> None:
        tools.journal.note(tools.environment, kind, f"{begun}:{key}", data, actor=tools.actor)

    def mark(why: str, name: str) -> None:
        if tools.points is None:
            return
        point = f"{why.replace(' ', '-')}-{name}-{begun}"
        try:
            record_point(tools.journal, tools.environment, tools.points, point, why=why, actor=tools.actor)
        except BackoutError as error:
            tools.say(f"no restore point {why} {name}: {error.what}")

    def heard(name: str) -> None:
        note("migration.applied", name, {"migration": name})
        mark(AFTER_MIGRATION, name)
        following = pending.index(name) + 1 if name in pending else len(pending)
        if following < len(pending):
            mark(BEFORE_MIGRATION, pending[following])
        applied(name)

    note("migration.begin", "", {"pending": names, "reason": reason})
    if pending:
        mark(BEFORE_MIGRATION, pending[0])
    try:
        return tools.deploy(heard)
    except BackoutError as error:
        note("migration.failed", "", {"why": str(error)})
        raise


def check_database(environment: str, pinned: str | None, found: str | None) -> None:
    """Check that the database is the pinned one (safety rule 1), or that none is pinned.

    Raises:
        Refused: it is another one, or it does not identify itself.
    """
    if pinned is None or pinned == found:
        return
    raise Refused(
        f"this is not the database that backout.toml pins: pinned {pinned}, found {found or 'none'}",
        where=environment,
        rule=SafetyRule.IDENTITY,
        options=(f"if the database was rebuilt on purpose: `backout init --pin --force -e {environment}`",),
    )


def find_drift(live: SchemaCatalog, built: SchemaCatalog, *, record: bool) -> Drift:
    """Build one schema, read the other, and compare.

    `record`: the statements that would turn the built schema into the live one, for a migration that records it;
    otherwise those that would bring the live database back.
    """
    found = live.read()
    wanted = built.read()
    before, after = (wanted, found) if record else (found, wanted)
    return Drift(find_differences(before.objects, after.objects), found.server_version, wanted.server_version)
