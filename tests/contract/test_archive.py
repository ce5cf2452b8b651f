"""How backups are kept: sealed objects, packs, the WAL archive; on a folder and on a real S3 server."""

from __future__ import annotations

import os
import resource
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from values import replace

from backout.errors import AuthError, BackoutError, Refused
from backout.model.database.recovery import BackupKind
from backout.model.database.wal import show_lsn
from backout.providers.archive import wal
from backout.providers.archive.bucket import BucketStore
from backout.providers.archive.levels import LONG, PAGE, SHORT, compute_crc32c
from backout.providers.archive.packing import Index, Packs, Source
from backout.providers.archive.records import Facts, check_signature, decode, encode
from backout.providers.archive.sealing import Damaged, Key, Sealer, make_compressor, open_frames, pack, unpack
from backout.providers.archive.stores import FolderStore, Store
from backout.providers.archive.wal import PARTIAL, WalArchive, format_segment_name, make_segment, measure_received
from backout.providers.clock import SystemClock
from backout.providers.s3.client import S3Client
from backout.providers.s3.transport import S3Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = Key(bytes(range(32)))
OTHER = Key(bytes(32))
SEGMENT = 1 << 20


@pytest.fixture(scope="module")
def bucket() -> Iterator[S3Client]:
    from backout.config.access import parse_access  # noqa: PLC0415 same
    from backout.config.secret import Secret  # noqa: PLC0415 same
    from backout.providers.s3.sigv4 import S3Credentials  # noqa: PLC0415 same

    from twin_services import running_services  # noqa: PLC0415 only with a bucket

    with tempfile.TemporaryDirectory(prefix="archive-") as folder, running_services(Path(folder)) as running:
        content = Path(running.services.s3_credentials_file).read_text(encoding="utf-8")
        access = parse_access(Secret(content, name="key"), lambda _: None, "test")
        credentials = S3Credentials(access.access_key_id, access.secret_access_key.reveal())
        endpoint = running.services.s3_endpoint
        with S3Client(S3Settings(endpoint, credentials), SystemClock()) as client:
            client.create_bucket("backups")
            yield client


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    return BucketStore(request.getfixturevalue("bucket"), "backups", f"of/{os.urandom(4).hex()}")


def test_a_store_keeps_lists_replaces_and_deletes(store: Store) -> None:
    """The same on a folder and in a bucket; what is not there is None, or nothing."""
    assert store.get("base/1/record.json") is None
    assert store.keys("base/") == ()
    store.put("base/2/record.json", b"two")
    store.put("base/1/record.json", b"one")
    store.put("base/1/record.json", b"one again")
    store.put("wal/1", b"")
    assert store.keys("base/") == (("base/1/record.json", 9), ("base/2/record.json", 3))
    assert store.get("base/1/record.json") == b"one again"
    assert store.get("wal/1") == b""
    store.delete(["base/1/record.json", "base/9/none"])
    store.delete([])
    assert [key for key, _ in store.keys("")] == ["base/2/record.json", "wal/1"]


def test_a_large_object_goes_up_in_parts(bucket: S3Client) -> None:
    """Above 32 MiB the client uploads in parts; it comes back as it was."""
    store, data = BucketStore(bucket, "backups", "large"), os.urandom(1 << 20) * 33
    store.put("base/1/pack-000000", data)
    assert store.get("base/1/pack-000000") == data


def test_a_folder_that_refuses_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    """A file where a folder is needed, and a disk that is full (a limit on the size of files stands for it)."""
    (tmp_path / "base").write_text("in the way", encoding="utf-8")
    store = FolderStore(tmp_path)
    with pytest.raises(BackoutError, match="cannot be written") as refused:
        store.put("base/1/pack-000000", b"x")
    assert refused.value.where == str(tmp_path / "base/1/pack-000000")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(BackoutError, match="no room left") as full:
            store.put("wal/large", bytes(8192))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert full.value.hint is not None
    assert store.keys("wal/") == ()
    assert list((tmp_path / "wal").iterdir()) == []


# --- sealing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "sealed"])
@pytest.mark.parametrize("size", [0, 1, 1000, 4096, 5000])
def test_an_object_comes_back_as_it_was(key: Key | None, size: int) -> None:
    """In one block or in several."""
    content = os.urandom(size)
    data = pack("wal/1/A", content, key, block_bytes=1000)
    assert unpack("wal/1/A", data, key) == content
    assert key is None or size < 16 or content[:16] not in data  # one byte may be there by chance


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "sealed"])
def test_no_damage_goes_unseen(key: Key | None) -> None:
    """One bit anywhere, a cut at any length, and something behind the end."""
    content = bytes(range(256)) * 8
    data = pack("n", content, key, block_bytes=512)
    step = 7
    for at in range(0, len(data), step):
        with pytest.raises(BackoutError):
            unpack("n", data[:at], key)
        broken = bytearray(data)
        broken[at] ^= 1 << (at % 8)
        with pytest.raises((BackoutError, AuthError)):
            unpack("n", bytes(broken), key)
    with pytest.raises(BackoutError, match="after its end"):
        unpack("n", data + b"\0", key)


