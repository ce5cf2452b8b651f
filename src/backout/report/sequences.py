"""What became of the sequences of a cluster that was exchanged, as a person reads it; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.escaping import brief

if TYPE_CHECKING:
    from backout.model.plan import Json

_MANY = 10
"""So many sequences are named; `--json` has them all."""


def sequence_lines(carried: Json) -> list[str]:
    """Return it line by line; nothing of a run that an earlier version planned.

    >>> left = [{"database": "app", "sequence": "public.a", "reason": "it was dropped since"}]
    >>> sequence_lines({"looked_at": 3, "advanced": [], "left": left, "stopped_cleanly": True})[1]
    'sequence public.a of app: it was dropped since'
    """
    if not isinstance(carried, dict):
        return []
    advanced, left = _records(carried, "advanced"), _records(carried, "left")
    counted = f"{len(advanced)} of {carried['looked_at']} advanced past what was handed out before"
    lines = [f"sequences: {counted}, read back by another session"]
    for each in advanced[:_MANY]:
        named = f"{brief(str(each['sequence']))} of {brief(str(each['database']))}"
        lines.append(f"  {named}: {each['before']} -> {each['now']}")
    if len(advanced) > _MANY:
        lines.append(f"  and {len(advanced) - _MANY} more; --json has them all")
    lines += [
        f"sequence {brief(str(each['sequence']))} of {brief(str(each['database']))}: {each['reason']}" for each in left
    ]
    if not carried["stopped_cleanly"]:
        lines.append(
            "sequences: the server had not been stopped cleanly, so what was handed out since its last checkpoint may "
            "not be known: compare them with the newest rows before anybody writes"
        )
    return lines


def _records(carried: dict[str, Json], name: str) -> list[dict[str, Json]]:
    found = carried[name]
    assert isinstance(found, list)  # noqa: S101 as recorded
    return [each for each in found if isinstance(each, dict)]
