"""The second check of a restored dump as a sentence, as a record, and as lines for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.escaping import escape_line

if TYPE_CHECKING:
    from backout.model.database.dump import DumpCheck
    from backout.model.plan import Json

_SHOWN = 10


def make_dump_check_record(check: DumpCheck, not_compared: tuple[str, ...], *, has_figures: bool) -> dict[str, Json]:
    """Return the check as the journal and `--json` show it.

    Args:
        not_compared: in words.
        has_figures: whether the dump has any; else only the number of rows was compared.
    """
    return {
        "sentence": _describe_check(check, not_compared, has_figures=has_figures),
        "tables": check.tables,
        "rows": check.rows,
        "definitions": check.definitions,
        "sequences": check.sequences,
        "large_objects": check.large_objects,
        "differs": [*check.differs],
        "not_compared": [*not_compared],
        "not_restored": [*check.not_restored],
        "failed": check.failed or None,
    }


def format_dump_check(check: DumpCheck, not_compared: tuple[str, ...], *, has_figures: bool) -> list[str]:
    """Return the sentence, what differs, and the statements for the owners and privileges that are not as they were."""
    said = [f"second check: {_describe_check(check, not_compared, has_figures=has_figures)}"]
    said += [f"NOT AS DUMPED: {each}" for each in check.differs]
    if check.not_restored:
        said.append(
            f"not restored: {len(check.not_restored):,} owners and privileges; a role with the rights sets them by"
        )
        said += [f"  {each};" for each in check.not_restored[:_SHOWN]]
        more = len(check.not_restored) - _SHOWN
        said += [f"  and {more:,} more, which `--json` lists"] if more > 0 else []
    return [escape_line(each) for each in said]


def get_dump_check_code(check: DumpCheck) -> int:
    """Return the exit code that a check asks for: 1 something differs, 7 a part could not be checked, else 0."""
    return 1 if check.differs else 7 if check.failed else 0


def _describe_check(check: DumpCheck, not_compared: tuple[str, ...], *, has_figures: bool) -> str:
    skipped = f"not compared: {'; '.join(not_compared)}" if not_compared else ""
    if not has_figures:
        return skipped
    if check.failed and not (check.tables or check.definitions):
        return f"NOT CHECKED by other means: {check.failed}"
    text = (
        f"compared by hashes and by the catalogs, in a process of its own: {check.rows:,} rows of {check.tables:,} "
        f"tables, {check.definitions:,} definitions, {check.sequences:,} sequences and {check.large_objects:,} large "
        "objects with the snapshot that was dumped"
    )
    parts = (text, skipped, "" if check.differs or check.failed else "nothing differs")
    return "; ".join(filter(None, parts))
