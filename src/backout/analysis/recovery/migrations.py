"""The state of each migration: the database's own history compared with the files of the working copy.

It is worked out here because the tools' own answers cannot be relied on: measured with Prisma 6.19, `migrate status`
says "up to date" after `migrate resolve --rolled-back`, with the migration not applied, and never names an edited one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.model.database.migrations import (
    Comparison,
    KnownMigration,
    MigrationReport,
    MigrationState,
    MigrationStatus,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from backout.model.database.compatibility import MigrationFile
    from backout.model.database.schema import AppliedMigration, SchemaState

_PASSED_OVER: Final = (
    "one that was generated later is applied, so the tool passes it over, now and later: give it a newer `when` in "
    "meta/_journal.json, or generate it again"
)
_WITHOUT_LOG: Final = (
    "it began and never ended: it is running now, or its process died; how much of it was applied is unknown"
)


def assess(state: SchemaState, known: Sequence[KnownMigration]) -> MigrationReport:
    """Return the state of each migration: those of the working copy in order, then those applied without a file.

    Args:
        known: the files, what others come after first; they decide what is pending, edited, unknown.
    """
    history = _History(state, known)
    here = [_judge_known(migration, history) for migration in known]
    strangers = [_judge_unknown(name, rows) for name, rows in history.rows.items() if history.is_strange(name)]
    return MigrationReport((*here, *strangers), (*_list_heads(state, known), *_list_orphans(known)))


def list_applied_names(state: SchemaState, known: Sequence[KnownMigration]) -> tuple[str, ...]:
    """Return what is applied, oldest first; where only heads are kept, what the files say that they build on."""
    history = _History(state, known)
    files = [m.name for m in known if history.is_applied(m)]
    listed = [m.name for m in state.applied if m.stands]
    return tuple(dict.fromkeys(files + listed if state.heads else listed + files))


def compare(
    later: tuple[str, SchemaState], earlier: tuple[str, SchemaState], known: Sequence[KnownMigration]
) -> Comparison:
    """Return what one database has that the other never ran; names with their histories."""
    ours, theirs = list_applied_names(later[1], known), list_applied_names(earlier[1], known)
    sums, others = _list_checksums(later[1]), _list_checksums(earlier[1])
    return Comparison(
        later[0],
        earlier[0],
        never_ran=tuple(name for name in ours if name not in theirs),
        not_yet=tuple(name for name in theirs if name not in ours),
        differ=tuple(name for name, checksum in sums.items() if others.get(name, checksum) != checksum),
    )


class _History:
    """A history, indexed for questions about single migrations."""

    def __init__(self, state: SchemaState, known: Sequence[KnownMigration]) -> None:
        self.state = state
        self.known: Mapping[str, KnownMigration] = {migration.name: migration for migration in known}
        self.rows: dict[str, list[AppliedMigration]] = {}
        for row in state.applied:
            self.rows.setdefault(row.name, []).append(row)
        self.newest_stamp = max((row.stamp for row in state.applied if row.stamp is not None), default=-1)
        self._replaced = {name for migration in known for name in migration.replaces}
        self._applications = {migration.application for migration in known if migration.application}
        self._followed = _find_ancestors(state.heads, self.known)
        recorded = {row.name for row in state.applied if row.stands}
        squashed = {m.name for m in known if m.replaces and recorded.issuperset(m.replaces)}
        self._applied = recorded | squashed | self._followed
        self._built_on = _find_ancestors(self._applied & set(self.known), self.known)

    def is_applied(self, migration: KnownMigration) -> bool:
        return migration.name in self._applied

    def is_built_on(self, name: str) -> bool:
        """Whether something that is applied comes after it."""
        return name in self._built_on

    def is_strange(self, name: str) -> bool:
        """Whether it has no file here, and should: applications of a framework have theirs elsewhere."""
        here = not self._applications or name.partition(".")[0] in self._applications
        return name not in self.known and name not in self._replaced and here

    @property
    def lost(self) -> bool:
        """Whether a head has no file, so that what it builds on is unknown."""
        return any(head not in self.known for head in self.state.heads)


def _judge_known(migration: KnownMigration, history: _History) -> MigrationStatus:
    rows = history.rows.get(migration.name, [])
    status = MigrationStatus(migration.name, MigrationState.PENDING, title=migration.title)
    if failed := _find_failed(rows):
        return replace(
            status, state=MigrationState.FAILED, finding=True, why=_describe_failure(failed), logs=failed.logs
        )
    if history.is_applied(migration):
        return _mark_applied(status, migration, history)
    if history.lost:
        why = "the database stands at a revision without a file here, so it cannot be told"
        return replace(status, state=MigrationState.UNTOLD, why=why)
    if undone := next((row for row in reversed(rows) if row.rolled_back_at is not None), None):
        why = "it was declared rolled back and not applied again: the next deployment of migrations applies it"
        return replace(status, state=MigrationState.ROLLED_BACK, finding=True, why=why, logs=undone.logs)
    if migration.stamp is not None and migration.stamp <= history.newest_stamp:
        return replace(status, state=MigrationState.OUT_OF_ORDER, finding=True, why=_PASSED_OVER)
    if history.is_built_on(migration.name):
        why = "later ones are applied: it would come behind them, and on a new database before them"
        return replace(status, state=MigrationState.OUT_OF_ORDER, finding=True, why=why)
    return status


def _mark_applied(status: MigrationStatus, migration: KnownMigration, history: _History) -> MigrationStatus:
    row = next((row for row in reversed(history.rows.get(migration.name, [])) if row.stands), None)
    if row is None:  # squashed, or below a head: applied when the youngest row was, at the latest
        times = [
            r.finished_at or 0.0 for name in (*migration.replaces, *history.state.heads) for r in history.rows[name]
        ]
        return replace(status, state=MigrationState.APPLIED, applied_at=max(times), dated=False)
    status = replace(status, state=MigrationState.APPLIED, applied_at=row.finished_at, dated=row.dated)
    if migration.checksum and row.checksum and row.checksum != migration.checksum:
        why = (
            f"its file is not the one that was applied (checksum {row.checksum[:8]} then, {migration.checksum[:8]} now)"
        )
        return replace(status, state=MigrationState.EDITED, finding=True, why=why)
    return status


def _judge_unknown(name: str, rows: Sequence[AppliedMigration]) -> MigrationStatus:
    """Return the state of a migration without a file here."""
    if failed := _find_failed(rows):
        why = f"{_describe_failure(failed)}; it has no file here"
        return MigrationStatus(name, MigrationState.FAILED, finding=True, why=why, logs=failed.logs)
    row = next((row for row in reversed(rows) if row.stands), None)
    if row is None:
        return MigrationStatus(
            name, MigrationState.ROLLED_BACK, why="it was declared rolled back, and has no file here"
        )
    why = "it is applied and has no file here: another branch, or a newer version, brought it"
    return MigrationStatus(
        name, MigrationState.UNKNOWN, finding=True, why=why, applied_at=row.finished_at, dated=row.dated
    )


def _find_failed(rows: Sequence[AppliedMigration]) -> AppliedMigration | None:
    return next((row for row in reversed(rows) if row.finished_at is None and row.rolled_back_at is None), None)


def _describe_failure(row: AppliedMigration) -> str:
    done = f"; {row.steps} of its statements are known to be applied" if row.steps else ""
    if not row.logs:
        return f"{_WITHOUT_LOG}{done}"
    said = next((line.strip() for line in row.logs.splitlines() if line.strip()), "")
    return f"it failed: {said}{done}"


def _list_checksums(state: SchemaState) -> dict[str, str]:
    return {row.name: row.checksum for row in state.applied if row.stands and row.checksum}


def _find_ancestors(names: Collection[str], known: Mapping[str, KnownMigration]) -> set[str]:
    """Return these and everything that they come after, as far as the files tell."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += known[name].after if name in known else ()
    return found


