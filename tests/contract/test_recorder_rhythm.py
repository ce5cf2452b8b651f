"""The recorder's rhythm as its reader sees it: isolates that store rarely lose nothing, and hold nothing up."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st
from recorder_lab import SECRET, MemoryBucket, counted

from backout.providers.memory import WorldClock
from backout.providers.recorder.batches import parse_keys
from backout.providers.recorder.bucket import BucketSink
from backout.providers.recorder.traffic import RecorderTraffic

from extent import examples

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 1_800_000_100
FLUSH_S, QUIET_S, HURRY_S, CARRY_S = 2, 60, 30, 20
NEXT: dict[str, Any] = {"version": "v1", "s": 64}


def reader(bucket: MemoryBucket, clock: WorldClock) -> RecorderTraffic:
    return RecorderTraffic(BucketSink(bucket, "counts", "shop", parse_keys(SECRET)), clock)


# --- one isolate -----------------------------------------------------------------------------------------------------


def test_nothing_is_final_that_a_quiet_isolate_may_hold() -> None:
    """Until it stores again, or the time that it gave is over: then it holds nothing."""
    bucket, clock = MemoryBucket(), WorldClock(NOW)
    bucket.store([{"v": 4, "seq": 1, "rows": [counted(NOW - 3)], "next": NEXT}], at=NOW)
    bucket.store([{"v": 4, "seq": 1, "rows": [counted(NOW + 39)]}], at=NOW + 40, instance="0000000b")
    clock.sleep(50)
    source = reader(bucket, clock)
    assert source.read(NOW - 20, NOW + 60).complete_until == NOW - 4
    assert source.traits.lag_s == 7.0, "in a watch it stores often"
    clock.sleep(18)
    bucket.store([{"v": 4, "seq": 2, "rows": [counted(NOW + 67)]}], at=NOW + 68, instance="0000000b", seq=2)
    assert source.read(NOW - 20, NOW + 90).complete_until == NOW + 62
    held = {"version": "v1", "until": NOW + 64, "s": 60}
    bucket.store([{"v": 4, "seq": 2, "rows": [counted(NOW + 3)], "held": held}], at=NOW + 62, window=NOW + 62, seq=2)
    assert {row.second for row in source.read(NOW - 20, NOW + 90).counts} == {NOW - 3, NOW + 3, NOW + 39, NOW + 67}


def test_a_watch_waits_for_its_own_version() -> None:
    """An isolate that saw only the old version holds nothing of the new one; late counts of the old one count late."""
    bucket, clock = MemoryBucket(), WorldClock(NOW + 10)
    bucket.store([{"v": 4, "seq": 1, "rows": [counted(NOW - 9)], "next": NEXT}], at=NOW)
    bucket.store([{"v": 4, "seq": 1, "rows": [counted(NOW + 7, version="v2")]}], at=NOW + 9, instance="0000000b")
    source = reader(bucket, clock)
    source.watch("v2")
    assert source.read(NOW - 20, NOW + 60).complete_until == NOW + 4
    assert source.traits.may_act
    held = {"version": "v1", "until": NOW + 64, "s": 9}
    bucket.store([{"v": 4, "seq": 2, "rows": [counted(NOW + 1)], "held": held}], at=NOW + 10, window=NOW, seq=2)
    assert {row.second for row in source.read(NOW, NOW + 60).counts} == {NOW + 6, NOW + 7}
    source.watch("v1")
    assert source.read(NOW - 20, NOW + 60).complete_until == NOW + 4
    bucket.store([{"v": 4, "seq": 3, "rows": [], "next": NEXT}], at=NOW + 11, window=NOW, seq=3)
    clock.sleep(50)
    assert source.read(NOW - 20, NOW + 60).complete_until == NOW + 7
    assert (source.traits.lag_s, source.traits.may_act) == (54.0, False)


def test_what_comes_later_than_was_said_is_counted_late() -> None:
    """An isolate that could not store for long has broken its word: nothing is lost, and no final second changes."""
    bucket, clock = MemoryBucket(), WorldClock(NOW + 300)
    held = {"version": "v1", "until": NOW + 64, "s": 120}
    bucket.store([{"v": 4, "seq": 2, "rows": [counted(NOW + 3)], "held": held}], at=NOW + 290, seq=2)
    (row,) = reader(bucket, clock).read(NOW, NOW + 300).counts
    assert row.second == NOW + 286


# --- many ------------------------------------------------------------------------------------------------------------


@dataclass
class _Isolate:
    """An isolate as `recorder.js` is with a bucket; `works` tells whether a store arrives, and is told."""

    bucket: MemoryBucket
    name: str
    works: Callable[[], tuple[bool, bool]]
    rows: list[dict[str, Any]] = field(default_factory=list)
    batches: list[dict[str, Any]] = field(default_factory=list)
    seq: int = 0
    last: str = ""
    quiet: bool = False
    unsure: bool = False
    hurry: float = 0.0
    flushed: float = 0.0
    began: float = 0.0
    seen: float = 0.0
    window: float = 0.0
    due: float = math.inf
    word: dict[str, Any] | None = None

    def count(self, now: float, version: str, second: int) -> None:
        self.seen = now
        if version != self.last:
            self.last, self.quiet, self.hurry = version, False, now + HURRY_S
            if self.due < math.inf:
                self.due = min(self.due, now + FLUSH_S)
        if self.due == math.inf:
            next_at = now + FLUSH_S
            self.began, self.due = now, max(self.flushed + QUIET_S, next_at) if self.quiet else next_at
        self.rows.append(counted(second, version=version))

    def tick(self, now: float) -> None:
        if (self.rows or self.unsure) and (now >= self.due or now >= self.seen + CARRY_S):
            self.flush(now)

    def flush(self, now: float) -> None:
        if not self.unsure and now - self.window > 60:
            self.window, self.batches = now, []
        self.seq += 1
        batch: dict[str, Any] = {"v": 4, "seq": self.seq, "rows": self.rows}
        if self.word:
            batch["held"] = {**self.word, "s": min(math.ceil(now - self.began), NEXT["s"])}
        if now >= self.hurry:
            batch["next"] = {"version": self.last, "s": NEXT["s"]}
        self.batches.append(batch)
        self.rows, self.due = [], math.inf
        arrives, is_told = self.works()
        if arrives:
            self.bucket.store(self.batches, at=now, instance=self.name, window=self.window, seq=self.seq)
        self.unsure = not (arrives and is_told)
        if self.unsure:
            self.due = now + FLUSH_S
            return
        batch["stored"] = now * 1000
        self.flushed, self.quiet = now, "next" in batch
        self.word = {"version": self.last, "until": int(now) + NEXT["s"]} if self.quiet else None


@examples(15)
@given(
    st.integers(min_value=0, max_value=2**32),
    st.sampled_from(["", "v2"]),
    st.sampled_from([1.0, 0.3, 0.02]),
    st.booleans(),
)
def test_each_answer_is_counted_once_and_those_of_the_version_in_time(
    seed: int, watched: str, share: float, fails: bool
) -> None:
    """Whatever isolates there are, quick, quiet or silent, before and after a version came.

    Where each store works, an answer of the version that is watched (without one, any) counts in its own second: no
    second of it was called final before it was there.
    """
    crowd = _Crowd(seed, watched, share, fails=fails)
    while crowd.clock.now() < crowd.ends + 140:
        crowd.step()
    for isolate in crowd.isolates:
        isolate.works = lambda: (True, True)
        isolate.flush(crowd.clock.now())
    last = crowd.source.read(crowd.since, int(crowd.clock.now()) + 1)
    assert sum(crowd.seen.values()) + sum(row.requests for row in last.counts) == sum(crowd.sent.values())
    if not fails:
        for (version, second), number in crowd.sent.items():
            if second < crowd.since and watched in ("", version):
                assert crowd.seen[version, second] == number, (version, second)


class _Crowd:
    """Some isolates, what they counted, and a reader that reads on from where it was."""

    def __init__(self, seed: int, watched: str, share: float, *, fails: bool) -> None:
        self._draw = draw = random.Random(seed)  # noqa: S311 - seeded, to be repeated
        self._share = share
        bucket, self.clock = MemoryBucket(), WorldClock(NOW)
        works = (lambda: (draw.random() < 0.8, draw.random() < 0.8)) if fails else (lambda: (True, True))
        self.isolates = [_Isolate(bucket, f"{number:08x}", works) for number in range(draw.randint(1, 3))]
        self._busy = [draw.choice([0.02, 0.3, 0.9]) for _ in self.isolates]
        self.source = reader(bucket, self.clock)
        self.source.watch(watched)
        self.sent, self.seen = Counter[tuple[str, int]](), Counter[tuple[str, int]]()
        self.since, self._came, self.ends = NOW - 30, NOW + draw.randint(5, 130), NOW + 250

    def step(self) -> None:
        """Let a second pass."""
        draw, now = self._draw, self.clock.now()
        for isolate, often in zip(self.isolates, self._busy, strict=True):
            if now < self.ends and draw.random() < often:
                version = "v2" if now >= self._came and draw.random() < self._share else "v1"
                self._count(isolate, version, int(now) - draw.choice([0, 0, 0, 1]))
            isolate.tick(now)
        if draw.random() < 0.3:
            page = self.source.read(self.since, int(now) + 1)
            for row in page.counts:
                if row.second < page.complete_until:
                    self.seen[row.version, row.second] += row.requests
            self.since = max(self.since, page.complete_until)
        if now >= self.ends:  # a sign of life, as guard's own probes are
            self._count(self.isolates[0], self.isolates[0].last or "v1", int(now))
        self.clock.sleep(1)

    def _count(self, isolate: _Isolate, version: str, second: int) -> None:
        isolate.count(self.clock.now(), version, second)
        self.sent[version, second] += 1
