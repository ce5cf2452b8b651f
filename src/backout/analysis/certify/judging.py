"""Whether there is a way back: from what a trial saw, and what migrations do by their text.

Something that failed says no. That nothing failed says yes only where enough was seen, and where no statement of a
migration takes data away or breaks old code by its text: such a statement leaves the answer open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pglast import ast
from pglast.enums import AlterTableType

from backout.analysis.certify.answers import count_failed, has_failed, has_worked, list_failures
from backout.analysis.certify.requests import name_route
from backout.analysis.certify.statements import list_tables, read_statement
from backout.analysis.compatibility.parsing import Unreadable, parse, walk
from backout.model.database.certificate import ENOUGH, Coverage, Phase, Step
from backout.model.database.compatibility import Compatibility, Reversible
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from backout.model.database.certificate import HeardStatement, PhaseRecord, RoundTrip, RowLoss
    from backout.model.database.compatibility import MigrationVerdict, StatementVerdict

_CHANGES_DATA: Final = (ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt, ast.TruncateStmt)
_NOT_SEEN_BY_A_SUPERUSER: Final = (
    ast.CreatePolicyStmt, ast.AlterPolicyStmt, ast.AlterOwnerStmt, ast.AlterRoleStmt, ast.AlterRoleSetStmt,
    ast.AlterDatabaseSetStmt, ast.AlterDefaultPrivilegesStmt, ast.DropRoleStmt, ast.ReassignOwnedStmt, ast.GrantStmt,
    ast.GrantRoleStmt,
)  # fmt: skip
_NOT_SEEN_COMMANDS: Final = (
    AlterTableType.AT_EnableRowSecurity, AlterTableType.AT_ForceRowSecurity, AlterTableType.AT_ChangeOwner,
)  # fmt: skip
"""Rights: the trial's role has all of them."""
_NOT_THE_SCHEMA: Final = frozenset({"40001", "40P01", "57014", "25P02"})
"""Serialization, deadlock, cancelled, and what follows another error: they may happen on any schema."""
_QUOTED_CHARACTERS: Final = 300


class KnownCode(Value, frozen=True):
    """What is known of the old code from elsewhere than its trial: a statement for each fingerprint."""

    statements: tuple[str, ...]


class Judgement(Value, frozen=True):
    """See `Certificate`; `unseen`: the known routes and statements of the old code that were not seen."""

    reversible: bool | None
    blocker: str | None
    reasons: tuple[str, ...]
    steps: tuple[Step, ...]
    coverage: Coverage
    unseen: tuple[str, ...]
    shapes: tuple[str, ...]


def judge_round_trip(seen: RoundTrip, known: KnownCode, verdicts: Sequence[MigrationVerdict]) -> Judgement:
    """Return what a trial shows.

    Args:
        known: the old code's statements.
        verdicts: those on the texts of the migrations that were tried.
    """
    coverage, unseen = _measure_coverage(seen, known)
    blocker = None if seen.refused_migration else next(iter(_list_blockers(seen, verdicts)), None)
    reasons = () if blocker else tuple(_list_reasons(seen, known, verdicts, coverage))
    return Judgement(
        reversible=False if blocker else None if reasons else True,
        blocker=blocker,
        reasons=reasons,
        steps=_count_steps(seen, verdicts),
        coverage=coverage,
        unseen=unseen,
        shapes=tuple(sorted(_list_fingerprints(seen.new.statements, writes=True))),
    )


# --- what failed ---------------------------------------------------------------------------------------------------


def _list_blockers(seen: RoundTrip, verdicts: Sequence[MigrationVerdict]) -> Iterable[str]:
    """Yield what the old code cannot do any more, and what is lost; a failing statement first."""
    for statement in _list_failing(seen.old.statements, seen.old_again.statements):
        yield f"{_quote(statement.sql)} fails: {statement.message} ({statement.sqlstate})"
    for loss in seen.losses:
        yield _describe_loss(loss, verdicts)
    yield from list_failures(seen.requests, seen.old.answers, seen.old_again.answers)
    yield from seen.changed


