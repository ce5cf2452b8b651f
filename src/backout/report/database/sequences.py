"""What became of the sequences of an exchanged cluster, as text for a person; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.escaping import shorten

if TYPE_CHECKING:
    from backout.model.database.sequences import Carried


_MANY = 10
"""At most this many sequences are named; `--json` has them all."""


def format_sequences(carried: Carried | None) -> list[str]:
    """Return the lines; none for a run that an earlier version planned.

    >>> from backout.model.database.sequences import Carried, SequencesLeft
    >>> format_sequences(Carried(3, (), (SequencesLeft("app", "public.a", "it was dropped since"),)))[1]
    'sequence public.a of app: it was dropped since'
    """
    if carried is None:
        return []
    advanced, left = carried.advanced, carried.left
    counted = f"{len(advanced)} of {carried.looked_at} advanced past what was handed out before"
    lines = [f"sequences: {counted}, read back by another session"]
    lines += [
        f"  {shorten(each.sequence)} of {shorten(each.database)}: {each.before} -> {each.now}"
        for each in advanced[:_MANY]
    ]
    if len(advanced) > _MANY:
        lines.append(f"  and {len(advanced) - _MANY} more; --json has them all")
    lines += [f"sequence {shorten(each.sequence)} of {shorten(each.database)}: {each.reason}" for each in left]
    if carried.replayed:
        lines.append(
            "sequences: the server that went had crashed; it replayed its WAL on its own first, so what it had handed "
            "out is known (a sequence may be up to 32 values further on)"
        )
    if not carried.stopped_cleanly:
        lines.append(
            "sequences: the server had not been stopped cleanly and could not replay its WAL, so what was handed out "
            "since its last checkpoint may not be known: compare them with the newest rows before anything is written"
        )
    return lines
