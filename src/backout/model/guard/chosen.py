"""Requests whose sender, not chance, chose the version that answers: in a split they say nothing about a version.

Anyone may send these headers, and the versions' ids are no secret. So a visitor could ask one version alone for what
fails on both, and have it rolled back, or ask the version before, and hide what the new one does.

Source: Cloudflare documentation, "Gradual deployments", version overrides, version affinity and cohorts.
"""

from __future__ import annotations

from enum import StrEnum
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from backout.model.guard.routes import add_up, select_most_used
from backout.model.guard.signals import Counts, merge_counts, merge_latency

if TYPE_CHECKING:
    from collections.abc import Iterable

OVERRIDES_HEADER: Final = "Cloudflare-Workers-Version-Overrides"
KEY_HEADER: Final = "Cloudflare-Workers-Version-Key"
COHORT_HEADER: Final = "Cloudflare-Workers-Cohort"
_OVERRIDES: Final = OVERRIDES_HEADER.lower()
_KEYS: Final = frozenset((KEY_HEADER.lower(), COHORT_HEADER.lower()))


class Choice(StrEnum):
    """How the version of a request was chosen.

    CHANCE: by the split. KEYED: by a key that came with it; the edge of a team may set one, and so may a visitor.
    SENDER: by its sender, who named the version.
    """

    CHANCE = "chance"
    KEYED = "keyed"
    SENDER = "sender"


def find_choice(headers: Iterable[str]) -> Choice:
    """Return how the version of a request with headers of these names was chosen; what they say does not matter.

    >>> find_choice(["Host", "cloudflare-workers-version-key"])
    <Choice.KEYED: 'keyed'>
    """
    names = {name.lower() for name in headers}
    if _OVERRIDES in names:
        return Choice.SENDER
    return Choice.CHANCE if names.isdisjoint(_KEYS) else Choice.KEYED


def settle_keyed(rows: Iterable[Counts], keyed: Iterable[Counts], *, wanted: bool) -> tuple[Counts, ...]:
    """Return the rows with those of keyed requests added where these count; by second and version.

    Args:
        keyed: rows of requests whose version a key chose, without schedules and queues.
        wanted: they count; otherwise they are among those left out.
    """
    found = {(row.second, row.version): row for row in rows}
    for row in keyed:
        more = row if wanted else Counts(row.version, row.second, 0, 0, chosen=row.requests + row.canceled)
        before = found.get((row.second, row.version))
        found[row.second, row.version] = more if before is None else _add_up(before, more)
    return tuple(sorted(found.values(), key=attrgetter("second", "version")))


def _add_up(row: Counts, keyed: Counts) -> Counts:
    routes = {
        name: add_up(each.routes[name] for each in (row, keyed) if name in each.routes)
        for name in dict.fromkeys((*row.routes, *keyed.routes))
    }
    left = {
        name: merge_counts(each.left[name] for each in (row, keyed) if name in each.left)
        for name in dict.fromkeys((*row.left, *keyed.left))
    }
    return Counts(
        row.version,
        row.second,
        row.requests + keyed.requests,
        row.errors + keyed.errors,
        row.canceled + keyed.canceled,
        merge_latency((row, keyed)),
        select_most_used(routes),
        merge_counts((row.classes, keyed.classes)),
        row.started + keyed.started,
        row.triggers,
        left,
        row.chosen + keyed.chosen,
    )
