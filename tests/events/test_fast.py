"""What is counted without decoding is what is counted with it, whatever stands in the events."""

# ruff: noqa: S311 - log lines read best whole, and what is drawn is no secret

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backout.providers.events import fast
from backout.providers.events.worker import TAIL, sift

from event_lab import VERSIONS, compact, event, logged, mixed, pretty, read, thrown
from extent import by_extent, examples

needs_fast = pytest.mark.skipif(fast.stringzilla is None, reason="the optional part `fast` is not installed")
pytestmark = needs_fast

KEYS = ("outcome", "exceptions", "level", "status", "truncated", "scriptVersion", "logs", "type", "x")
texts = st.sampled_from(
    [
        "ok",
        "error",
        "warn",
        "exception",
        '"outcome":"exception"',
        '","exceptions":[{',
        "\\",
        '\\"status\\":5',
        "\u0065\u2028",
        "{",
        "}]",
    ]
)
values = st.recursive(
    st.none() | st.booleans() | st.sampled_from([0, 5, 200, 207, 500, 503.5, 10**12]) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    one = event(draw(st.sampled_from((*VERSIONS, "third"))))
    for key in draw(st.lists(st.sampled_from([*one, "response", "new"]), max_size=2, unique=True)):
        one[key] = draw(values)
    if draw(st.booleans()):
        one["logs"] = [logged(draw(st.sampled_from(["log", "error", "warn", "info"])), draw(values))]
    return one


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    one = draw(events())
    names = list(one)
    if draw(st.integers(0, 3)) == 0:
        names = draw(st.permutations(names))
    separators = draw(st.sampled_from([(",", ":")] * 6 + [(", ", ": "), (" ,", " :")]))
    text = json.dumps({name: one[name] for name in names}, separators=separators, ensure_ascii=draw(st.booleans()))
    if draw(st.integers(0, 5)) == 0:
        text = text.replace("exception", "\\u0065xception")
    if draw(st.integers(0, 9)) == 0:
        text = text[: draw(st.integers(0, len(text)))]
    return text.encode() + b"\n"


ORDINARY = compact([event(VERSIONS[index % 5 == 0]) for index in range(900)])
IN_LINES = pretty([event(VERSIONS[index % 5 == 0]) for index in range(600)])
"""More than a block: from the second one on nothing ordinary is decoded."""


@examples(150)
@given(st.lists(lines(), min_size=1, max_size=30))
def test_any_line_counts_the_same(drawn: list[bytes]) -> None:
    data = ORDINARY + b"".join(drawn) + ORDINARY
    assert read(data) == read(data, decode_all=True)


@st.composite
def alike(draw: st.DrawFn) -> dict[str, Any]:
    """Return an event that its writer spelt as all the others."""
    one = event(draw(st.sampled_from(VERSIONS)), truncated=draw(st.sampled_from([False] * 5 + [True])))
    one["outcome"] = draw(st.sampled_from(["ok"] * 8 + ["exception", "canceled", "exceededCpu", "okay"]))
    one["exceptions"] = [thrown(draw(texts), draw(texts)) for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2])))]
    levels = st.sampled_from(["log", "log", "info", "debug", "error", "warn", "errors", "Error"])
    one["logs"] = [logged(draw(levels), draw(values)) for _ in range(draw(st.integers(0, 2)))]
    one["event"]["response"]["status"] = draw(st.sampled_from([200] * 4 + [404, 499, 500, 503, 207, 599, 600, 5, 50]))
    one["event"]["request"]["cf"] = draw(values)
    return one


@examples(200)
@given(st.lists(alike(), min_size=1, max_size=40))
def test_events_of_one_writer_count_the_same(drawn: list[dict[str, Any]]) -> None:
    data = ORDINARY + compact(drawn) + ORDINARY
    assert read(data) == read(data, decode_all=True)


@examples(60)
@given(st.lists(alike(), min_size=1, max_size=40))
def test_events_over_several_lines_count_the_same(drawn: list[dict[str, Any]]) -> None:
    data = IN_LINES + pretty(drawn) + IN_LINES
    assert read(data) == read(data, decode_all=True)


@pytest.mark.parametrize("seed", range(by_extent(3, 8)))
def test_mixed_events_count_the_same_in_every_spelling(seed: int) -> None:
    found = mixed(random.Random(seed), 3000)
    expected = read(compact(found), decode_all=True)
    assert read(compact(found)) == expected
    assert read(pretty(found)) == read(pretty(found), decode_all=True)
    in_lines = read(pretty(found))
    assert (in_lines.by_version, in_lines.templates) == (expected.by_version, expected.templates)


def test_ordinary_events_are_not_decoded() -> None:
    block = ORDINARY.splitlines(keepends=True)[:100]
    decoded = TAIL.decode_lines(b"".join(block))
    layout = fast.learn(block, decoded, sift(decoded, {}), fast.COMPACT)
    assert layout is not None
    bad = compact([{**event(VERSIONS[1]), "outcome": "exception", "exceptions": [thrown("no")]}])
    sifted = layout.sift(memoryview(bytearray(b"".join(block) + bad)))
    assert sifted is not None
    assert (sifted.quiet, sifted.others, sifted.number) == ({VERSIONS[0]: 80, VERSIONS[1]: 20}, [bad], 101)


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(compact([{**event(), "outcome": "exceededCpu"}]), id="an_outcome_alone"),
        pytest.param(compact([event("a-version-of-its-own")]), id="a_new_version"),
        pytest.param(compact([event()])[:-40] + b"\n", id="cut_off"),
        pytest.param(b"some text\n", id="text"),
        pytest.param(json.dumps(event()).encode() + b"\n", id="spaces"),
        pytest.param(compact([{"logs": [logged("log", event())], **event()}]), id="an_event_in_an_event"),
        pytest.param(compact([event()]).replace(b'"ok"', b'"\\u006fk"'), id="escapes"),
        pytest.param(compact([event()]).rstrip(b"\n"), id="no_end"),
        pytest.param(b"\n\n", id="empty_lines"),
    ],
)
def test_what_is_not_as_the_others_is_decoded(odd: bytes) -> None:
    data = ORDINARY + odd
    assert read(data) == read(data, decode_all=True)


def test_events_whose_version_stands_behind_something_nested_are_decoded() -> None:
    found = []
    for _ in range(200):
        one = event()
        found.append({"event": one.pop("event"), **one})
    block = compact(found).splitlines(keepends=True)
    decoded = TAIL.decode_lines(b"".join(block))
    assert fast.learn(block, decoded, sift(decoded, {}), fast.COMPACT) is None
