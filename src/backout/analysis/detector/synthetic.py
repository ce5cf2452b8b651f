"""backout's own probes as counts: which of them count, and their allowance of failures.

They are apart from the visitors' requests: the sources of counts leave them out, and they have a test of their own, so
that a version with hardly any traffic is judged too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired, TypedDict

from backout.analysis.detector.wording import count
from backout.analysis.statistics.baseline import SURE
from backout.analysis.statistics.beta import beta_quantile
from backout.model.guard.answers import AnswerClass
from backout.model.guard.policy import WITH_CREDENTIALS
from backout.model.guard.probes import split_probe_name
from backout.model.guard.shift import Outcome, Shift, ShiftKind
from backout.model.guard.verdict import StreamEvidence

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backout.model.guard.policy import Expectation
    from backout.model.guard.probes import ProbesBefore, SyntheticAnswer

GRANTED = 0.01
"""The share of probes that may fail in transit, whatever was seen before: networks lose some."""
MOST_GRANTED = 0.9
"""Of what failed more often than this before, nothing can be said."""


def compute_granted_share(before: ProbesBefore, errors: float) -> float:
    """Return the share of failing probes that is no evidence, in [GRANTED, MOST_GRANTED].

    The `SURE` quantile of what the share before may be (Jeffreys' prior) where some failed, and never less than the
    share of requests that fails anyway.

    Args:
        errors: the baseline's bound of the share of errors, 0 when there were no counts.
    """
    ended = [(made, failed) for made, failed in before.ended.values() if failed < made]
    made, failed = sum(number for number, _ in ended), sum(number for _, number in ended)
    share = beta_quantile(SURE, failed + 0.5, made - failed + 0.5) if failed else 0.0
    return min(max(GRANTED, errors, share), MOST_GRANTED)


class SyntheticState(TypedDict):
    """Checkpoint of a `Synthetic`."""

    answered: list[str]
    good: NotRequired[list[str]]
    otherwise: NotRequired[dict[str, tuple[str, int, int]]]
    failed: NotRequired[dict[str, tuple[int, int, str]]]


class Synthetic:
    """Decides which synthetic requests count: a path counts from its first good answer on, before or in the watch.

    A path that never answered well may have failed before the deployment as well. One that was answered well, and is
    answered otherwise now (404, 401, a redirect), is a shift: only the version before it, asked the same, tells more.

    Args:
        expect: changes of answers that are intended.
    """

    def __init__(self, before: ProbesBefore, expect: Sequence[Expectation] = ()) -> None:
        self._expect = expect
        self._answered = {what for what in before.ended if before.has_answered(what)}
        self._good = set(before.good)
        self._otherwise: dict[str, tuple[str, int, int]] = {}  # by name: class, answers in it, of all since then
        self._failed: dict[str, tuple[int, int, str]] = {}  # by name: failed, asked, why the last one did

    def select_counted(self, answers: Iterable[SyntheticAnswer]) -> list[SyntheticAnswer]:
        """Return those that count."""
        found = []
        for answer in answers:
            if not answer.failed:
                self._answered.add(answer.path)
            # Credentials may have run out, which is no failure of this version: only the old one can tell.
            if answer.path in self._answered and not answer.is_denied:
                found.append(answer)
                bad, asked, why = self._failed.get(answer.path, (0, 0, ""))
                why = (answer.why or _describe_status(answer.status)) if answer.failed else why
                self._failed[answer.path] = bad + answer.failed, asked + 1, why
        return found

    def evidence(self) -> tuple[StreamEvidence, ...]:
        """Return a line for each failed request, with the expectation that its answer did not meet."""
        return tuple(_make_line(name, *found) for name, found in sorted(self._failed.items()) if found[0])

    def describe_worst(self) -> str:
        """Return which request failed most often, and why the last time; "" where none did."""
        lines = self.evidence()
        return max(lines, key=lambda line: line.bad or 0).sentence if lines else ""

    def compare(self, answer: SyntheticAnswer) -> None:
        """Take note of the class of an answer of the new version alone."""
        kind, name = answer.kind, answer.path
        if kind is None or (answer.failed and not answer.is_denied):
            return  # a failed probe, which is counted elsewhere
        if kind is AnswerClass.GOOD or self._is_meant(answer):
            self._good.add(name)
            self._otherwise.pop(name, None)
        elif name in self._good:
            was, bad, total = self._otherwise.get(name, (kind, 0, 0))
            self._otherwise[name] = (kind, bad + 1 if was == kind else 1, total + 1)

    def _is_meant(self, answer: SyntheticAnswer) -> bool:
        method, path = split_probe_name(answer.path)
        return any(each.covers(method, path) and answer.status in each.statuses for each in self._expect)

    def shifts(self) -> tuple[Shift, ...]:
        """Return the requests that are answered differently from before, by their newest answers."""
        return tuple(
            _make_shift(name, AnswerClass(to), bad, total) for name, (to, bad, total) in self._otherwise.items()
        )

    def state(self) -> SyntheticState:
        """Return a checkpoint, plain JSON."""
        return {
            "answered": sorted(self._answered),
            "good": sorted(self._good),
            "otherwise": dict(self._otherwise),
            "failed": dict(self._failed),
        }

    def restore(self, state: SyntheticState) -> None:
        """Go on from a checkpoint."""
        self._answered = set(state["answered"])
        self._good = set(state.get("good", ()))  # the version before wrote none of these
        self._failed = {name: (bad, asked, why) for name, (bad, asked, why) in state.get("failed", {}).items()}
        self._otherwise = {name: (to, bad, total) for name, (to, bad, total) in state.get("otherwise", {}).items()}


def _describe_status(status: int | None) -> str:
    return "no answer in time" if status is None else f"status {status}"


def _make_line(name: str, bad: int, asked: int, why: str) -> StreamEvidence:
    sentence = f"guard's own request {name} failed in {bad} of {count(asked, 'answer')} (the last one: {why})"
    return StreamEvidence(f"request {name}", bad, asked, None, "what is expected of it", 0.0, sentence)


def _make_shift(name: str, to: AnswerClass, bad: int, total: int) -> Shift:
    kind = ShiftKind.CREDENTIALS if WITH_CREDENTIALS in name else ShiftKind.ANSWERS
    stratum = f"GET {name}" if name.startswith("/") else name
    sentence = f"guard's own request {stratum} was answered well before, and {to.words} the last {count(bad, 'time')}"
    outcome = Outcome.TOLD if to is AnswerClass.GONE else Outcome.HOLD
    return Shift(kind, stratum, to, outcome, bad, total, 0, 0, 0.0, sentence)
