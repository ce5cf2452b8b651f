"""Ranking of causes: the evidence of each label, weighed, with consequences explained away; pure.

Every label collects evidence on the scale of log odds: how much its rate rose with the new version (or in time, when
both versions suffer), how much there is of it, how grave it is, how surely its texts were read, what the deployment
changed, and what other sources say (`Clue`). A label that follows from another likely one (`Cause.explains`) gives
way. New templates that no signature knows compete as well: where they are the loudest, nothing is named.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.analysis.statistics.novelty import ALARM, log_factor, measure_clumping
from backout.model.incident.diagnosis import UNKNOWN, Changed, LogKind
from backout.model.incident.events import Origin
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.model.incident.diagnosis import Catalogue, Cause, Clue, Labelled, Surroundings
    from backout.model.incident.events import EventCounts, Template

MOST_NOVELTY: Final = 12.0
"""Beyond that, more of the same error says no more about which cause it is."""
_NOT_NEW: Final = -6.0
"""What it weighs against a label that it is as frequent as before."""
_GONE: Final = -20.0
"""What it weighs against a label that it is gone."""
_EXPECTED: Final = 3.0
_ENOUGH: Final = 100
"""It is gone when the new version never shows it in this many invocations, or where this many were expected by now."""
_SEVERITY: Final = (-5.0, -0.7, 0.0, 0.8)
_EXPLAINED: Final = -5.0
_CHANGED: Final = 1.5
_NOTHING: Final = 0.0
"""The evidence that "none of these" starts with."""
_LEAST_SURE: Final = 0.15
_MOST_SURE: Final = 0.99
_VOLUME: Final = 0.35
"""What each doubling of the failed invocations adds."""
_HARMLESS: Final = -1.0
"""What it weighs that no invocation failed with it."""
_NOVELTY: Final = 0.5
_UNLABELLED: Final = -2.0
_AS_WELL: Final = 6.0
"""A cause may be this much less supported than its consequence, and still be its cause: consequences are louder."""
_LONGEST_SPAN: Final = 60 * 24 * 40
IN_TIME_ALARM: Final = 9.0
"""A rise in time is looked for at its most likely moment, so it takes more than a rise between versions."""

SPEAKS_FOR: Final[dict[Changed, frozenset[str]]] = {
    Changed.SECRETS: frozenset({"secret_invalid", "missing_env_var"}),
    Changed.VARIABLES: frozenset({"missing_env_var", "dns_tls_failure"}),
    Changed.BINDINGS: frozenset({"missing_env_var", "storage_missing_bucket", "storage_permission"}),
    Changed.MIGRATIONS: frozenset({"db_schema_mismatch", "migration_failed", "migration_pending", "db_timeout"}),
    Changed.COMPATIBILITY: frozenset({"module_not_found", "worker_script_error"}),
    Changed.DEPENDENCIES: frozenset({"module_not_found", "worker_script_error", "api_incompatibility"}),
}
"""Which labels a difference between the versions speaks for."""


class Compared(Value, frozen=True):
    """How often something was seen before and after the deployment being judged: (count, invocations) of each."""

    old: tuple[float, float]
    new: tuple[float, float]

    def log_factor(self, unevenness: float = 1.0) -> float:
        """Return the evidence of a rise, with bunches of `unevenness` counted as one."""
        (old, before), (new, after) = self.old, self.new
        return log_factor(old / unevenness, before / unevenness, new / unevenness, after / unevenness)

    @property
    def is_gone(self) -> bool:
        """Whether it was seen before, and is not any more."""
        (old, before), (new, after) = self.old, self.new
        return not new and (after >= _ENOUGH or old / before * after >= _EXPECTED)


class Ranked(Value, frozen=True):
    """One label's case.

    Args:
        label: the cause.
        weight: log odds.
        probability: against the others and "none of these".
        is_new: whether it rose, None: nothing to compare with.
        in_time: it rose in time, in all versions alike.
        labelled: the templates that support it, most telling first.
        clues: supporting evidence from other sources.
        by: the label that explains it away, or "".
    """

    label: str
    weight: float
    probability: float
    is_new: bool | None
    in_time: bool
    labelled: tuple[Labelled, ...]
    clues: tuple[Clue, ...]
    by: str = ""


def rank(
    labelled: Sequence[Labelled], events: EventCounts, around: Surroundings, catalogue: Catalogue
) -> tuple[Ranked, ...]:
    """Return every label with any evidence, likeliest first; `unknown` stands for new, unlabelled texts.

    The probabilities of all of them and of "nothing is wrong" sum to 1.
    """
    by_label: dict[str, list[Labelled]] = {}
    for one in labelled:
        by_label.setdefault(one.label, []).append(one)
    clues: dict[str, list[Clue]] = {}
    for clue in around.clues:
        if clue.label in catalogue.causes:
            clues.setdefault(clue.label, []).append(clue)
    cases = {}
    for label in {**by_label, **clues}:
        case = _weigh_case(catalogue.causes.get(label), by_label.get(label, []), events, around)
        cases[label] = _add_context(replace(case, label=label), tuple(clues.get(label, ())), events, around)
    explained = {
        label: replace(case, by=_find_explaining_label(label, cases, catalogue)) for label, case in cases.items()
    }
    weights = {label: case.weight + (_EXPLAINED if case.by else 0.0) for label, case in explained.items()}
    highest = max([*weights.values(), _NOTHING])
    whole = math.exp(_NOTHING - highest) + sum(math.exp(weight - highest) for weight in weights.values())
    ranked = [
        replace(case, weight=weights[label], probability=math.exp(weights[label] - highest) / whole)
        for label, case in explained.items()
    ]
    return tuple(sorted(ranked, key=lambda each: (-each.weight, each.label)))


def _weigh_case(cause: Cause | None, labelled: list[Labelled], events: EventCounts, around: Surroundings) -> Ranked:
    """Return what the events alone say for a label; None: for what has none."""
    factor, is_new, in_time = _weigh_novelty([one.template for one in labelled], events, around)
    weight = _SEVERITY[cause.severity] if cause else _UNLABELLED
    if labelled:
        surest = min(max(_LEAST_SURE, *(one.classified.confidence for one in labelled)), _MOST_SURE)
        weight += math.log(surest / (1 - surest)) if cause else 0.0
        failing = sum(one.template.errors for one in labelled)
        weight += _VOLUME * math.log2(1 + failing) if failing else _HARMLESS
    if is_new is not None:
        weight += _NOVELTY * min(factor, MOST_NOVELTY) if is_new else _weigh_not_new(labelled, events, around)
    elif cause is None:
        weight += _NOT_NEW  # without a comparison, an unknown text is noise until something is known to be wrong
    ordered = sorted(labelled, key=lambda one: (-_measure_rise(one.template, around), -one.template.invocations))
    return Ranked("", weight, 0.0, is_new, in_time, tuple(ordered), ())


def _weigh_not_new(labelled: Sequence[Labelled], events: EventCounts, around: Surroundings) -> float:
    """Return what it weighs that a label is no more frequent than before, or that it is gone."""
    found = compare_occurrences([one.template for one in labelled], events, around)
    return _GONE if found is not None and found.is_gone else _NOT_NEW


def _add_context(case: Ranked, clues: tuple[Clue, ...], events: EventCounts, around: Surroundings) -> Ranked:
    """Return a case with what other sources and the deployment's differences add to it."""
    weight = case.weight + sum(clue.weight for clue in clues)
    if clues and case.is_new is False:
        weight -= _weigh_not_new(case.labelled, events, around)  # it is there now, whenever it began
    weight += _CHANGED * any(case.label in SPEAKS_FOR.get(change, ()) for change in around.changed)
    return replace(case, weight=weight, clues=clues)


