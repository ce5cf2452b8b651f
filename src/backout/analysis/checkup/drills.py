"""Checks of drills: which should be run again, and whether any passed lately; pure."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from backout.analysis.drills import list_due
from backout.model.checkup import should
from backout.model.clock import format_duration
from backout.model.hint import suggest_line, suggest_words
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from backout.model.checkup import Check
    from backout.model.drill import DrillRecord


class Wanted(Value, frozen=True):
    """A drill that should be run now and then.

    Args:
        counts_s: how long a success counts.
        environment: where it takes place, "" for the twin.
        lacks: what is to be written first, "" for nothing.
    """

    name: str
    counts_s: float
    environment: str = ""
    lacks: str = ""

    @property
    def check_name(self) -> str:
        """The name of its check."""
        return f"drill_{self.name.replace('-', '_')}"


def check_drills(wanted: Collection[Wanted], records: Collection[DrillRecord], now: float) -> Iterator[Check]:
    """Yield for each drill whether it passed lately, the one that waits longest first; those that are not due last.

    Args:
        now: Unix seconds.
    """
    known = {each.name: each for each in wanted}
    due = list_due({each.name: each.counts_s for each in wanted if not each.lacks}, records, now)
    for each in due:
        place = known[each.name].environment
        line = f"backout drill run {shlex.quote(each.name)}" + (f" -e {shlex.quote(place)}" if place else "")
        yield should(known[each.name].check_name).missing(each.why, suggest_line(line))
    late = {each.name for each in due}
    passed = {each.name: each.at for each in sorted(records, key=lambda record: record.at)}
    for drill in wanted:
        if drill.lacks:
            yield should(drill.check_name).not_set_up(drill.lacks, suggest_words("write its file: docs/drills.md"))
        elif drill.name not in late:
            age_s = max(now - passed[drill.name], 0.0)
            yield should(drill.check_name).ok(f"it passed {format_duration(age_s)} ago")
