"""Literals decide whether a pattern is searched at all: each way in which it can match holds one of them."""

from __future__ import annotations

import re
from re import _constants as op
from re import _parser as parser
from typing import TYPE_CHECKING, Any

import pytest

from backout.wiring.diagnosis import load_catalogue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backout.model.incident.diagnosis import Signature

CATALOGUE = load_catalogue()
SIGNATURES = sorted(
    (each for each in CATALOGUE.signatures if each.literals and each.any),
    key=lambda one: (one.label, one.id),
)
ANYTHING = "\0"
"""Stands in a sample where the pattern leaves the character open."""


def samples(parsed: Iterable[Any]) -> list[str]:
    """Return a shortest text for each way through the alternatives of a pattern."""
    found = [""]
    for code, value in parsed:
        found = [head + tail for head in found for tail in _ways(code, value)]
    return found


def _ways(code: Any, value: Any) -> list[str]:
    if code is op.LITERAL:
        return [chr(value)]
    if code is op.BRANCH:
        return [text for branch in value[1] for text in samples(branch)]
    if code is op.SUBPATTERN:
        return samples(value[3])
    if code in {op.MAX_REPEAT, op.MIN_REPEAT}:
        least, most, inner = value
        return [text * least + (ANYTHING if most != least else "") for text in samples(inner)] if least else [ANYTHING]
    if code is op.IN and all(each[0] is op.LITERAL for each in value):
        return sorted({chr(each[1]).lower() for each in value})
    return [""] if code in {op.AT, op.ASSERT, op.ASSERT_NOT} else [ANYTHING]


@pytest.mark.parametrize("signature", SIGNATURES, ids=lambda one: f"{one.label}-{one.id}")
def test_every_way_to_match_holds_a_literal(signature: Signature) -> None:
    missed = [
        (pattern, sample)
        for pattern in signature.any
        for sample in samples(parser.parse(pattern, re.MULTILINE))
        if not any(literal in sample.lower() for literal in signature.literals)
    ]

    assert not missed, missed[:3]
