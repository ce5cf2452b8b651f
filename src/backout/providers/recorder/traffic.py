"""Port Traffic on the bucket of a flight recorder: every isolate's batches, added up per version and second.

When a second is final. An answer is counted in the second in which it ended, by the edge's clock. Its batch is stored
`flush_s` later, and within `flush_s` + 2 s of that second's end in all but odd cases; what is stored later than that is
counted in the first second that was still open when it arrived, so that nothing is lost and no final second changes.
"Stored" is the bucket's own clock, the same for all isolates and all readers. The watermark is two seconds
behind that again, for our clock may differ from the bucket's.

When a recorder is alive. No batch for a minute may mean no visitor, or no recorder: the watermark stops until there is
one. The probes that guard sends are answers too, so a recorder that lives is heard while guard watches.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from backout.errors import ProviderRejected, ProviderUnavailable
from backout.model.guard.answers import EVERY_CLASS, classify_unless_good
from backout.model.guard.chosen import settle_keyed
from backout.model.guard.route_names import RouteNames
from backout.model.guard.routes import OTHER, parse_template_name
from backout.model.guard.signals import CountsPage, SourceTraits, limit_counts, merge_counts
from backout.model.triggers import parse_trigger_name
from backout.providers.recorder.batches import PREFIX, UNNAMED, Unusable, open_batches, parse_name
from backout.providers.retry import Retry
from backout.providers.s3.calls import Listing
from backout.providers.s3.paging import list_pages
from backout.providers.tally import RowSum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from backout.model.guard.signals import Counts
    from backout.ports import Clock
    from backout.providers.recorder.batches import Batch, Name, Row
    from backout.providers.s3.answers import Listed, Page

QUICK: Final = Retry(attempts=2, first_wait_s=0.1, longest_wait_s=1.0, total_s=5.0)
"""A watch asks again in a second anyway."""
SILENT_S: Final = 60
_SLACK_S: Final = 2
_CLOCK_S: Final = 2
_BEYOND_S: Final = 15  # between the second in an object's name and the one in which it was stored
_LARGEST_BYTES: Final = 16 << 20
_TRIES: Final = 3  # how many objects of a window are looked at until one is usable
_READERS: Final = 8
_MISSING: Final = 404
_MOST_PAGES: Final = 2000
"""Two million objects: an hour of a thousand isolates."""
_LONGEST_LISTING_S: Final = 60.0
_NEWEST: Final = 3
_WITH_METHODS: Final = 2


def _find_stored_second(batch: Batch, window: Iterable[tuple[Name, Listed]]) -> int:
    """Return the second in which a batch was stored: from its recorder, else from the first object that contains it."""
    if batch.stored is not None:
        return int(batch.stored / 1000)
    return int(min(listed.last_modified for name, listed in window if name.seq >= batch.seq))


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


class Content(Protocol):
    """The bytes of an object."""

    def read(self) -> bytes:
        """Return all of them."""
        ...


class Objects(Protocol):
    """The calls used on the bucket; `S3Client` has more."""

    def list_page(self, bucket: str, listing: Listing, *, token: str | None = None) -> Page:
        """Return one page of a listing, by key."""
        ...

    def get(self, bucket: str, key: str) -> AbstractContextManager[Content]:
        """Open an object."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """The source of the counts: the Worker's name, the bucket, the signing keys; how often the recorder stores."""

    script: str
    bucket: str
    keys: tuple[bytes, ...] = field(repr=False)
    flush_s: float = 2.0


def make_traits(flush_s: float, *, knows: int = _NEWEST) -> SourceTraits:
    """Return what a recorder that stores so often can see: each answer, some seconds later.

    Args:
        knows: the lowest `Batch.v` of what was read.
    """
    return SourceTraits(
        "recorder",
        lag_s=float(_measure_open_s(flush_s) + _CLOCK_S + 1),
        sampled=False,
        has_status=True,
        has_version=True,
        classes=EVERY_CLASS,
        has_method=knows >= _WITH_METHODS,
        has_triggers=knows >= _WITH_METHODS,
        has_choice=knows >= _NEWEST,
    )


def _measure_open_s(flush_s: float) -> int:
    """Return for how many seconds a second takes batches."""
    return int(flush_s) + _SLACK_S


