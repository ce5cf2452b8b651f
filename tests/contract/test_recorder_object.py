"""The flight recorder's Durable Object in a real workerd, and guard's reader: each answer once, signed, in time."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from object_lab import ObjectLab, running_object
from recorder_lab import SECRET, counted

from backout.errors import AuthError, BackoutError, ProviderRejected, ProviderUnavailable
from backout.model.guard.signals import TriggerCounts, sum_counts
from backout.providers.clock import SystemClock
from backout.providers.exchange import Answer, Connection, Origin
from backout.providers.memory import WorldClock
from backout.providers.recorder.batches import compute_signature, parse_keys
from backout.providers.recorder.counter import ObjectSink
from backout.providers.recorder.traffic import RecorderTraffic
from backout.providers.retry import Retry

from polling import until
from scripted_server import ScriptedServer, answer, scripted_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.rotating("recorder", 3)

NOW = 1_800_000_100
OTHER = "whsec_" + "A" * 40
ONCE = Retry(attempts=1)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectLab]:
    """One that calls no version new, so that all are told to be quiet."""
    with running_object(tmp_path_factory.mktemp("object") / "quiet", HURRY_MS=0) as found:
        yield found


@contextlib.contextmanager
def reading(
    lab: ObjectLab, script: str, told: list[str] | None = None, secret: str = SECRET
) -> Iterator[RecorderTraffic]:
    sink = ObjectSink(lab.url, script, parse_keys(secret), SystemClock())
    with contextlib.closing(sink):
        yield RecorderTraffic(sink, SystemClock(), ([] if told is None else told).append)


def totals(lab: ObjectLab, script: str, told: list[str] | None = None, secret: str = SECRET) -> tuple[int, int]:
    """Return (answers, errors) of the last hour."""
    now = int(time.time())
    with reading(lab, script, told, secret) as reader:
        return sum_counts(reader.read(now - 3600, now + 60).counts)


# --- what the object does --------------------------------------------------------------------------------------------


def test_isolates_add_up_and_a_flush_counts_once(lab: ObjectLab) -> None:
    """A number that an isolate sent before changes nothing, whatever it holds; one that never came is said."""
    now, told = int(time.time()), list[str]()
    rows = [
        counted(now, 3, 1, route="GET /a", statuses={"200": 2, "500": 1}, left={"9": 1}, canceled=1),
        counted(now, 2, version="v2", triggers={"queue orders": [2, 1]}, chosen=4),
        counted(now, 5, route="GET /a", keyed=True),
    ]
    for instance in ("0000000a", "0000000b"):
        for _ in range(2):
            lab.flush("adds", instance, 1, rows)
    with reading(lab, "adds", told) as reader:
        first, second = reader.read(now - 60, now + 60).counts
        assert (first.version, first.requests, first.errors, first.canceled) == ("v1", 16, 2, 2)
        assert first.routes["GET /a"].requests == 16
        assert (second.version, second.requests, second.chosen) == ("v2", 4, 8)
        assert second.triggers == {"queue orders": TriggerCounts(4, 2)}
        assert told == []
        lab.flush("adds", "0000000a", 3, [counted(now)], lost=7)
        assert sum_counts(reader.read(now - 60, now + 60).counts)[0] == 21
    assert told == [
        "the flight recorder had no room for some answers: its counts are too low (7)",
        "counts of the flight recorder are missing: its counts are too low (1)",
    ]


def test_all_pages_are_read_and_a_watch_reads_only_what_is_new(lab: ObjectLab) -> None:
    """Many rows are many parts, none larger than SQLite takes; what was read before is not asked for again."""
    now = int(time.time())
    many = {str(bucket): 1 for bucket in range(40)}
    for number in range(3):
        rows = [counted(now, 40, route=f"GET /{number}/{route}", latency=many) for route in range(1500)]
        lab.flush("many", f"0000000{number}", 1, rows)
    with reading(lab, "many") as reader:
        assert sum_counts(reader.read(now - 60, now + 60).counts)[0] == 180_000
        lab.flush("many", "0000000a", 1, [counted(now)])
        assert sum_counts(reader.read(now - 50, now + 60).counts)[0] == 180_001
        assert sum_counts(reader.read(now - 60, now + 60).counts)[0] == 180_001


def test_whoever_cannot_sign_learns_nothing(lab: ObjectLab) -> None:
    """The wrong secret is an error of its own; while a secret is replaced, either of two will do."""
    lab.flush("signs", "0000000a", 1, [counted(int(time.time()))])
    with pytest.raises(AuthError, match="SECRET is another one"):
        totals(lab, "signs", secret=OTHER)
    assert totals(lab, "signs", secret=f"{OTHER} {SECRET}") == (1, 0)
    with pytest.raises(ProviderRejected, match="no flight recorder with an object is there"):
        totals(ObjectLab(f"{lab.url}/elsewhere", lab.door), "signs")


def test_isolates_are_told_when_to_be_quick(lab: ObjectLab, tmp_path: Path) -> None:
    """While a version is new, while two answer, and while guard reads; else to be quiet."""
    now = int(time.time())
    assert lab.flush("paces", "0000000a", 1, [counted(now)])["quiet"]
    assert not lab.flush("paces", "0000000a", 1, [counted(now)])["quiet"], "what it says now it cannot know"
    assert totals(lab, "paces") == (1, 0)
    assert not lab.flush("paces", "0000000a", 2, [counted(now)])["quiet"]
    with running_object(tmp_path / "new", HURRY_MS=3_600_000) as new:
        assert not new.flush("paces", "0000000a", 1, [counted(now)])["quiet"]


def test_a_quiet_isolate_holds_the_watermark(lab: ObjectLab) -> None:
    """Nothing is final that it may still hold, until it stores again; with another version watched, all else is."""
    now = int(time.time())
    stored = lab.flush("holds", "0000000a", 1, [counted(now)])["stored"] // 1000

    with reading(lab, "holds") as reader:

        def reach() -> int:
            return reader.read(now - 60, now + 90).complete_until

        until(lambda: time.time() > stored + 4, 10, "some seconds")
        assert reach() == stored - 4
        reader.watch("v2")
        assert reach() > stored - 4
        assert reader.traits.lag_s == 7.0
        reader.watch("v1")
        assert reach() == stored - 4
        assert reader.traits.lag_s > 7.0
        held = {"version": "v1", "s": 4, "until": 0}
        lab.flush("holds", "0000000a", 2, [counted(stored + 1)], held=held)
        found = reader.read(now - 60, now + 90)
        assert [row.second for row in found.counts] == [now, stored + 1], "in its own second, as it had said"


def test_old_counts_are_removed(tmp_path: Path) -> None:
    """By the object's alarm, with what it knows of isolates; it sleeps when there is nothing left."""
    with running_object(tmp_path / "sweeps", KEPT_S=0, SWEEP_MS=300) as lab:
        lab.flush("sweeps", "0000000a", 1, [counted(int(time.time()))])
        assert totals(lab, "sweeps") == (1, 0)
        until(lambda: totals(lab, "sweeps") == (0, 0), 20, "the alarm", every_s=0.2)


