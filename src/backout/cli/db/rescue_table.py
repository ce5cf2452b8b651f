"""What a rescue did, or would do, by table, and what of the damage it leaves."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.model.database.rescue import RescueReport

_REMOVES: Final = re.compile(r"\b(DETACH|DISABLE|DROP|REVOKE)\b|\bIS NULL;|\bOWNED BY NONE\b")
_GIVES: Final = re.compile(r"\b(ADD|CREATE|ENABLE|GRANT|SET)\b")


def format_rescue(shell: Shell, rescue: RescueReport, *, would: bool = False, undone: bool = False) -> str:
    """Return what a rescue did, or would do, by table; or what the undo of one did."""
    rows, lines = [], []
    for each in rescue.tables:
        counts = [f"{number:,}" for number in (each.updated, each.inserted, each.deleted, each.conflicts)]
        rows.append((each.table, *counts, ", ".join(each.columns) or each.left))
        if each.conflicts and undone:
            lines.append(f"{each.table}: {each.conflicts:,} rows stay: changed again since")
        elif each.conflicts:
            why = "changed again since, or what they refer to is not there"
            lines.append(f"{each.table}: left as they are ({why}): {', '.join(each.examples)}")
        if each.triggers:
            lines.append(f"{each.table}: triggers that do not fire: {', '.join(each.triggers)}")
        if each.left and each.columns:
            lines.append(f"{each.table}: {each.left}")
    last = "WHY IT STAYS" if undone else "COLUMNS, OR WHY IT IS LEFT ALONE"
    table = shell.output.table(("TABLE", "UPDATED", "INSERTED", "DELETED", "CONFLICTS", last), rows, whole=True)
    made = [
        f"{_choose_verb(text, would=would, undone=undone)}: {' '.join(text.split())}" for text in rescue.definitions
    ]
    left = format_left_out(rescue)
    nothing = []
    if undone and not made and not any(each.updated or each.inserted or each.deleted for each in rescue.tables):
        nothing = ["nothing was taken back"]
    elif not undone and not table and not made and not left:
        nothing = ["nothing was damaged"]
    return "\n".join([*([table] if table else []), *nothing, *made, *lines, *rescue.notes, *left])


def _choose_verb(statement: str, *, would: bool, undone: bool) -> str:
    """Return what a rescue does by a statement, or would do; an undo mostly removes what a rescue made."""
    if not undone:
        return "would be made again" if would else "made again"
    is_removed = _REMOVES.search(statement) and not _GIVES.search(statement)
    return "removed again" if is_removed else "changed again"


def format_left_out(rescue: RescueReport) -> list[str]:
    """Return what of the damage is left, each with the reason and the SQL; and how definitions differ from before."""
    lines = []
    for left in rescue.left_out:
        lines.append(f"left out: {left.what}: {left.reason}")
        lines += [] if left.asked else [f"    {line}" for line in left.sql.splitlines()]
    for other in rescue.differences:
        lines.append(f"other than before the damage: {other.what}")
        lines += [f"    - {line}" for line in other.before.splitlines()]
        lines += [f"    + {line}" for line in other.live.splitlines()]
    return lines
