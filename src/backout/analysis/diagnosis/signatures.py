"""The label of a text, by the signatures of the catalogue, most specific first; pure.

Patterns are compiled when a text first holds one of their literals: a catalogue of hundreds costs nothing at the start.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

from backout.analysis.diagnosis.literals import LiteralIndex
from backout.analysis.diagnosis.log_text import read_text
from backout.model.incident.diagnosis import ANSWER_FROM, UNKNOWN, Classified, LogKind
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backout.analysis.diagnosis.log_text import LogText
    from backout.model.incident.diagnosis import Catalogue, ServiceHint, Signature

CONFIDENCE: Final = (0.0, 0.30, 0.42, 0.62, 0.70, 0.78, 0.84, 0.89, 0.93, 0.96, 0.98)
"""How often a label is right whose best signature has this specificity (index), when nothing else speaks."""
_AGREEING: Final = 0.25
"""What each further signature of the same label adds to the specificity of the best one."""
_MOST_AGREEING: Final = 3
_SHARPNESS: Final = 1.1
"""By how much one step of specificity outweighs, as a power of e, when labels are in conflict."""
_NAMED: Final = "named"


class Classifier:
    """The signatures of a catalogue, ready for use. It caches compiled patterns and nothing else."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._causes = catalogue.causes
        self._matchers = tuple(_Matcher(signature) for signature in catalogue.signatures)
        self._always = frozenset(number for number, one in enumerate(catalogue.signatures) if not one.literals)
        self._index = LiteralIndex(
            (literal, number) for number, one in enumerate(catalogue.signatures) for literal in one.literals
        )
        self._services = _ServiceNames(catalogue.services)

    def classify(self, text: str, kind: LogKind = LogKind.RUNTIME) -> Classified:
        """Return what the text is; `unknown` when nothing is found or the best is too weak."""
        read = read_text(text)
        candidates = self._index.find(read.whole.lower()) | self._always
        matchers = [self._matchers[number] for number in sorted(candidates)]
        hits = [
            (matcher.signature, found)
            for matcher in matchers
            if matcher.counts_in(kind) and (found := matcher.find(read)) is not None
        ]
        if not hits:
            return Classified(UNKNOWN, None, None, 0.0)
        best: dict[str, tuple[Signature, _Found]] = {}
        scores: dict[str, float] = {}
        for signature, found in sorted(hits, key=lambda hit: -hit[0].specificity):
            label = signature.label
            if label not in best:
                best[label], scores[label] = (signature, found), float(signature.specificity)
                continue
            scores[label] += _AGREEING if scores[label] < best[label][0].specificity + _MOST_AGREEING * _AGREEING else 0
            for name, value in found.captures.items():
                best[label][1].captures.setdefault(name, value)
        ranked = sorted(scores, key=lambda label: (-scores[label], label))
        shares = _compute_shares([scores[label] for label in ranked])
        label = ranked[0]
        signature, found = best[label]
        confidence = CONFIDENCE[signature.specificity] * shares[0] ** 0.5
        others = tuple(
            (other, round(share * confidence / max(shares[0], 1e-9), 4))
            for other, share in zip(ranked[1:], shares[1:], strict=True)
        )
        if confidence < ANSWER_FROM:
            weak = ((label, round(confidence, 4)), *others)
            return Classified(UNKNOWN, None, None, confidence, signature.id, found.line, found.captures, weak)
        cause = self._causes[label]
        named = signature.service or cause.service
        service = self._services.in_text(read) if named == _NAMED else named
        if service is None and cause.service != _NAMED:
            service = cause.service
        scenario = cause.scenario_in(kind)
        return Classified(label, service, scenario, confidence, signature.id, found.line, found.captures, others)


def _compute_shares(scores: list[float]) -> list[float]:
    """Return how probable each is against the others, in [0, 1], from their specificities."""
    weights = [math.exp(_SHARPNESS * (score - scores[0])) for score in scores]
    whole = sum(weights)
    return [weight / whole for weight in weights]


def finds(signature: Signature, text: str) -> bool:
    """Whether this one signature is found in the text, whatever the others say."""
    read = read_text(text)
    lowered = read.whole.lower()
    if signature.literals and not any(literal in lowered for literal in signature.literals):
        return False
    return _Matcher(signature).find(read) is not None


class _Found(Value, frozen=True):
    """A match of a signature: its place, and the names its patterns captured."""

    line: str
    captures: dict[str, str]


class _Matcher:
    """One signature; its patterns are compiled at the first text that may hold it."""

    __slots__ = ("_compiled", "signature")

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self._compiled: tuple[tuple[re.Pattern[str], ...], ...] | None = None

    def counts_in(self, kind: LogKind) -> bool:
        """Whether it is looked for in a log of that kind."""
        return not self.signature.kinds or kind in self.signature.kinds

    def find(self, text: LogText) -> _Found | None:
        """Return the line and what the patterns captured, or None when the text does not match this signature.

        That the text holds one of the signature's literals was seen before.
        """
        if self._compiled is None:
            one = self.signature
            self._compiled = tuple(_compile_all(patterns) for patterns in (one.any, one.all, one.none, one.stack))
        some, every, forbidden, stack = self._compiled
        captures: dict[str, str] = {}
        line = ""
        for pattern in every:
            found = pattern.search(text.message)
            if found is None:
                return None
            line = line or _find_line(found)
            _take(found, captures)
        for wanted, where in ((some, text.message), (stack, text.stack)):
            if wanted:
                found = next((hit for pattern in wanted if (hit := pattern.search(where))), None)
                if found is None:
                    return None
                line = line or _find_line(found)
                _take(found, captures)
        if any(pattern.search(text.message) for pattern in forbidden):
            return None
        return _Found(line, captures)


def _find_line(found: re.Match[str]) -> str:
    """Return the whole line in which a match begins."""
    start = found.string.rfind("\n", 0, found.start()) + 1
    end = found.string.find("\n", found.start())
    return found.string[start : end if end >= 0 else len(found.string)].strip()


def _take(found: re.Match[str], captures: dict[str, str]) -> None:
    # A name may stand in a pattern once only: `variable2` is another place in which a variable is named.
    captures.update((name.rstrip("0123456789"), value) for name, value in found.groupdict().items() if value)


def _compile_all(patterns: Iterable[str]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern, re.MULTILINE) for pattern in patterns)


class _ServiceNames:
    """Names the service of a text: the highest sum decides, and the message counts twice as much as the stack."""

    def __init__(self, hints: tuple[ServiceHint, ...]) -> None:
        self._hints = hints
        self._compiled: list[tuple[str, list[tuple[re.Pattern[str], float]]]] | None = None

    def in_text(self, text: LogText) -> str | None:
        if self._compiled is None:
            self._compiled = [
                (hint.service, [(re.compile(pattern, re.MULTILINE), weight) for pattern, weight in hint.patterns])
                for hint in self._hints
            ]
        sums = {
            service: sum(
                weight * (1.0 if pattern.search(text.message) else 0.5 if pattern.search(text.stack) else 0.0)
                for pattern, weight in patterns
            )
            for service, patterns in self._compiled
        }
        best = max(sums, key=lambda service: sums[service], default=None)
        return best if best is not None and sums[best] > 0 else None
