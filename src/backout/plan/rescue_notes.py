"""What the plan of a rescue says of rows: whoever approves it does not see them in it."""

from __future__ import annotations


def list_row_notes(conflicts: str) -> tuple[str, ...]:
    """Return what happens to newer rows, and when the rows are known; `conflicts` as of `model.database.rescue.Damage`.

    >>> list_row_notes("live")[0]
    'rows that others have written since the damage stay as they are, and are listed'
    """
    newer = "stay as they are, and are listed"
    if conflicts == "side":
        newer = "are overwritten, too (--conflicts side)"
    found = "which tables and rows come back is found by the run itself, before it writes"
    return (
        f"rows that others have written since the damage {newer}",
        f"{found}; the same command with --dry-run shows it beforehand",
    )