def test_the_worker_slows_down_and_is_quick_for_another_version(tmp_path: Path) -> None:
    """Its own code with the object: quick at first, then as rarely as it was told, and at once for another version."""
    with running_object(tmp_path / "rhythm", FLUSH_MS=100, HURRY_MS=0, READ_MS=0) as lab:
        lab.tail(answered("v1"))
        until(lambda: len(parts(lab, "shop")) == 1, 20, "the first flush", every_s=0.1)
        for _ in range(4):
            lab.tail(answered("v1"))
        assert sum_rows(parts(lab, "shop")) == 1
        lab.tail(answered("v2"))
        until(lambda: sum_rows(parts(lab, "shop")) == 6, 20, "the rest", every_s=0.1)
        first, second = parts(lab, "shop")
        assert "held" not in first
        assert second["held"]["version"] == "v1"


@pytest.mark.long
def test_a_silent_isolate_keeps_nothing(tmp_path: Path) -> None:
    """However rarely it is to store: the last invocation stores what there is, some twenty seconds later."""
    with running_object(tmp_path / "silent", FLUSH_MS=100, HURRY_MS=0, READ_MS=0) as lab:
        lab.tail(answered("v1"))
        until(lambda: len(parts(lab, "shop")) == 1, 20, "the first flush", every_s=0.1)
        begun = time.monotonic()
        lab.tail(answered("v1"))
        until(lambda: sum_rows(parts(lab, "shop")) == 2, 60, "the rest", every_s=0.5)
        assert time.monotonic() - begun > 15


