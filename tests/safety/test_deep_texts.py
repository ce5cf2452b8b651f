"""Texts nested too deep are refused before a decoder runs into the limit of recursion with them.

At that limit the collector of garbage may run, and whatever it calls fails there too: a close that is never made, an
error that shows up in something else.
"""

from __future__ import annotations

import contextlib
import gc
import io
import sys
from typing import TYPE_CHECKING

import pytest

from backout import decoding
from backout.analysis.diagnosis.templates import Templates
from backout.config import jsonc
from backout.decoding import UNDECODABLE, Undecodable, decode_json, decode_lossily, decode_own
from backout.providers.events.reader import EventReader
from backout.providers.events.tally import EventTally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TEXTS = {
    "closed": "[" * 5000 + "]" * 5000,
    "open": "[" * 5000,
    "open objects": '{"a":' * 5000,
    "mixed": '[{"a":' * 5000 + '"x"' + "}]" * 4000,
    "after a string": '["[", ' + '{"b": [' * 3000 + "]}" * 3000 + "]",
    "between braces": '{"a": ' + "[" * 5000 + "}",
}


class Closing:
    """What leaves another one of its kind when it is collected, so that each collection of garbage calls something."""

    left = True

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        if Closing.left:
            Closing()


@contextlib.contextmanager
def ask_often() -> Iterator[list[object]]:
    """Collect garbage every few allocations; yields what was raised where nobody could catch it."""
    raised: list[object] = []
    hook, thresholds = sys.unraisablehook, gc.get_threshold()
    sys.unraisablehook = lambda error: raised.append(error.exc_type)
    Closing.left = True
    Closing()
    gc.set_threshold(2, 1, 1)
    try:
        yield raised
    finally:
        gc.set_threshold(*thresholds)
        Closing.left = False
        gc.collect()
        sys.unraisablehook = hook


def read_events(text: str) -> None:
    EventReader(EventTally(key_of=Templates()), "a test").read(io.BytesIO(text.encode() + b"\n"))


DECODERS: dict[str, Callable[[str], object]] = {
    "decode_json": decode_json,
    "decode_lossily": decode_lossily,
    "decode_own": decode_own,
    "jsonc": jsonc.loads,
    "events": read_events,
    "templates": Templates(),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("decode", DECODERS.values(), ids=DECODERS)
def test_no_decoder_meets_the_limit_of_recursion(decode: Callable[[str], object], text: str) -> None:
    """Whatever is collected meanwhile is collected as everywhere else."""
    with ask_often() as raised, contextlib.suppress(*UNDECODABLE, Undecodable):
        decode(text)
    assert raised == []


@pytest.mark.parametrize("depth", [99, 100, 101, 102, 150, 5000])
@pytest.mark.parametrize("pair", ["[]", "{}"])
def test_a_hundred_are_not_too_deep(depth: int, pair: str) -> None:
    """Closed or open, in the middle of a text or alone."""
    assert decoding.is_nested_too_deep(pair[0] * depth) is (depth > 100)
    assert decoding.is_nested_too_deep(pair[0] * depth + pair[1] * depth) is (depth > 100)
    assert decoding.is_nested_too_deep(pair * 500 + pair[0] * depth + pair[1] * depth) is (depth > 100)
    assert not decoding.is_nested_too_deep(f'["{pair[0] * depth}"]')