def _list_failing(before: Iterable[HeardStatement], after: Iterable[HeardStatement]) -> list[HeardStatement]:
    """Return the statements that fail in a way in which they did not fail before."""
    known = {(_name_statement(statement.sql), statement.sqlstate) for statement in before}
    found: dict[tuple[str, str], HeardStatement] = {}
    for statement in after:
        identity = (_name_statement(statement.sql), statement.sqlstate)
        if statement.sqlstate and statement.sqlstate not in _NOT_THE_SCHEMA and identity not in known:
            found.setdefault(identity, statement)
    return list(found.values())


def _describe_loss(loss: RowLoss, verdicts: Sequence[MigrationVerdict]) -> str:
    what = f"column {loss.column} of {loss.table}" if loss.column else loss.table
    told = f"{loss.count} row{'s' * (loss.count != 1)} of {what} {'differ' if loss.count != 1 else 'differs'} or"
    text = f"{told} {'are' if loss.count != 1 else 'is'} gone" if loss.count else f"{what} is gone"
    culprit = _find_culprit(loss, verdicts)
    return f"{text}, by: {_quote(culprit.sql)}" if culprit else text


def _find_culprit(loss: RowLoss, verdicts: Sequence[MigrationVerdict]) -> StatementVerdict | None:
    """Return the statement that took them: the worst of those that name the table."""
    bare = loss.table.rpartition(".")[2].strip('"')
    naming = [s for v in verdicts for s in v.statements if bare in list_tables(s.sql) or bare in s.sql]
    ranks = list(Reversible)
    return max(
        naming, key=lambda s: (bool(loss.column) and loss.column in s.sql, ranks.index(s.reversible)), default=None
    )


# --- what is left open ---------------------------------------------------------------------------------------------


def _list_reasons(
    seen: RoundTrip, known: KnownCode, verdicts: Sequence[MigrationVerdict], coverage: Coverage
) -> Iterable[str]:
    if seen.refused_migration:
        yield f"the migrations could not be applied: {seen.refused_migration}"
        return
    if not any(has_worked(answer) for answer in seen.new.answers):
        yield "no request to the new code succeeded"
    if not coverage.statements:
        yield "no statement of the old code is known: neither its code nor a file of statements shows any"
    if coverage.share < ENOUGH:
        known_parts = coverage.routes + coverage.statements
        parts = coverage.routes_seen + coverage.statements_seen
        yield f"only {parts} of the {known_parts} known routes and statements of the old code were seen"
    if not coverage.rows_read_again:
        written = f"{seen.rows_written} row{'s' * (seen.rows_written != 1)}"
        yield (
            f"the old code read none of the {written} that the new code wrote"
            if seen.rows_written
            else "the new code wrote no row: no request made it write one that the old code could read"
        )
    yield from _list_vetoes(seen, known, verdicts)


def _list_vetoes(seen: RoundTrip, known: KnownCode, verdicts: Sequence[MigrationVerdict]) -> Iterable[str]:
    """Yield the statements of migrations over which what was seen says too little."""
    heard = _list_fingerprints(seen.old_again.statements)
    needed = [*known.statements, *(s.sql for s in seen.old.statements if not s.sqlstate)]
    for statement in (statement for verdict in verdicts for statement in verdict.statements):
        quoted = _quote(statement.sql)
        if statement.verdict is Compatibility.BREAKING:
            yield f"by its text this breaks old code, and the trial did not meet it: {quoted}"
        elif statement.reversible is Reversible.NO or (
            statement.reversible is Reversible.IF and _changes_data(statement)
        ):
            yield f"by its text this cannot be taken back, and the trial had no such rows: {quoted}"
        elif statement.verdict is Compatibility.SAFE_IF and _changes_rights(statement):
            yield f"the trial's role has every right, so it does not see what this takes away: {quoted}"
        elif statement.verdict is Compatibility.SAFE_IF and not _is_tried(statement, needed, heard):
            yield f"this depends on what the old code sends to the tables, and not all of that was seen: {quoted}"


