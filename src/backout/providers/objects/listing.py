"""The versions of a bucket, listed side by side: a store answers one listing after the other, and each page by itself.

A bucket is divided at its folders, which a listing with a delimiter names. Ranges of keys would need an order of the
keys that all stores share, and they do not: SeaweedFS lists `a/b` before `a.b`.
"""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING, Final

from backout.errors import ProviderUnavailable
from backout.providers.s3.calls import Listing
from backout.providers.s3.paging import list_version_pages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from backout.providers.s3.answers import ListedVersion, VersionPage
    from backout.providers.s3.client import S3Client

    Pages = Iterator[VersionPage]

_AT_ONCE: Final = 8
_DEEPEST: Final = 4
"""How many folders that lie alone in one another are looked into."""
_DELIMITER: Final = "/"


def list_side_by_side(client: S3Client, bucket: str, prefix: str) -> Iterator[ListedVersion]:
    """Yield every version and delete marker below a prefix: the newest of each key first, each key in one piece.

    The keys come in no order. A bucket that has no folders, or more than one page names, is listed page after page.

    Raises:
        ProviderUnavailable: a listing has no end, or has keys that were not asked for; otherwise as the client.
    """
    divided = _divide(client, bucket, prefix)
    if divided is None:
        yield from client.list_versions(bucket, prefix)
        return
    direct, folders = divided
    yield from direct
    waiting = iter(folders)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="listing") as threads:

        def begin(number: int) -> dict[Future[VersionPage | None], _Part]:
            parts = [_Part(client, bucket, folder) for folder in islice(waiting, number)]
            return {threads.submit(part.read): part for part in parts}

        reading = begin(_AT_ONCE)
        try:
            while reading:
                done, _ = wait(reading, return_when=FIRST_COMPLETED)
                for future in done:
                    part, page = reading.pop(future), future.result()
                    if page is None:
                        reading |= begin(1)
                    else:
                        reading[threads.submit(part.read)] = part
                    yield from part.complete(page)
        finally:
            threads.shutdown(wait=True, cancel_futures=True)


def _divide(client: S3Client, bucket: str, prefix: str) -> tuple[list[ListedVersion], tuple[str, ...]] | None:
    """Return the versions that lie in no folder, and the folders; None: one page does not name them all."""
    direct: list[ListedVersion] = []
    for _ in range(_DEEPEST):
        page = client.version_page(bucket, Listing(prefix=prefix, delimiter=_DELIMITER))
        _check_keys(page, bucket, prefix)
        if page.next_markers is not None or not _are_folders(page.prefixes, prefix):
            return None
        direct += page.versions
        if len(page.prefixes) != 1:
            return direct, page.prefixes
        prefix = page.prefixes[0]
    return direct, (prefix,)


def _are_folders(prefixes: tuple[str, ...], above: str) -> bool:
    """Whether these divide what lies above them, each key into one of them: as the delimiter asks for."""
    names = {each.removeprefix(above) for each in prefixes if each.startswith(above)}
    return len(names) == len(prefixes) and all(name.find(_DELIMITER) == len(name) - 1 for name in names)


def _check_keys(page: VersionPage, bucket: str, prefix: str) -> None:
    """Look at the keys of a page. Raises ProviderUnavailable: some lie elsewhere, so they would come twice."""
    if not all(each.key.startswith(prefix) for each in page.versions):
        what = "S3's listing has keys that were not asked for"
        raise ProviderUnavailable(what, where=f"{bucket}/{prefix}", hint="look at the store: it is not sound")


class _Part:
    """The listing of one folder."""

    def __init__(self, client: S3Client, bucket: str, folder: str) -> None:
        self._bucket, self._folder = bucket, folder
        listing = Listing(prefix=folder)
        self._pages: Pages = list_version_pages(
            lambda markers: client.version_page(bucket, listing, markers=markers), f"{bucket}/{folder}"
        )
        self._held: list[ListedVersion] = []

    def read(self) -> VersionPage | None:
        """Return the next page, None at the end."""
        return next(self._pages, None)

    def complete(self, page: VersionPage | None) -> list[ListedVersion]:
        """Return what can be passed on with a page: its last key may go on in the next one, and is held back.

        Raises:
            ProviderUnavailable: the page has keys of another folder.
        """
        if page is None:
            return self._held
        _check_keys(page, self._bucket, self._folder)
        found = [*self._held, *page.versions]
        last = found[-1].key if found else ""
        end = len(found)
        while end and found[end - 1].key == last:
            end -= 1
        self._held = found[end:]
        return found[:end]