def _find_explaining_label(label: str, cases: Mapping[str, Ranked], catalogue: Catalogue) -> str:
    """Return the label that this one follows from, if about as well supported, or ""."""
    here = cases[label]
    if label == UNKNOWN:
        is_silent = all(one.template.origin is Origin.OUTCOME for one in here.labelled)
        return _find_down(cases) if is_silent else ""
    for other, case in sorted(cases.items(), key=lambda item: (-item[1].weight, item[0])):
        if other in (label, UNKNOWN) or label not in catalogue.causes[other].explains:
            continue
        if other in catalogue.causes[label].explains and case.weight <= here.weight:
            continue  # each explains the other: the better supported one stays
        if case.weight > max(_NOTHING, here.weight - _AS_WELL) and case.is_new is not False:
            return other
    return ""


def _find_down(cases: Mapping[str, Ranked]) -> str:
    """Return the label of a critical service that is down, or ""."""
    down = (label for label, case in cases.items() if any(clue.explains_silence for clue in case.clues))
    return next(down, "")


def _measure_rise(template: Template, around: Surroundings) -> int:
    """Return by how much more often it was seen in the new version than in the old one."""
    if around.new is None:
        return 0
    old, new = (template.by_version.get(version or "") for version in (around.old, around.new))
    return (new.invocations if new else 0) - (old.invocations if old else 0)