def _is_tried(statement: StatementVerdict, needed: Iterable[str], heard: Collection[str]) -> bool:
    """Whether the old code's statements on the tables of this one were all sent after the migrations."""
    tables = list_tables(statement.sql)
    concerned = {
        read.fingerprint
        for read in map(read_statement, needed)
        if read is not None and (not tables or read.tables & tables)
    }
    return bool(concerned) and concerned <= set(heard)


def _changes_data(statement: StatementVerdict) -> bool:
    try:
        return any(isinstance(node, _CHANGES_DATA) for node in parse(statement.sql))
    except Unreadable:
        return True


def _changes_rights(statement: StatementVerdict) -> bool:
    try:
        nodes = [node for read in parse(statement.sql) for node in walk(read)]
    except Unreadable:
        return True
    return any(
        isinstance(node, _NOT_SEEN_BY_A_SUPERUSER)
        or (isinstance(node, ast.AlterTableCmd) and node.subtype in _NOT_SEEN_COMMANDS)
        for node in nodes
    )


# --- figures -------------------------------------------------------------------------------------------------------


def _measure_coverage(seen: RoundTrip, known: KnownCode) -> tuple[Coverage, tuple[str, ...]]:
    """Return how much worked before the migrations and was sent again after them, and what is left."""
    asked = {number: name_route(request) for number, request in enumerate(seen.requests) if request.by != "new"}
    worked = {asked[a.number] for a in seen.old.answers if a.number in asked and has_worked(a)}
    sent = {asked[a.number] for a in seen.old_again.answers if a.number in asked}
    again = {_name_statement(statement.sql) for statement in seen.old_again.statements}
    heard = _list_fingerprints(seen.old.statements) & again
    fingerprints = {read.fingerprint: sql for sql in known.statements if (read := read_statement(sql)) is not None}
    coverage = Coverage(
        routes_seen=len(worked & sent),
        routes=len(set(asked.values())),
        statements_seen=len(fingerprints.keys() & heard),
        statements=len(fingerprints),
        rows_read_again=seen.rows_read_again,
    )
    routes = sorted(set(asked.values()) - (worked & sent))
    statements = [sql for fingerprint, sql in fingerprints.items() if fingerprint not in heard]
    return coverage, (*(f"route {name}" for name in routes), *(f"statement {_quote(sql)}" for sql in statements))


def _count_steps(seen: RoundTrip, verdicts: Sequence[MigrationVerdict]) -> tuple[Step, ...]:
    def count(name: Phase, record: PhaseRecord, failed: int) -> Step:
        return Step(name, len(record.answers), failed)

    again = count_failed(seen.old.answers, seen.old_again.answers)
    return (
        count(Phase.OLD, seen.old, sum(has_failed(answer) for answer in seen.old.answers)),
        Step(Phase.MIGRATE, len(verdicts), int(bool(seen.refused_migration))),
        count(Phase.NEW, seen.new, sum(has_failed(answer) for answer in seen.new.answers)),
        count(Phase.OLD_AGAIN, seen.old_again, again),
    )


def _list_fingerprints(statements: Iterable[HeardStatement], *, writes: bool = False) -> set[str]:
    """Return the fingerprints of statements that succeeded, or only of those that write."""
    reads = (read_statement(statement.sql) for statement in statements if not statement.sqlstate)
    return {read.fingerprint for read in reads if read is not None and (read.written or not writes)}


def _name_statement(sql: str) -> str:
    read = read_statement(sql)
    return read.fingerprint if read is not None else sql


def _quote(sql: str) -> str:
    text = " ".join(sql.split())
    return f"`{text if len(text) <= _QUOTED_CHARACTERS else text[: _QUOTED_CHARACTERS - 1] + '…'}`"