def answered(version: str) -> dict[str, Any]:
    """Return a tail event."""
    return {
        "event": {"request": {"url": "https://s/app", "method": "GET", "headers": {}}, "response": {"status": 200}},
        "eventTimestamp": int(time.time() * 1000),
        "wallTime": 5,
        "outcome": "ok",
        "scriptName": "shop",
        "scriptVersion": {"id": version},
    }


def parts(lab: ObjectLab, script: str) -> list[dict[str, Any]]:
    """Return the parts of a script as the object has them."""
    import urllib.request  # noqa: PLC0415

    with urllib.request.urlopen(f"{lab.door}/{script}?since=0&after=0") as response:
        return list(json.load(response)["parts"])


def sum_rows(found: list[dict[str, Any]]) -> int:
    return sum(row["requests"] for part in found for row in part["rows"])


# --- what the reader makes of answers --------------------------------------------------------------------------------


def page(number: int = 0, *, more: bool = False) -> bytes:
    part = {"id": number, "second": NOW - 7, "v": 4, "templates": True, "rows": [counted(NOW - 9)]}
    found = {"parts": [part] if number else [], "now": NOW * 1000, "more": more, "isolates": []}
    return json.dumps(found).encode()


def signed(body: bytes, after: int = 0, at: int = NOW, secret: str = SECRET, since: int = NOW - 125) -> bytes:
    asked = f"/backout/shop?since={since}&after={after}"
    return f"{at} v1,{compute_signature(asked, at, body, parse_keys(secret)[0])}\n".encode() + body


@pytest.mark.parametrize(
    ("steps", "what"),
    [
        ([answer(page(1))], "answer is not signed"),
        ([answer(signed(page(1), secret=OTHER))], "answer is badly signed"),
        ([answer(signed(page(1), after=5))], "answer is badly signed"),
        ([answer(signed(page(1), at=NOW - 400))], "five minutes"),
        ([answer(signed(b'{"parts": 1}'))], "cannot be read"),
        ([answer(signed(page(1, more=True))), answer(signed(page(1), after=1))], "same counts again"),
        ([answer(signed(page(1, more=True))), answer(b"", 502)], "answered 502"),
        ([answer(b"", 418)], "answered 418"),
        ([answer(b"", 401)], "refuses the signature"),
    ],
)
def test_what_is_no_answer_of_the_recorder_is_an_error(server: ScriptedServer, steps: list[Any], what: str) -> None:
    """Never silence, and never a count; what was signed for another question is no answer to this one."""
    server.will(*steps)
    clock = WorldClock(NOW)
    sink = ObjectSink(server.url, "shop", parse_keys(SECRET), clock, retry=ONCE)
    with contextlib.closing(sink), pytest.raises(BackoutError, match=what):
        RecorderTraffic(sink, clock).read(NOW - 20, NOW)


def test_counts_without_an_end_are_an_error(server: ScriptedServer) -> None:
    """Whoever says for ever that there is more ends in words after a minute."""
    clock = WorldClock(NOW)

    class Slow(Connection):
        def exchange(self, *args: Any, **more: Any) -> Answer:
            clock.sleep(10)
            return super().exchange(*args, **more)

    pages = [signed(page(1 + number, more=True), after=number, at=NOW + 10 * number) for number in range(9)]
    server.will(*map(answer, pages))
    connection = Slow(Origin.of(server.url))
    sink = ObjectSink(server.url, "shop", parse_keys(SECRET), clock, retry=ONCE, connection=connection)
    with contextlib.closing(sink), pytest.raises(ProviderUnavailable, match="have no end"):
        RecorderTraffic(sink, clock).read(NOW - 20, NOW)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as found:
        yield found


def test_the_secret_itself_is_never_sent(server: ScriptedServer) -> None:
    """Only a signature of the question, which says nothing about any other."""
    server.will(answer(signed(page(1))))
    sink = ObjectSink(server.url, "shop", parse_keys(SECRET), WorldClock(NOW), retry=ONCE)
    with contextlib.closing(sink):
        found = RecorderTraffic(sink, WorldClock(NOW)).read(NOW - 20, NOW)
    assert sum_counts(found.counts) == (1, 0)
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    for asked in server.asked:
        sent = f"{asked.target} {asked.headers}"
        assert SECRET not in sent
        assert key.decode() not in sent
