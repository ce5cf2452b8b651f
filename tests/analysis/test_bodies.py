"""Lengths of answers by route and by what they are: pages are held against pages, data against data."""

from __future__ import annotations

import json

import pytest
from values import replace

from backout.analysis.detector.decision import Detector
from backout.analysis.detector.unseen import describe_unseen
from backout.model.guard.policy import Policy
from backout.model.guard.shift import ShiftKind
from backout.model.guard.signals import Counts, RouteCounts, SourceTraits

AT, OLD, NEW = 1_800_000_000, "old", "new"
PAGE, DATA, EMPTY = (40_000, "text/html; charset=utf-8"), (60, "application/json"), (12, "text/html")


def row(version: str, second: int, *bodies: tuple[tuple[int, str], int]) -> Counts:
    """Return a second of one route, with so many bodies of each (bytes, content type)."""
    from backout.model.guard.bodies import make_size_key  # noqa: PLC0415 - what the commit before has not is asked for within a test

    sizes: dict[int, int] = {}
    for (length, kind), number in bodies:
        key = make_size_key(length, kind)
        sizes[key] = sizes.get(key, 0) + number
    requests = sum(sizes.values())
    routes = {"GET /app": RouteCounts(requests, 0, {100: requests}, sizes=sizes)}
    return Counts(version, AT + second, requests, 0, latency={100: requests}, routes=routes)


def held(before: list[Counts], since: list[Counts]) -> list[str]:
    """Return what is said of the lengths of answers; a restart in the middle changes nothing."""
    detector = Detector(version=NEW, old=OLD, deployed_at=AT, split=1.0, baseline=before, policy=Policy())
    detector.add(since[: len(since) // 2])
    again = Detector.from_state(json.loads(json.dumps(detector.state())), Policy())
    again.add(since[len(since) // 2 :])
    return [s.sentence for s in again.decide(AT + 60).shifts if s.kind is ShiftKind.SIZE]


BEFORE = [row(OLD, -second, (PAGE, 9), (DATA, 1)) for second in range(1, 301)]


def test_pages_that_are_empty_are_seen_beside_data_that_is_always_short() -> None:
    """The shortest hundredth of all answers is data of 60 bytes: against that no page is ever short."""
    since = [row(NEW, second, (EMPTY, 9), (DATA, 9)) for second in range(60)]
    (said,) = held(BEFORE, since)
    assert said == ("GET /app: 540 of 540 HTML answers are shorter than a tenth of the shortest hundredth before")


def test_more_data_than_pages_is_no_collapse() -> None:
    """A page that loads more data: answers became shorter, and none of them is shorter than its like."""
    many = [row(OLD, -second, (PAGE, 20)) for second in range(1, 301)]
    many += [row(OLD, -second, (DATA, 1)) for second in range(1, 301, 2)]
    assert held(many, [row(NEW, second, (PAGE, 1), (DATA, 9)) for second in range(60)]) == []


@pytest.mark.parametrize("kind", ["", "application/json"])
def test_a_kind_that_was_not_there_is_held_against_all(kind: str) -> None:
    """Where no type is known, or an error in place of the page has another one: as lengths alone tell."""
    before = [row(OLD, -second, ((40_000, "text/html"), 9)) for second in range(1, 301)]
    (said,) = held(before, [row(NEW, second, ((12, kind), 9)) for second in range(60)])
    assert "540 of 540 answers are shorter" in said


def test_without_types_lengths_are_compared_as_ever() -> None:
    """Journals and sources that tell no type."""
    before = [row(OLD, -second, ((40_000, ""), 9)) for second in range(1, 301)]
    assert len(held(before, [row(NEW, second, ((12, ""), 9)) for second in range(60)])) == 1
    assert held(before, [row(NEW, second, ((30_000, ""), 9)) for second in range(60)]) == []


def test_a_source_that_tells_lengths_without_types_says_so() -> None:
    """What it does not know is never silently healthy."""
    logs = SourceTraits("logs", 0.0, sampled=False, has_status=True, has_version=True, has_sizes=True)
    assert "which content type an answer is" in describe_unseen(logs)
    assert "content type" not in describe_unseen(replace(logs, has_types=True))
