"""Adds up the rows of the recorder's batches: what one row adds to the counts of its second; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.guard.answers import classify_unless_good
from backout.model.guard.chosen import settle_keyed
from backout.model.guard.routes import OTHER, parse_template_name
from backout.model.guard.signals import limit_counts, merge_counts
from backout.model.triggers import parse_trigger_name
from backout.model.value import Value
from backout.providers.recorder.batches import UNNAMED
from backout.providers.tally import RowSum

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backout.model.guard.route_names import RouteNames
    from backout.model.guard.signals import Counts
    from backout.providers.recorder.batches import Batch, Row


class Dated(Value, frozen=True):
    """A batch, and when it came.

    Args:
        stored: the second in which it was stored, by the sink's clock.
        open_s: how long before that a second still took its rows; an older row is counted in the first such second.
    """

    batch: Batch
    stored: int
    open_s: int

    def find_second(self, row: Row) -> int:
        """Return the second in which a row is counted."""
        return min(max(row.second, self.stored - self.open_s), self.stored)


class Uncounted(Value, frozen=True):
    """How many answers the recorder had no room for, how many had no version, how many flushes never came."""

    lost: int
    nameless: int
    gaps: int


def count_rows(
    dated: Iterable[Dated], since: int, until: int, names: RouteNames, *, takes_keyed: bool
) -> tuple[tuple[Counts, ...], Uncounted]:
    """Return the counts of the seconds in [since, until), and what is not among them."""
    sums: dict[tuple[bool, int, str], RowSum] = {}
    nameless = lost = gaps = 0
    for each in dated:
        batch = each.batch
        if since <= each.stored < until:
            lost, gaps = lost + batch.lost, gaps + batch.gaps
        for row in batch.rows:
            second = each.find_second(row)
            if not row.version:
                nameless += row.requests
            elif since <= second < until and (row.requests or row.canceled or row.triggers or row.chosen):
                whole = sums.setdefault((row.keyed, second, row.version), RowSum())
                _add(whole, row, names if batch.templates else None)
    rows, keyed = (
        [found.as_counts(version, second) for (is_keyed, second, version), found in sums.items() if is_keyed is kind]
        for kind in (False, True)
    )
    return settle_keyed(rows, keyed, wanted=takes_keyed), Uncounted(lost, nameless, gaps)


def _add(whole: RowSum, row: Row, names: RouteNames | None) -> None:
    """Add a row.

    Args:
        names: fold the words that are many; None where the application names its own routes.
    """
    whole.canceled += row.canceled
    whole.chosen += row.chosen
    for name, (runs, failed) in row.triggers.items():
        whole.add_trigger(parse_trigger_name(name), runs, min(failed, runs))
    name = OTHER if row.route == UNNAMED else parse_template_name(row.route)
    for bucket, number in limit_counts(row.left, row.canceled).items():
        whole.add_left(names.find(name) if names is not None else name, bucket, number)
    if not row.requests:
        return
    if names is not None:
        name = names.choose(name, _find_client_error_status(row), row.requests)
    errors = min(row.errors, row.requests)
    found = ((classify_unless_good(status), number) for status, number in sorted(row.statuses.items()))
    classes = limit_counts(merge_counts({each: number} for each, number in found if each), row.requests - errors)
    for part in (whole, whole.route(name)):
        part.add(row.requests, errors, row.latency)
        for each, number in classes.items():
            part.add_class(each, number)


def _find_client_error_status(row: Row) -> int | None:
    """Return a status where all answers of a row were mistakes of the client (4xx), None otherwise."""
    return next(iter(row.statuses), None) if all(400 <= status < 500 for status in row.statuses) else None