def test_sealed_blocks_cannot_change_their_place() -> None:
    """Two blocks swapped, one left out at the end, one object in the place of another: all found."""
    sealer = Sealer("n", KEY)
    one, two, last = (sealer.seal(n, make_compressor(3)(bytes([n]) * 100), last=n == 2) for n in range(3))
    head = sealer.head
    assert len(list(open_frames("n", head + one + two + last, KEY))) == 3
    early_end = head + one + two[:4] + b"\x01" + two[5:]
    for data in (head + two + one + last, head + one + last, early_end, head + one + one + last):
        with pytest.raises(Damaged):
            list(open_frames("n", data, KEY))
    with pytest.raises(Damaged):
        list(open_frames("m", head + one + two + last, KEY))


def test_a_wrong_or_missing_key_is_told_from_damage() -> None:
    """Without a key it is an error of authentication; a plain object is not taken where everything is sealed."""
    sealed = pack("n", b"secret", KEY)
    with pytest.raises(AuthError, match="encrypted, and there is no key"):
        unpack("n", sealed, None)
    with pytest.raises(BackoutError, match="not sealed with this key"):
        unpack("n", sealed, OTHER)
    with pytest.raises(BackoutError, match="not encrypted"):
        unpack("n", pack("n", b"forged", None), KEY)


@pytest.mark.parametrize("text", ["", "short", "00" * 31, "zz" * 32, "QUJD"])
def test_a_key_that_is_none_is_refused(text: str) -> None:
    """32 bytes, as hexadecimal digits or base64; what was given is not quoted."""
    with pytest.raises(AuthError, match="32 bytes") as refused:
        Key.parse(text)
    assert not text or text not in str(refused.value)
    assert Key.parse("00" * 32).fingerprint == Key.parse("A" * 43 + "=").fingerprint == OTHER.fingerprint


# --- packs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "sealed"])
def test_a_folder_goes_into_packs_and_comes_back(store: Store, tmp_path: Path, key: Key | None) -> None:
    """Large, small and empty files; a second backup stores only what changed."""
    root = tmp_path / "data"
    (root / "base" / "5").mkdir(parents=True)
    (root / "pg_notify").mkdir()
    contents = {f"base/5/{n}": os.urandom(100 + n) for n in range(50)}
    contents |= {"base/5/large": os.urandom(9 << 20), "PG_VERSION": b"18\n", "base/5/empty": b""}
    for path, content in contents.items():
        (root / path).write_bytes(content)
    first = Source(root, "one", {})
    one = Index(first.files, first.folders, Packs(store, key).write(first, "one", 1, lambda *_: None))
    (root / "base/5/7").write_bytes(b"changed")
    second = Source(root, "two", {file.path: file for file in one.files})
    two = Index(second.files, second.folders, Packs(store, key).write(second, "two", 1, lambda *_: None))
    assert second.size == len(b"changed")
    assert "pg_notify" in two.folders
    into = tmp_path / "into"
    for folder in two.folders:
        (into / folder).mkdir(parents=True)
    for holder, index in (("one", one), ("two", two)):
        wanted = [file for file in two.files if file.backup == holder]
        Packs(store, key).read(holder, index, wanted, into, lambda _: None)
    for path, content in {**contents, "base/5/7": b"changed"}.items():
        assert not content or (into / path).read_bytes() == content, path


# --- WAL ------------------------------------------------------------------------------------------------------------