def _list_heads(state: SchemaState, known: Sequence[KnownMigration]) -> list[str]:
    """Return a sentence where there is more than one end: of the history, or of an application's files."""
    found = []
    if len(state.heads) > 1:
        found.append(f"the database stands at several heads: {', '.join(state.heads)}")
    not_ends = {name for migration in known for name in (*migration.after, *migration.replaces)}
    ends: dict[str, list[str]] = {}
    for migration in known:
        if migration.name not in not_ends:
            ends.setdefault(migration.application, []).append(migration.name)
    found += [f"the files end in several heads: {', '.join(names)}" for names in ends.values() if len(names) > 1]
    return found


def _list_orphans(known: Sequence[KnownMigration]) -> list[str]:
    names = {name for migration in known for name in (migration.name, *migration.replaces)}
    applications = {migration.application for migration in known}
    return [
        f"{migration.name} comes after {name}, which has no file"
        for migration in known
        for name in migration.after
        if name not in names and (not migration.application or name.partition(".")[0] in applications)
    ]


def put_in_line(files: Iterable[MigrationFile]) -> tuple[KnownMigration, ...]:
    """Return the files of a tool that applies them one after the other, by name."""
    known: list[KnownMigration] = []
    for file in files:
        after = (known[-1].name,) if known else ()
        known.append(KnownMigration(file.name, after, file.checksum, stamp=file.stamp))
    return tuple(known)
