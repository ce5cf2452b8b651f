"""What a stranger wrote in a JSON text costs that text alone: `make_readable`, on whatever is beside what counts."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backout.decoding import Undecodable, decode_json, decode_lossily, make_readable

from extent import examples

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.booleans())
@examples(200)
def test_what_can_be_read_is_not_changed(value: Any, ascii_only: bool) -> None:
    """Whatever `decode_json` takes is left byte for byte."""
    text = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "replace")
    try:
        decode_json(text)
    except Undecodable:
        decode_lossily(text)
    else:
        assert make_readable(text) == text


@given(st.text(alphabet='[]{}",:\\u0d8af9e-. ', max_size=300))
@examples(300)
def test_any_text_is_read_or_undecodable(text: str) -> None:
    """Nothing else is raised, by whatever brackets, quotes and escapes."""
    for raw in (text, "[" * 101 + text, text + "9" * 30):
        with contextlib.suppress(Undecodable):
            decode_lossily(raw)


@pytest.mark.parametrize(
    ("odd", "left"),
    [
        ('"\\ud800"', "\ufffd"),
        ('"\\ud83d\\ude00 \\\\ud800 \\udc00\\ud800"', "\U0001f600 \\ud800 \ufffd\ufffd"),
        ("100000000000000000000", None),
        ("-18446744073709551616000", None),
        ('"100000000000000000000"', "100000000000000000000"),
        ("1" * 5000, None),
        ("[" * 100_000 + "]" * 100_000, ...),
        ('{"a":' * 5000 + '"\\"]"' + "}" * 5000, ...),
    ],
)
def test_only_what_nobody_could_read_is_lost(odd: str, left: object) -> None:
    """What stands beside it is whole."""
    text = f'{{"before": [1, "]"], "odd": {odd}, "after": {{"b": "\\\\"}}}}'
    found = decode_lossily(text)
    assert isinstance(found, dict)
    assert (found["before"], found["after"]) == ([1, "]"], {"b": "\\"})
    assert left is ... or found["odd"] == left
