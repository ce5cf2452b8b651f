"""The bucket of a flight recorder: signed objects, of which the newest one of a window stands for those before it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Protocol

from backout.errors import ProviderRejected, ProviderUnavailable
from backout.providers.recorder.batches import PREFIX, Unusable, open_batches, parse_name
from backout.providers.recorder.traffic import Found, Stored, Word
from backout.providers.s3.calls import Listing
from backout.providers.s3.exchanges import MISSING
from backout.providers.s3.paging import list_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from backout.providers.recorder.batches import Batch, Name
    from backout.providers.s3.answers import Listed, Page

_LARGEST_BYTES: Final = 16 << 20
_TRIES: Final = 3  # how many objects of a window are looked at until one is usable
_READERS: Final = 8
_MOST_PAGES: Final = 2000
"""Two million objects: an hour of a thousand isolates."""
_LONGEST_LISTING_S: Final = 60.0


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


class BucketSink:
    """The batches of one script in a bucket.

    Args:
        client: the calls on the bucket.
        bucket: its name.
        script: the Worker whose answers are counted.
        keys: the signing keys.
    """

    def __init__(self, client: Objects, bucket: str, script: str, keys: tuple[bytes, ...]) -> None:
        self._client = client
        self._bucket = bucket
        self._script = script
        self._keys = keys
        self._known: dict[tuple[str, str], tuple[Batch, ...] | Unusable | None] = {}

    def fetch(self, since: int, until: int, tell: Callable[[str, int], None]) -> Found:
        """Return the batches that were stored between about these Unix seconds, each once.

        Args:
            since, until: the seconds.
            tell: told what cannot be used, and how often that was.

        Raises:
            ProviderUnavailable: nothing at all can be used, or the bucket's listing has no end.
            ProviderError: as the client.
        """
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
            tell(f"batches of the flight recorder are {why}, and are not counted, such as {keys[0]}", len(keys))
        if unusable and not any(found):
            raise ProviderUnavailable("no batch of the flight recorder can be used", where=min(unusable))
        stored: list[Stored] = []
        newest: dict[str, tuple[tuple[int, int], Stored]] = {}
        for window, batches in zip(newest_first, found, strict=True):
            instance, began = window[0][0].group
            for batch in batches:
                each = Stored(_find_stored_second(batch, window), batch)
                stored.append(each)
                place = (began, batch.seq)
                newest[instance] = max(newest.get(instance, (place, each)), (place, each), key=lambda pair: pair[0])
        return Found(tuple(stored), tuple(_read_words(each for _, each in newest.values())))

    def _list_objects(self, since: int, until: int) -> Iterator[tuple[Name, Listed]]:
        prefix = f"{PREFIX}/{self._script}/"
        listing = Listing(prefix=prefix, start_after=f"{prefix}{max(since, 0):010d}")
        bucket, last = self._bucket, listing.start_after

        def fetch(token: str | None) -> Page:
            return self._client.list_page(bucket, listing, token=token)

        for page in list_pages(fetch, bucket, most_pages=_MOST_PAGES, within_s=_LONGEST_LISTING_S):
            for listed in page.objects:
                if listed.key <= last:
                    raise ProviderUnavailable("the bucket lists the same objects again", where=bucket)
                last = listed.key
                name = parse_name(listed.key, self._script)
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
            with self._client.get(self._bucket, listed.key) as body:
                content = body.read()
        except ProviderRejected as error:
            if error.status == MISSING:
                return None
            raise
        try:
            return open_batches(listed.key, listed.last_modified, content, self._keys)
        except Unusable as why:
            return why


def _find_stored_second(batch: Batch, window: Iterable[tuple[Name, Listed]]) -> int:
    """Return the second in which a batch was stored: from its recorder, else from the first object that contains it."""
    if batch.stored is not None:
        return int(batch.stored / 1000)
    return int(min(listed.last_modified for name, listed in window if name.seq >= batch.seq))


def _read_words(newest: Iterable[Stored]) -> Iterator[Word]:
    for each in newest:
        word = each.batch.next
        if word is not None:
            yield Word(each.second, each.second + word.s, word.version)
