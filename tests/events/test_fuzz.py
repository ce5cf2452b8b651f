"""Whatever the bytes are, reading ends, in bounded memory, and what could not be counted has a name."""

# ruff: noqa: E501, S311 - log lines read best whole, and what is drawn is no secret

from __future__ import annotations

import gzip
import io
import random
from typing import TYPE_CHECKING, Any

import pytest

from backout.analysis.diagnosis.templates import Templates
from backout.providers.events.reader import EventReader
from backout.providers.events.tally import EventTally

from event_lab import VERSIONS, compact, event, logged, mixed, pretty, read
from extent import PROOF

if TYPE_CHECKING:
    from collections.abc import Callable

MUTATED = 100_000 if PROOF else 4_000
OF_ONE_KIND = 500
TEXT = (
    '2026-11-24 22:43:20.880 UTC [7326] ERROR:  column "nickname" does not exist at character 8\n'
    'Traceback (most recent call last):\n  File "/app/a.py", line 3, in save\n    x()\nValueError: \u00e9\n'
    "GET https://shop.example.com/ - Exception Thrown @ 11/25/2026, 9:46:43 PM\n  (error) no\n"
    '{"level":50,"time":1764000000000,"msg":"boom","err":{"type":"TypeError","stack":"TypeError: no\\n    at f (a.js:1:2)"}}\n'
    "2026-11-25T21:46:44.1234567Z ##[error]Process completed with exit code 1.\n\x1b[31mError: red\x1b[0m\n"
).encode()
PIECES = (
    b"\x00", b"\xff\xfe", b"\xff", b"{", b"}", b"[" * 3000, b"\n", b"\r\n", b"{\n", b"}\n", b"]", b'"', b"\\", b"\\ud800", b"9" * 5000,
    b"1e999", b"-", b'"outcome":', b'"status":5', b"\x1b[31m", b"Traceback (most recent call last):\n", b"\xc3", b"null", b"true",
    b'{"$workers":{"requestId":1},"timestamp":1e30}\n', b'{"result":{"events":{"events":[1,{}]}}}\n', b"sampling mode", b"\xef\xbb\xbf",
    b'{"Outcome":5,"ScriptName":null,"EventTimestampMs":"x","Exceptions":{},"Logs":[1,{"Level":1,"Message":{}}]}\n',
    b'{"level":1e400,"time":1e300,"err":[{}],"status":"9999999","version":{"id":[]}}\n', b'{"ts":99999999999999999999999}\n',
)  # fmt: skip


def damaged(draw: random.Random, data: bytes, places: int) -> bytes:
    """Return the bytes with so many places cut, doubled, overwritten, swapped or filled with something else."""
    changed = bytearray(data)
    for _ in range(places):
        at = draw.randrange(len(changed) + 1)
        end = min(len(changed), at + draw.choice((1, 1, 2, 8, 60, 400)))
        kind = draw.randrange(5)
        if kind == 0:
            del changed[at:end]
        elif kind == 1:
            changed[at:end] = bytes(draw.randrange(256) for _ in range(end - at))
        elif kind == 2:
            changed[at:at] = draw.choice(PIECES)
        elif kind == 3:
            changed[at:at] = changed[at:end]
        elif at < len(changed):
            changed[at] ^= 1 << draw.randrange(8)
    return bytes(changed)


SPELLINGS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "compact": compact,
    "pretty": pretty,
    "packed": lambda events: gzip.compress(compact(events)),
    "utf16": lambda events: compact(events).decode().encode("utf-16"),
    "text": lambda events: TEXT * (len(events) // 8),
    "both": lambda events: compact(events) + TEXT + pretty(events),
}


@pytest.mark.proof
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_mutated_events_never_end_it(spelling: str, proof: Any) -> None:
    draw = random.Random(spelling)
    number = MUTATED // len(SPELLINGS)
    done = 0
    while done < number:
        size = min(OF_ONE_KIND, number - done)
        data = SPELLINGS[spelling](mixed(draw, size))
        counts = read(damaged(draw, data, size))
        assert counts.invocations >= counts.errors >= 0
        assert sum(seen.count for seen in counts.unreadable.values()) >= 0
        assert all(0 < template.invocations <= counts.invocations for template in counts.templates)
        done += size
    proof(f"mutated events ({spelling}) are read to their end and counted or named", trials=number, failures=0)


@pytest.mark.parametrize(
    "piece",
    [
        "[a",
        "@ ",
        " @ - Ok",
        "- ",
        "a.",
        "1:",
        '"',
        "(",
        "\\",
        "at :1",
        "error: ",
        "https://",
        "[cause]: ",
        "/trpc/a.",
        "2026-01-01 ",
    ],
)
def test_a_long_line_of_one_thing_does_not_hold_it_up(piece: str) -> None:
    line = piece * (19_000 // len(piece))
    counts = read(f"{line} x\nERROR {line} x\nError: {line} x\n".encode())
    assert counts.invocations


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_end(seed: int) -> None:
    draw = random.Random(seed)
    counts = read(draw.randbytes(50_000))
    assert counts.unreadable


class Endless:
    """A line of 100 MB that nobody holds in memory, and one after it."""

    def __init__(self, filler: bytes, size: int, after: bytes) -> None:
        self._filler, self._left, self._after = filler, size, io.BytesIO(after)

    def readinto(self, buffer: memoryview, /) -> int:
        if not self._left:
            return self._after.readinto(buffer)
        size = min(self._left, len(buffer))
        buffer[:size] = (self._filler * (size // len(self._filler) + 1))[:size]
        self._left -= size
        return size


@pytest.mark.parametrize(
    "filler", [pytest.param(b"a", id="text"), pytest.param(b'{"a":[', id="nested"), pytest.param(b"\0", id="binary")]
)
def test_a_line_of_100_mb_is_passed_over_and_named(filler: bytes) -> None:
    tally = EventTally(Templates())
    after = b"\n2026-11-24 10:00:00 ERROR after\n" + compact([event()])
    EventReader(tally, "events").read(Endless(filler, 100_000_000, after))
    counts = tally.result()
    assert (counts.invocations, counts.errors) == (2, 1)
    assert {why: noted.count for why, noted in counts.unreadable.items()} == {"a line longer than 8 MiB": 1}


def test_thousands_of_templates_versions_and_minutes_stay_bounded() -> None:
    draw = random.Random(1)
    word = "".join
    found = [
        event(
            f"v{index}",
            1_000_000_000_000 + index * 3_600_000,
            logs=[logged("error", word(draw.choices("abcdefgh", k=12)))],
        )
        for index in range(6000)
    ]
    counts = read(compact(found))
    assert (len(counts.templates), counts.untracked) == (4096, 6000 - 4096)
    assert len(counts.by_version) == 257
    assert counts.by_version["other"].invocations == 6000 - 256
    assert VERSIONS[0] not in counts.by_version