def compare_occurrences(templates: Sequence[Template], events: EventCounts, around: Surroundings) -> Compared | None:
    """Return how often these were seen before and after: in both versions, else by time; None: nothing to compare."""
    old = events.by_version.get(around.old) if around.old is not None else None
    new = events.by_version.get(around.new) if around.new is not None else None
    if old is not None and new is not None and old.invocations:
        before, after = (
            sum(seen.invocations for each in templates if (seen := each.by_version.get(version or "")) is not None)
            for version in (around.old, around.new)
        )
        return Compared((before, old.invocations), (after, new.invocations))
    if around.deployed_at is not None:
        return _compare_at(templates, events, int(around.deployed_at // 60))
    return None


def _compare_at(templates: Sequence[Template], events: EventCounts, minute: int) -> Compared | None:
    """Return how often these were seen before a minute and from it on; None when nothing was before."""
    counts: Counter[int] = Counter()
    for each in templates:
        for (_, at), count in each.by_minute.items():
            counts[at] += count
    invocations = count_by_minute(events)
    before = sum(count for at, count in invocations.items() if at < minute)
    if not before:
        return None
    old = sum(count for at, count in counts.items() if at < minute)
    return Compared((old, before), (sum(counts.values()) - old, sum(invocations.values()) - before))


def count_by_minute(events: EventCounts) -> Mapping[int, float]:
    """Return the invocations of each minute; where the events tell none, they are spread evenly over their span."""
    if events.by_minute:
        return {at: counts.invocations for at, counts in events.by_minute.items()}
    if events.first_at is None or events.last_at is None:
        return {}
    first, last = int(events.first_at // 60), int(events.last_at // 60)
    span = min(last - first + 1, _LONGEST_SPAN)
    return dict.fromkeys(range(first, first + span), events.invocations / span)


def _weigh_novelty(
    templates: list[Template], events: EventCounts, around: Surroundings
) -> tuple[float, bool | None, bool]:
    """Return (log Bayes factor, whether it rose, whether in time rather than between the versions)."""
    if not templates or around.kind is not LogKind.RUNTIME:
        return 0.0, None, False
    found = compare_occurrences(templates, events, around)
    if found is None:
        return 0.0, None, False
    counts: Counter[int] = Counter()
    for each in templates:
        for (_, at), count in each.by_minute.items():
            counts[at] += count
    minutes = count_by_minute(events)
    factor = found.log_factor(measure_clumping(counts, len(minutes)) if found.old[0] else 1.0)
    if len(templates) > 1:  # one template of many may be the new one
        alone = [
            single.log_factor()
            for each in templates
            if (single := compare_occurrences([each], events, around)) is not None
        ]
        factor = max([factor, *(each - math.log(len(templates)) for each in alone)])
    if factor > ALARM:
        return factor, True, False
    if found.is_gone:
        return factor, False, False
    rise = _weigh_in_time(counts, minutes)
    return (rise, True, True) if rise > IN_TIME_ALARM else (factor, False, False)


def _weigh_in_time(counts: Mapping[int, int], minutes: Mapping[int, float]) -> float:
    """Return the best factor of a rise that begins at some minute."""
    best = before = old = 0.0
    total, invocations = sum(counts.values()), sum(minutes.values())
    for at in sorted(minutes):
        best = max(best, log_factor(old, before, total - old, invocations - before))
        before += minutes[at]
        old += counts.get(at, 0)
    return best
