"""How often an archive of WAL is listed: whole now and then, and in between only behind what is known."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backout.providers.archive.bucket import BucketStore
from backout.providers.archive.wal import PARTIAL, WalArchive, format_segment_name
from backout.providers.clock import SystemClock
from backout.providers.s3.client import S3Client
from backout.providers.s3.transport import S3Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.providers.s3.answers import Page
    from backout.providers.s3.calls import Listing

SEGMENT = 1 << 20
MANY = 60


class Counting(S3Client):
    """Counts what is listed: the requests, and the keys that came back."""

    requests = keys = 0

    def list_page(self, bucket: str, listing: Listing, *, token: str | None = None) -> Page:  # type: ignore[override]
        page = super().list_page(bucket, listing, token=token)
        self.requests += 1
        self.keys += len(page.objects)
        return page

    def counted(self) -> tuple[int, int]:
        found, self.requests, self.keys = (self.requests, self.keys), 0, 0
        return found


@pytest.fixture(scope="module")
def client() -> Iterator[Counting]:
    from backout.config.access import parse_access  # noqa: PLC0415 only with a bucket
    from backout.config.secret import Secret  # noqa: PLC0415 same
    from backout.providers.s3.sigv4 import S3Credentials  # noqa: PLC0415 same

    from twin_services import running_services  # noqa: PLC0415 same

    with tempfile.TemporaryDirectory(prefix="listing-") as folder, running_services(Path(folder)) as running:
        content = Path(running.services.s3_credentials_file).read_text(encoding="utf-8")
        access = parse_access(Secret(content, name="key"), lambda _: None, "test")
        credentials = S3Credentials(access.access_key_id, access.secret_access_key.reveal())
        with Counting(S3Settings(running.services.s3_endpoint, credentials), SystemClock()) as made:
            made.create_bucket("backups")
            yield made


def test_who_looks_again_lists_only_what_is_new(client: Counting, tmp_path: Path) -> None:
    """A request for each timeline and one more, whatever the archive holds; a whole listing shows what was removed."""
    store = BucketStore(client, "backups", "shop")
    archive, writer = (WalArchive(store, "7", tmp_path / "incoming", None) for _ in range(2))
    writer.set_layout(SEGMENT)

    def keep(number: int, *, timeline: int = 1, end: str = "") -> str:
        name = format_segment_name(timeline, number * SEGMENT, SEGMENT)
        writer.keep(name + end, b"x" * 8)
        return name

    def seen() -> set[tuple[str, bool]]:
        return {(each.name, each.partial) for each in archive.segments()}

    names = [keep(number) for number in range(MANY)]
    partial = keep(MANY, end=PARTIAL)
    client.counted()
    whole = {*((name, False) for name in names), (partial, True)}
    assert seen() == whole
    assert client.counted() == (1, MANY + 2)  # with layout.json
    for _ in range(3):
        assert seen() == whole
        requests, keys = client.counted()
        assert (requests, keys <= 3) == (2, True)
    assert keep(MANY) == partial  # whole now; what was stored of it before is still there
    branch = keep(MANY, timeline=2)
    assert seen() == {*((name, False) for name in names), (partial, False), (branch, False)}
    writer.forget_partial(partial)
    newest = keep(MANY + 1)  # of the older timeline, as after the undo of a swap
    assert seen() == {*((name, False) for name in (*names, partial, branch, newest))}
    requests, keys = client.counted()
    assert (requests, keys <= 10) == (5, True)
    store.delete([f"wal/7/{names[3]}"])
    assert (names[3], False) in seen()  # until the whole is listed again
    archive.look_anew()
    assert (names[3], False) not in seen()