def test_names_of_segments() -> None:
    """There and back, for two sizes of segments."""
    for size in (1 << 20, 16 << 20):
        for lsn in (0, size, 0x1_2345_6789 // size * size, 0xFF_FF00_0000):
            found = make_segment(format_segment_name(3, lsn, size), size)
            assert (found.timeline, found.begin_lsn, found.end_lsn) == (3, lsn, lsn + size), show_lsn(lsn)


def test_the_archive_lists_what_was_received_so_far(store: Store, tmp_path: Path) -> None:
    """Complete segments from the store, the partial one as far as it goes, and history files come along."""
    archive = WalArchive(store, "7", tmp_path / "incoming", KEY)
    assert archive.segments() == ()
    archive.set_layout(SEGMENT)
    names = [format_segment_name(1, n * SEGMENT, SEGMENT) for n in range(1, 5)]
    archive.incoming.mkdir(parents=True)
    for name in names[:2]:
        archive.keep(name, name.encode().ljust(SEGMENT, b"x"))
    (archive.incoming / names[2]).write_bytes(b"y" * SEGMENT)
    (archive.incoming / (names[3] + PARTIAL)).write_bytes((b"z" * 1001).ljust(SEGMENT, b"\0"))
    archive.keep("00000002.history", b"1\t0/3000000\tbefore\n")
    found = archive.segments()
    assert [segment.name for segment in found] == names
    assert [segment.partial for segment in found] == [False, False, False, True]
    assert found[-1].end_lsn == 4 * SEGMENT + 1008
    into = tmp_path / "into"
    into.mkdir()
    for name in names:
        assert archive.fetch(name, into)
        assert (into / name).stat().st_size == SEGMENT
    assert (into / names[3]).read_bytes().rstrip(b"\0") == b"z" * 1001
    assert archive.histories() == ("00000002.history",)
    assert not archive.fetch(format_segment_name(1, 9 * SEGMENT, SEGMENT), into)


def test_a_stored_partial_segment_gives_way_to_the_whole_one(store: Store, tmp_path: Path) -> None:
    """What a machine that is gone had sent is used as far as it goes."""
    archive = WalArchive(store, "7", tmp_path / "incoming", None)
    archive.set_layout(SEGMENT)
    name = format_segment_name(1, SEGMENT, SEGMENT)
    archive.keep(name + PARTIAL, (b"a" * 40).ljust(SEGMENT, b"\0"))
    (found,) = archive.segments()
    assert (found.name, found.partial, found.end_lsn) == (name, True, SEGMENT + 40)
    assert archive.read(name) == (b"a" * 40).ljust(SEGMENT, b"\0")
    archive.keep(name, b"b" * SEGMENT)
    assert [segment.partial for segment in archive.segments()] == [False]
    assert archive.remove_before(SEGMENT) == ()
    gone = archive.remove_before(2 * SEGMENT)
    assert sorted(each for each, _ in gone) == [name, name + PARTIAL]
    assert archive.segments() == ()


NAME = format_segment_name(1, SEGMENT, SEGMENT)


class Arriving:
    """A store, and the segment that is received: each step happens at a moment that the test chooses."""

    def __init__(self, folder: Path) -> None:
        self.archive = WalArchive(FolderStore(folder / "store"), "7", folder / "incoming", None)
        self.archive.set_layout(SEGMENT)
        self.archive.incoming.mkdir(parents=True)
        self.whole, self.partial = self.archive.incoming / NAME, self.archive.incoming / (NAME + PARTIAL)
        self.partial.write_bytes((b"a" * 40).ljust(SEGMENT, b"\0"))

    def complete(self) -> None:
        self.partial.write_bytes(b"b" * SEGMENT)
        self.partial.rename(self.whole)

    def ship(self) -> None:
        self.archive.keep(NAME, self.whole.read_bytes())
        self.whole.unlink()

    def once(
        self, patch: pytest.MonkeyPatch, where: object, name: str, *steps: Callable[[], None], first: bool
    ) -> None:
        """Have these steps happen just before the next call of a function, or just after it."""
        real, left = getattr(where, name), list(steps)

        def act() -> None:
            while left:
                left.pop(0)()

        def call(*args: object) -> object:
            if first:
                act()
            answer = real(*args)
            answer = tuple(answer) if name == "keys" else answer
            act()
            return answer

        patch.setattr(where, name, call)


@pytest.mark.parametrize("first", [True, False])
def test_a_segment_that_is_completed_while_it_is_listed_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, first: bool
) -> None:
    """Its file was there under the name of the partial one; by the time it is read it bears the other, or is stored."""
    it = Arriving(tmp_path)
    it.once(monkeypatch, wal, "measure_received", it.complete, it.ship, first=first)
    (found,) = it.archive.segments()
    assert (found.name, found.partial, found.end_lsn) == (NAME, False, 2 * SEGMENT)
    again = Arriving(tmp_path / "again")
    again.once(monkeypatch, wal, "measure_received", again.complete, first=True)
    (found,) = again.archive.segments()
    assert (found.partial, found.end_lsn) == (False, 2 * SEGMENT)


@pytest.mark.parametrize("first", [True, False])
def test_a_segment_that_is_stored_while_it_is_listed_is_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, first: bool
) -> None:
    """It leaves the folder when it is in the store: one of the two has it at any time."""
    it = Arriving(tmp_path)
    it.complete()
    it.once(monkeypatch, it.archive._store, "keys", it.ship, first=first)
    assert [segment.name for segment in it.archive.segments()] == [NAME]


