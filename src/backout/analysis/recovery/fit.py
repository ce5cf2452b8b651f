"""Whether old code fits a schema that changed after it, by the verdicts on the newer migrations; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.database.compatibility import Compatibility

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.model.database.compatibility import MigrationFile, MigrationVerdict, StatementVerdict
    from backout.model.database.schema import AppliedMigration, SchemaState
    from backout.model.situation import SchemaLook

_QUOTED_CHARACTERS = 120


def find_verdicts(
    state: SchemaState, files: Sequence[MigrationFile], *, app_checks_head: bool = False
) -> tuple[Mapping[str, MigrationVerdict], str]:
    """Return the verdicts on the applied migrations by name, and why some have none ("" when all have one).

    A file that was edited after it was applied says nothing about what was applied.
    """
    from backout.analysis.compatibility import judge

    by_name = {verdict.name: verdict for verdict in judge(files, app_checks_head=app_checks_head)}
    checksums = {file.name: file.checksum for file in files}
    found: dict[str, MigrationVerdict] = {}
    problems: dict[str, list[str]] = {}
    for migration in state.applied:
        if migration.name not in by_name:
            problems.setdefault("no file here", []).append(migration.name)
        elif migration.checksum and checksums[migration.name] not in {"", migration.checksum}:
            problems.setdefault("the file is not the one that was applied", []).append(migration.name)
        else:
            found[migration.name] = by_name[migration.name]
    return found, "; ".join(f"{problem}: {', '.join(dict.fromkeys(names))}" for problem, names in problems.items())


def does_not_fit(look: SchemaLook, newer: Sequence[AppliedMigration], version: str) -> str:
    """Return why a version from before these migrations must not run alone, worst first; "" when each is safe."""
    refuted = look.refuted or look.refuted_by_version.get(version, "")
    if newer and refuted:
        names = ", ".join(m.name for m in newer)
        return f"the schema changed since it was last live ({names}), and the old code fails on it: {refuted}"
    worst: tuple[int, str] = (0, "")
    for migration in newer:
        found = _find_objection(look, migration)
        if found[0] > worst[0]:
            worst = found
    if not worst[0]:
        return ""
    return f"the schema changed since it was last live ({', '.join(m.name for m in newer)}), and {worst[1]}"


def _find_objection(look: SchemaLook, migration: AppliedMigration) -> tuple[int, str]:
    """Return how bad a migration is (0: safe) and the words for it."""
    if migration.rolled_back_at is not None:
        return 1, f"{migration.name} was taken back by hand: no verdict says that the old code fits"
    return judge_fit(migration.name, look.verdicts.get(migration.name), look.unjudged)


def judge_fit(name: str, verdict: MigrationVerdict | None, unjudged: str = "") -> tuple[int, str]:
    """Return how bad a migration is for the code before it (0: safe), and the words for it.

    Args:
        unjudged: why some migrations have no verdict.
    """
    if verdict is None:
        why = f" ({unjudged})" if unjudged else ""
        return 1, f"no verdict says that the old code fits{why}"
    if verdict.verdict is Compatibility.SAFE:
        return 0, ""
    statement = max(verdict.statements, key=lambda s: list(Compatibility).index(s.verdict))
    if verdict.verdict is Compatibility.BREAKING:
        return 3, f"{name} breaks the old code: {_quote_statement(statement)}"
    check = f"; this query tells: {statement.condition_sql}" if statement.condition_sql else ""
    return 2, f"{name} may break the old code: {_quote_statement(statement)}{check}"


def _quote_statement(statement: StatementVerdict) -> str:
    sql = " ".join(statement.sql.split())
    cut = sql if len(sql) <= _QUOTED_CHARACTERS else f"{sql[:_QUOTED_CHARACTERS]}..."
    return f"{statement.reason} (`{cut}`)"
