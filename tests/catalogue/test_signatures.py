"""Every signature of the catalogue: its examples are found and classified so, its counter-examples are not found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout.analysis.diagnosis.signatures import Classifier, finds
from backout.model.incident.diagnosis import LogKind
from backout.providers.files.signatures import check_patterns
from backout.wiring.diagnosis import load_catalogue

if TYPE_CHECKING:
    from backout.model.incident.diagnosis import Signature

CATALOGUE = load_catalogue()
CLASSIFIER = Classifier(CATALOGUE)
SIGNATURES = sorted(CATALOGUE.signatures, key=lambda one: (one.label, one.id))


def test_every_pattern_is_a_regular_expression() -> None:
    assert check_patterns(CATALOGUE) == ()


@pytest.mark.parametrize("signature", SIGNATURES, ids=lambda one: f"{one.label}-{one.id}")
def test_examples_and_counter_examples(signature: Signature) -> None:
    assert signature.examples, "a signature needs an example"
    assert signature.counter_examples, "a signature needs a counter-example"
    for kind in signature.kinds or (LogKind.RUNTIME,):
        for text in signature.examples:
            assert finds(signature, text), f"it does not find its own example {text!r}"
            found = CLASSIFIER.classify(text, kind)
            assert found.label == signature.label, f"{text!r} is classified {found.label} by {found.signature!r}"
    for text in signature.counter_examples:
        assert not finds(signature, text), f"it finds its counter-example {text!r}"