def test_a_segment_that_is_completed_while_it_is_fetched_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was looked for under its own name a moment too soon."""
    it = Arriving(tmp_path)
    it.once(monkeypatch, Path, "is_file", it.complete, first=False)
    assert it.archive.read(NAME) == b"b" * SEGMENT


def test_how_far_a_file_was_received(tmp_path: Path) -> None:
    """The receiver makes a file at full length; what follows the last byte that is not zero was not received."""
    path = tmp_path / "segment"
    for content, end in ((b"", 0), (b"\0" * SEGMENT, 0), (b"a".ljust(SEGMENT, b"\0"), 8), (b"a" * 17, 24)):
        path.write_bytes(content)
        assert measure_received(path) == end
    assert measure_received(tmp_path / "none") is None


def record(data: bytes) -> bytes:
    """Return a record of WAL with this data, padded."""
    head = struct.pack("<IIQBBH", 24 + len(data), 700, 0, 0, 0, 0)
    whole = head + struct.pack("<I", compute_crc32c(data + head)) + data
    return whole.ljust(-(-len(whole) // 8) * 8, b"\0")


def paged(stream: bytes, place: int = 0) -> bytes:
    """Return a segment's pages with these records, the first of which begins at `place` of what they hold."""
    data, content, rest = bytes(place) + stream, b"", 0
    begins = [place, *(place + at for at in _ends(stream))]
    while data:
        head, size = (SHORT, PAGE - SHORT) if content else (LONG, PAGE - LONG)
        goes_on = next((begin - rest for begin in begins if begin >= rest), 0)
        content += struct.pack("<HHIQI", 0xD118, bool(goes_on), 1, 0, goes_on).ljust(head, b"\0") + data[:size]
        data, rest = data[size:], rest + size
    return content


def _ends(stream: bytes) -> list[int]:
    ends, at = [], 0
    while at < len(stream):
        at += -(-struct.unpack_from("<I", stream, at)[0] // 8) * 8
        ends.append(at)
    return ends


@pytest.mark.parametrize("size", [0, 1, 20, 33, 9000, 20_000])
@pytest.mark.parametrize("zeros", [0, 3, 26])
def test_a_record_that_ends_with_zeros_was_received_whole(tmp_path: Path, size: int, zeros: int) -> None:
    """Wherever it lies. A record that is not whole, or another one, counts as far as it is there."""
    path, before = tmp_path / "segment", record(b"before" * 9)
    last = record(bytes(range(1, 256)) * (size // 255) + b"\7" * (size % 255) + bytes(zeros))
    for place in (0, 64, PAGE - LONG - 128, PAGE - LONG - 80, PAGE - LONG - 72, 3 * PAGE):
        whole = paged(before + last, place)
        path.write_bytes(whole.ljust(64 * PAGE, b"\0"))
        assert measure_received(path) == len(whole)
        damaged = bytearray(whole.rstrip(b"\0"))
        if len(damaged) % PAGE > SHORT:  # in the record, not in the header of a page
            damaged[-1] ^= 0x55
            path.write_bytes(damaged.ljust(64 * PAGE, b"\0"))
            assert measure_received(path) == -(-len(damaged) // 8) * 8


# --- records --------------------------------------------------------------------------------------------------------


class FirstRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record as the first form of it had it."""

    format: int
    facts: Facts
    stored_bytes: int
    index: str
    key: str = ""
    verified_at: float | None = None
    signature: str = ""


def test_a_record_of_the_first_form_is_still_signed() -> None:
    """Its signature covers what there was then; a field of the second form in it does not count as signed."""
    facts = Facts(
        id="20261125-190203", kind=BackupKind.FULL, parent=None, began_at=1.5, ended_at=2.25, begin_lsn=1, end_lsn=2,
        timeline=1, system_identifier="7", server_version=180006, segment_bytes=1 << 24, size_bytes=3,
        wal=("000000010000000000000002",),
    )  # fmt: skip
    plain = FirstRecord(
        format=1, facts=facts, stored_bytes=4, index="0" * 64, key=KEY.fingerprint, verified_at=1764097323.125
    )
    kept = replace(plain, signature=KEY.sign(msgspec.json.encode(plain)))
    content = msgspec.json.format(msgspec.json.encode(kept))
    record = decode(content, facts.id, "here")
    check_signature(record, KEY, "production", "here")
    again = replace(record, verified_at=5.0)
    check_signature(decode(encode(again, KEY), facts.id, "here"), KEY, "production", "here")
    with pytest.raises(Refused, match="changed after it was written"):
        check_signature(replace(record, stored_bytes=5), KEY, "production", "here")
    with pytest.raises(Refused, match="changed after it was written"):
        check_signature(replace(record, format=2), KEY, "production", "here")
