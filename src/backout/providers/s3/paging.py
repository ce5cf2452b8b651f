"""Pages of a listing, one after the other, with an end: a server that goes round in circles is an error."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from backout.errors import ProviderUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from backout.providers.s3.answers import Page, VersionPage

    PageT = TypeVar("PageT", Page, VersionPage)
    Place = TypeVar("Place", str, tuple[str, str])

MOST_PAGES: Final = 10_000
"""Ten million objects."""
WITHIN_S: Final = 1800.0
"""The time that all requests of one listing may take together."""


def list_pages(
    fetch: Callable[[str | None], Page], where: str, *, most_pages: int = MOST_PAGES, within_s: float = WITHIN_S
) -> Iterator[Page]:
    """Yield the pages of a listing of objects.

    Args:
        fetch: returns the page behind a token, the first one for None.
        where: what is listed, for a message.
        most_pages: then it is too long.
        within_s: what the requests may take together; the time between them is the caller's own.

    Raises:
        ProviderUnavailable: it has no end, see `_follow`; otherwise as `fetch`.
    """
    return _follow(
        fetch, lambda page: page.next_token, lambda page: [one.key for one in page.objects], where, most_pages, within_s
    )


def list_version_pages(
    fetch: Callable[[tuple[str, str] | None], VersionPage],
    where: str,
    *,
    most_pages: int = MOST_PAGES,
    within_s: float = WITHIN_S,
) -> Iterator[VersionPage]:
    """Yield the pages of a listing of versions, otherwise as `list_pages`.

    Raises:
        ProviderUnavailable: it has no end, see `_follow`; otherwise as `fetch`.
    """
    return _follow(
        fetch,
        lambda page: page.next_markers,
        lambda page: [(one.key, one.version_id) for one in page.versions],
        where,
        most_pages,
        within_s,
    )


def _follow(
    fetch: Callable[[Place | None], PageT],
    find_next: Callable[[PageT], Place | None],
    list_entries: Callable[[PageT], list[str] | list[tuple[str, str]]],
    where: str,
    most_pages: int,
    within_s: float,
) -> Iterator[PageT]:
    """Yield page after page.

    Raises:
        ProviderUnavailable: a place comes a second time, or a page begins with what another began with; or there are
            too many pages, or they took too long. An order of the keys is not asked for: not every store has S3's.
    """
    place: Place | None = None
    places: set[object] = set()
    firsts: set[object] = set()
    spent_s = 0.0
    for _ in range(most_pages):
        begun = time.monotonic()
        page = fetch(place)
        spent_s += time.monotonic() - begun
        first = next(iter(list_entries(page)), None)
        if first is not None:
            if first in firsts:
                raise _make_endless_error("the same page came twice", where)
            firsts.add(first)
        yield page
        place = find_next(page)
        if place is None:
            return
        if place in places:
            raise _make_endless_error("it leads back to where it was", where)
        if spent_s > within_s:
            raise _make_endless_error(f"it had not ended after {spent_s:.0f} s", where)
        places.add(place)
    raise _make_endless_error(f"it had not ended after {most_pages} pages", where)


def _make_endless_error(why: str, where: str) -> ProviderUnavailable:
    return ProviderUnavailable(
        f"S3's listing has no end: {why}", where=where, hint="look at the store: it is not sound"
    )