class RecorderTraffic:
    """Port Traffic of one script whose answers a flight recorder counts.

    Args:
        say: told in one sentence, once each, what cannot be counted: objects that are unreadable or badly signed, and
            answers that the recorder lost itself.
    """

    def __init__(
        self, client: Objects, source: Source, clock: Clock, say: Callable[[str], None] = lambda _text: None
    ) -> None:
        self._client = client
        self._source = source
        self._clock = clock
        self._say = say
        self._open_s = _measure_open_s(source.flush_s)
        self._known: dict[tuple[str, str], tuple[Batch, ...] | Unusable | None] = {}
        self._told: set[str] = set()
        self._names = RouteNames()
        self._knows = _NEWEST
        self._takes_keyed = True

    @property
    def traits(self) -> SourceTraits:
        """What this source can see: less while a recorder of an earlier version stores."""
        return make_traits(self._source.flush_s, knows=self._knows)

    def learn(self, names: Iterable[str]) -> None:
        """Take the names of routes that are known from before."""
        self._names.learn(names)

    def count_keyed(self, *, wanted: bool) -> None:
        """Count requests whose version a key chose as all others, or leave them out."""
        self._takes_keyed = wanted

    def read(self, since: int, until: int) -> CountsPage:
        """Return the counts of the seconds in [since, until), all isolates added up."""
        final = int(self._clock.now()) - self._open_s - _CLOCK_S
        batches = self._batches(since - SILENT_S - _BEYOND_S, until + self._open_s + _BEYOND_S)
        alive = max((stored for stored, _ in batches), default=None)
        self._knows = min((batch.v for _, batch in batches), default=self._knows)
        heard = since if alive is None else alive - self._open_s + SILENT_S
        return CountsPage(self._counts(batches, since, until), min(final, heard))

    def _counts(self, batches: Iterable[tuple[int, Batch]], since: int, until: int) -> tuple[Counts, ...]:
        sums: dict[tuple[bool, int, str], RowSum] = {}
        nameless = lost = 0
        for stored, batch in batches:
            lost += batch.lost if since <= stored < until else 0
            for row in batch.rows:
                second = min(max(row.second, stored - self._open_s), stored)
                if not row.version:
                    nameless += row.requests
                elif since <= second < until and (row.requests or row.canceled or row.triggers or row.chosen):
                    whole = sums.setdefault((row.keyed, second, row.version), RowSum())
                    _add(whole, row, self._names if batch.templates else None)
        if lost:
            self._tell("the flight recorder had no room for some answers: its counts are too low", lost)
        if nameless:
            self._tell("the flight recorder saw answers without a version, and they are not counted", nameless)
        rows, keyed = (
            [
                found.as_counts(version, second)
                for (is_keyed, second, version), found in sums.items()
                if is_keyed is kind
            ]
            for kind in (False, True)
        )
        return settle_keyed(rows, keyed, wanted=self._takes_keyed)

    def _batches(self, since: int, until: int) -> list[tuple[int, Batch]]:
        """Return the batches that were stored between about these seconds, each once, with the second of that."""
        windows: dict[tuple[str, int], list[tuple[Name, Listed]]] = {}
        for name, listed in self._list_objects(since, until):
            windows.setdefault(name.group, []).append((name, listed))
        newest_first = [sorted(found, key=lambda pair: -pair[0].seq) for found in windows.values()]
        before, self._known = self._known, {}
        new = sum((window[0][1].key, window[0][1].etag) not in before for window in newest_first)
        with ThreadPoolExecutor(_READERS if new > 1 else 1, thread_name_prefix="recorder") as readers:
            found = list(readers.map(lambda window: self._usable(window, before), newest_first))
        unusable = {key: why for (key, _), why in self._known.items() if isinstance(why, Unusable)}
        for why in sorted({str(why) for why in unusable.values()}):
            keys = sorted(key for key, other in unusable.items() if str(other) == why)
            self._tell(f"batches of the flight recorder are {why}, and are not counted, such as {keys[0]}", len(keys))
        if unusable and not any(found):
            raise ProviderUnavailable("no batch of the flight recorder can be used", where=min(unusable))
        dated = zip(newest_first, found, strict=True)
        return [(_find_stored_second(batch, window), batch) for window, batches in dated for batch in batches]

    def _list_objects(self, since: int, until: int) -> Iterator[tuple[Name, Listed]]:
        prefix = f"{PREFIX}/{self._source.script}/"
        listing = Listing(prefix=prefix, start_after=f"{prefix}{max(since, 0):010d}")
        bucket, last = self._source.bucket, listing.start_after

        def fetch(token: str | None) -> Page:
            return self._client.list_page(bucket, listing, token=token)

        for page in list_pages(fetch, bucket, most_pages=_MOST_PAGES, within_s=_LONGEST_LISTING_S):
            for listed in page.objects:
                if listed.key <= last:
                    raise ProviderUnavailable("the bucket lists the same objects again", where=bucket)
                last = listed.key
                name = parse_name(listed.key, self._source.script)
                if name is not None and name.second > until:
                    return
                if name is not None:
                    yield name, listed

    def _usable(
        self, window: Sequence[tuple[Name, Listed]], before: dict[tuple[str, str], tuple[Batch, ...] | Unusable | None]
    ) -> tuple[Batch, ...]:
        """Return the batches of a window: those of its newest object that can be used."""
        for _, listed in window[:_TRIES]:
            identity = (listed.key, listed.etag)
            found = before[identity] if identity in before else self._read_batches(listed)
            self._known[identity] = found
            if isinstance(found, tuple):
                return found
        return ()

    def _read_batches(self, listed: Listed) -> tuple[Batch, ...] | Unusable | None:
        """Return an object's batches, or why it has none; None when it was deleted meanwhile."""
        if listed.size_bytes > _LARGEST_BYTES:
            return Unusable("too large")
        try:
            with self._client.get(self._source.bucket, listed.key) as body:
                content = body.read()
        except ProviderRejected as error:
            if error.status == _MISSING:
                return None
            raise
        try:
            return open_batches(listed.key, listed.last_modified, content, self._source.keys)
        except Unusable as why:
            return why

    def _tell(self, what: str, number: int) -> None:
        kind = what.partition(", such as ")[0]
        if kind not in self._told:
            self._told.add(kind)
            self._say(f"{what} ({number})")
