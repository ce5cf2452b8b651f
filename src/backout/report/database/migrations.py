"""Verdicts on migrations as text, worst first, and as the record `backout.migrations/1`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.database.compatibility import Compatibility, Reversible
from backout.report.text import Paint, leave_plain, wrap_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.database.compatibility import MigrationVerdict, StatementVerdict

_ROLES = {Compatibility.SAFE: "good", Compatibility.SAFE_IF: "warn", Compatibility.BREAKING: "bad"}
_BACK = {
    Reversible.YES: "can be taken back",
    Reversible.IF: "can be taken back unless new data is in it",
    Reversible.NO: "cannot be taken back without losing data",
}
_SQL_CHARACTERS = 160
_ORDER = list(Compatibility)


def make_record(verdicts: Sequence[MigrationVerdict]) -> dict[str, object]:
    """Return the keys of `backout.migrations/1`."""
    return {
        "migrations": [
            {
                "name": migration.name,
                "verdict": migration.verdict,
                "reversible": migration.reversible,
                "statements": [
                    {
                        "sql": s.sql,
                        "class": s.kind,
                        "verdict": s.verdict,
                        "reversible": s.reversible,
                        "reason": s.reason,
                        "condition_sql": s.condition_sql,
                    }
                    for s in migration.statements
                ],
            }
            for migration in verdicts
        ]
    }


def format_text(verdicts: Sequence[MigrationVerdict], *, width: int = 100, paint: Paint = leave_plain) -> str:
    """Return the count, one line for each migration, then the unsafe statements, the worst migration first."""
    if not verdicts:
        return "No migrations."
    counts = {verdict: sum(m.verdict is verdict for m in verdicts) for verdict in reversed(_ORDER)}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    lines = [
        f"{len(verdicts)} migration{'s' * (len(verdicts) != 1)}, each for the code that ran before it: {told}.",
        "",
    ]
    name_width = min(max(len(m.name) for m in verdicts), max(width - 34, 20))
    for migration in verdicts:
        shown = migration.name if len(migration.name) <= name_width else f"{migration.name[: name_width - 3]}..."
        verdict = paint(_ROLES[migration.verdict], f"{migration.verdict:<8}")
        lines.append(f"  {shown:<{name_width}}  {verdict}  reversible: {migration.reversible}")
    for migration in sorted(verdicts, key=lambda m: -_ORDER.index(m.verdict)):
        if migration.verdict is not Compatibility.SAFE:
            lines += ["", f"{paint('strong', migration.name)}: {_BACK[migration.reversible]}"]
            lines += [line for s in _select_unsafe(migration) for line in _format_statement(s, width, paint)]
    return "\n".join(lines)


def _select_unsafe(migration: MigrationVerdict) -> list[StatementVerdict]:
    found = [s for s in migration.statements if s.verdict is not Compatibility.SAFE]
    return sorted(found, key=lambda s: -_ORDER.index(s.verdict))


def _format_statement(statement: StatementVerdict, width: int, paint: Paint) -> list[str]:
    sql = " ".join(statement.sql.split())
    cut = sql if len(sql) <= _SQL_CHARACTERS else f"{sql[:_SQL_CHARACTERS]}..."
    head = f"  {statement.verdict:<8}  "
    lines = wrap_text(statement.reason, width, indent=head, hanging=" " * len(head))
    lines[0] = f"  {paint(_ROLES[statement.verdict], f'{statement.verdict:<8}')}  {lines[0][len(head) :]}"
    lines += [paint("dim", line) for line in wrap_text(cut, width, indent=" " * len(head))] if cut else []
    if statement.condition_sql:
        asked = (
            "rows in the way" if statement.verdict is Compatibility.BREAKING else "safe for the data there if no row"
        )
        lines += wrap_text(f"{asked}: {statement.condition_sql}", width, indent=" " * len(head))
    return lines
