"""The versions of a bucket listed side by side: all of them, each once, and each key in one piece."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import pytest
from listing_server import Listed, open_listing
from store_lab import Store, open_store

from backout.errors import ProviderUnavailable
from backout.providers.clock import SystemClock
from backout.providers.objects.listing import list_side_by_side
from backout.providers.retry import Retry
from backout.providers.s3.client import S3Client
from backout.providers.s3.sigv4 import S3Credentials
from backout.providers.s3.transport import S3Settings

from extent import long
from scripted_server import answer, scripted_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.providers.s3.answers import ListedVersion

KEYS = ("a/b", "a.b", "a", "a/b/c", "deep/er/and/deeper/x", "ümlaut/日本 +/x", "z/1", "z/2", "zz")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(tmp_path_factory.mktemp("s3")) as found:
        yield found


def make_client(endpoint: str) -> S3Client:
    return S3Client(S3Settings(endpoint, S3Credentials("a", "b"), retry=Retry(attempts=1)), SystemClock())


def check_pieces(found: list[ListedVersion]) -> None:
    keys = [key for key, _ in groupby(found, key=lambda each: each.key)]
    assert len(keys) == len(set(keys)), "each key in one piece"


@pytest.fixture(scope="module")
def bucket(store: Store) -> str:
    """A bucket of keys in folders and outside, each overwritten, every second one deleted."""
    bucket = store.make()
    for key in KEYS:
        store.client.put(bucket, key, b"one")
        store.client.put(bucket, key, b"two")
    for key in KEYS[::2]:
        store.client.delete(bucket, key)
    return bucket


@pytest.mark.parametrize("prefix", ["", "a", "a/", "deep/", "z", "nothing/"])
def test_the_same_as_a_listing_page_after_page(store: Store, bucket: str, prefix: str) -> None:
    found = list(list_side_by_side(store.client, bucket, prefix))
    check_pieces(found)
    assert sorted(found, key=lambda each: each.key) == sorted(
        store.client.list_versions(bucket, prefix), key=lambda each: each.key
    )


@pytest.mark.parametrize("page", [long(1), 3, long(4), 1000])
@pytest.mark.parametrize("listed", [(1, 1), (40, 1), (41, 7), (100, 40)], ids=str)
def test_keys_that_go_on_in_the_next_page(listed: tuple[int, int], page: int) -> None:
    objects, folders = listed
    expected = Listed(objects, folders, page)
    with open_listing(expected) as endpoint, make_client(endpoint) as client:
        found = list(list_side_by_side(client, "b", ""))
    check_pieces(found)
    assert sorted(each.key for each in found[::2]) == [expected.key(number) for number in range(objects)]
    assert [each.is_delete_marker for each in found] == [True, False] * objects, "the newest first"


def test_a_store_without_delimiters_is_listed_page_after_page() -> None:
    with open_listing(Listed(20, page=7, divides=False)) as endpoint, make_client(endpoint) as client:
        assert len(list(list_side_by_side(client, "b", ""))) == 40


def test_who_stops_reading_is_not_waited_for() -> None:
    with open_listing(Listed(1000, page=10)) as endpoint, make_client(endpoint) as client:
        found = list_side_by_side(client, "b", "")
        assert next(found).key.startswith("models/")
        found.close()  # type: ignore[attr-defined]


def _make_page(*keys: str, folders: tuple[str, ...] = ()) -> bytes:
    entries = "".join(f"<Version><Key>{key}</Key><VersionId>v</VersionId></Version>" for key in keys)
    names = "".join(f"<CommonPrefixes><Prefix>{each}</Prefix></CommonPrefixes>" for each in folders)
    return f"<ListVersionsResult><IsTruncated>false</IsTruncated>{entries}{names}</ListVersionsResult>".encode()


@pytest.mark.parametrize("folders", [("a/", "b/"), ("a/",), ("/",)])
def test_keys_that_were_not_asked_for_are_an_error(folders: tuple[str, ...]) -> None:
    with scripted_server() as server, make_client(server.url) as client:
        server.will(answer(_make_page(folders=folders)), answer(_make_page("a/x", "b/x")))
        with pytest.raises(ProviderUnavailable, match="not asked for"):
            list(list_side_by_side(client, "b", ""))


@pytest.mark.parametrize("folders", [("a/", "a/b/"), ("a",), ("x/", "a/", "x/")])
def test_folders_that_do_not_divide_are_not_gone_by(folders: tuple[str, ...]) -> None:
    """Each key has to be in one of them: else it would come twice, or never."""
    with scripted_server() as server, make_client(server.url) as client:
        server.will(answer(_make_page(folders=folders)), answer(_make_page("a/x", "b/x")))
        assert [each.key for each in list_side_by_side(client, "b", "")] == ["a/x", "b/x"]
