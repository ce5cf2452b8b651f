"""Diagnosis: from counted events and their context to scenario, cause and proof; pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.analysis.diagnosis.missing_secrets import MENDABLE
from backout.analysis.diagnosis.ranking import compare_occurrences, rank
from backout.analysis.diagnosis.recent import select_versions
from backout.analysis.statistics.novelty import ALARM, describe_novelty
from backout.model.incident.diagnosis import (
    ANSWER_FROM,
    UNKNOWN,
    Alternative,
    Diagnosis,
    Labelled,
    LogKind,
    Quote,
    RollbackAdvice,
    Scenario,
)
from backout.model.incident.events import NO_VERSION, OTHER_VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.analysis.diagnosis.ranking import Ranked
    from backout.analysis.diagnosis.signatures import Classifier
    from backout.model.incident.diagnosis import Catalogue, Cause, Surroundings
    from backout.model.incident.events import EventCounts, Template

MOST_QUOTES: Final = 5
_LONGEST_QUOTE: Final = 300
_MOST_ALTERNATIVES: Final = 4
_WORTH_TELLING: Final = 0.01
_SUREST: Final = 0.99
_VARIABLE: Final = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")
"""The form of the names of environment variables."""
_FEW: Final = 30
"""Below this many invocations of the new version, its rates are hardly known: stated with the answer."""


def diagnose(events: EventCounts, around: Surroundings, catalogue: Catalogue, classifier: Classifier) -> Diagnosis:
    """Return what happened, why, and the lines that prove it."""
    around, notes = _find_sides(events, around)
    silent = _is_silent(events, around)
    events = _keep_compared(events, around)
    labelled = [Labelled(each, classifier.classify(each.sample, around.kind)) for each in events.templates]
    ranked = rank(labelled, events, around, catalogue)
    best = next((each for each in ranked if each.label != UNKNOWN), None)
    if silent:
        notes = (*notes, f"{_describe_silence(around)}: the logs say nothing about it")
    notes = (*notes, *_list_limits(events, around))
    found = Diagnosis(
        scenario=None,
        cause=UNKNOWN,
        confidence=0.0 if best is None else min(best.probability, ANSWER_FROM - 0.01),
        service=None,
        rollback=RollbackAdvice.NOT_NEEDED,
        title="",
        deployed_at=around.deployed_at,
        alternatives=_list_alternatives(ranked),
        counts={name: (each.invocations, each.errors) for name, each in sorted(events.by_version.items())},
        unreadable={reason: noted.count for reason, noted in events.unreadable.items()},
        fresh=_quote_fresh(ranked, labelled, events, around),
        clean=around.clean,
        notes=notes,
    )
    if best is not None and best.probability >= ANSWER_FROM:
        return _name_cause(found, best, events, around, catalogue.causes[best.label])
    return _answer_without_cause(found, ranked, events, around)


def _name_cause(found: Diagnosis, best: Ranked, events: EventCounts, around: Surroundings, cause: Cause) -> Diagnosis:
    templates = [one.template for one in best.labelled]
    captures = {k: v for one in reversed(best.labelled) for k, v in one.classified.captures.items()}
    seen = [each.first_seen for each in templates if each.first_seen is not None]
    services = [clue.service for clue in best.clues if clue.service]
    services += [one.classified.service for one in best.labelled if one.classified.service]
    rollback = cause.rollback
    if rollback is RollbackAdvice.CODE_OK and (best.is_new is False or best.in_time):
        rollback = RollbackAdvice.USELESS  # the version before has it as well
    return replace(
        found,
        scenario=cause.scenario_in(around.kind),
        cause=best.label,
        confidence=min(best.probability, _SUREST),
        service=services[0] if services else (None if cause.service == "named" else cause.service),
        rollback=rollback,
        title=cause.title,
        is_new=best.is_new,
        novelty=_describe_novelty(best, events, around),
        first_seen=min(seen, default=None),
        share=_measure_share(templates, events, around),
        evidence=_list_quotes(best, around),
        alternatives=tuple(each for each in found.alternatives if each.cause != best.label),
        next=_list_steps(cause, rollback, around.environment, captures),
        confirm=cause.confirm.replace("{environment}", around.environment),
        names=_list_names(best),
    )


def _list_names(best: Ranked) -> tuple[str, ...]:
    """Return the variables and bindings that clues and texts name, in their order."""
    names = [name for clue in best.clues for name in clue.names]
    for one in best.labelled:
        found = one.classified
        named = [found.captures[key] for key in ("variable", "binding") if key in found.captures]
        names += named or (_VARIABLE.findall(found.line) if best.label in MENDABLE else [])
    return tuple(dict.fromkeys(names))


def _answer_without_cause(
    found: Diagnosis, ranked: tuple[Ranked, ...], events: EventCounts, around: Surroundings
) -> Diagnosis:
    """Return the answer where no cause is likely enough: nothing is wrong, or it is not known what."""
    comparable = [each for each in ranked if each.is_new is not None]
    calm = not found.fresh and all(each.is_new is False for each in comparable)
    silent = _is_silent(events, around)
    if calm and (comparable or silent or not events.errors) and not around.clues:
        title = "nothing is new: errors are as before" if events.errors else "no errors"
        title = f"nothing is known to be wrong, but {_describe_silence(around)}" if silent else title
        return replace(
            found,
            scenario=Scenario.NO_ACTION,
            title=title,
            is_new=False if comparable else None,
            next=(f"backout status -e {around.environment}",),
        )
    number = len(found.fresh)
    title = (
        f"unknown: {number} new template{'' if number == 1 else 's'}"
        if number
        else "unknown: no cause is likely enough"
    )
    return replace(
        found,
        scenario=Scenario.RUNTIME_ERRORS if number and around.kind is LogKind.RUNTIME else None,
        title=title,
        is_new=True if number else None,
        evidence=found.fresh[:MOST_QUOTES],
        next=(f"backout rollback --dry-run -e {around.environment}", f"backout diagnose -e {around.environment}"),
        rollback=RollbackAdvice.CODE_OK if number and around.kind is LogKind.RUNTIME else RollbackAdvice.NOT_NEEDED,
    )


def _find_sides(events: EventCounts, around: Surroundings) -> tuple[Surroundings, tuple[str, ...]]:
    """Return the context with the two versions identified as far as the events allow, and what was assumed."""
    known = [name for name in events.by_version if name not in (NO_VERSION, OTHER_VERSION)]
    old, new = (_find_full(name, known) for name in (around.old, around.new))
    if new is None and old is not None and len(known) == 2:
        new = next(name for name in known if name != old)
    if old is None and new is not None and len(known) == 2:
        old = next(name for name in known if name != new)
    if old is None and new is None and len(known) == 2:
        counts = events.by_version
        new, old = sorted(known, key=lambda name: -counts[name].errors / max(counts[name].invocations, 1))
        said = f"{new[:8]} is taken for the new version, because it fails more often; --old and --new say it"
        return replace(around, old=old, new=new), (said,)
    return replace(around, old=old, new=new), ()


def _keep_compared(events: EventCounts, around: Surroundings) -> EventCounts:
    """Return the events without those of versions that are neither judged nor compared with.

    A version that was gone before would else be blamed on them, as something that rose in time. Where the one to
    compare with is known and silent, the others stand for it; where the one to judge is silent, what was seen last
    before it went live is over.
    """
    if _is_silent(events, around):
        return replace(events, templates=tuple(each for each in events.templates if not _is_over(each, around)))
    sides = {name for name in (around.old, around.new) if name is not None}
    if around.new is None or not sides <= events.by_version.keys():
        return events
    return select_versions(events, frozenset({*sides, NO_VERSION, OTHER_VERSION}))


def _is_silent(events: EventCounts, around: Surroundings) -> bool:
    """Whether nothing is known of the version to judge: what others did before it went live is not its doing."""
    return around.new is not None and around.deployed_at is not None and around.new not in events.by_version


def _describe_silence(around: Surroundings) -> str:
    return f"no invocation of {around.new or '':.8} was seen in the time looked at"


def _is_over(template: Template, around: Surroundings) -> bool:
    last, began = template.last_seen, around.deployed_at
    return last is not None and began is not None and last < began


def _find_full(name: str | None, known: Sequence[str]) -> str | None:
    """Return the version that a typed id, or the beginning of one, means."""
    if name is None:
        return None
    return next((each for each in known if each == name), next((each for each in known if each.startswith(name)), name))


def _list_limits(events: EventCounts, around: Surroundings) -> tuple[str, ...]:
    """Return what makes the answer less sure."""
    notes = []
    if events.sampled:
        notes.append("the source left out events: counts are of a sample")
    if events.truncated:
        notes.append(f"{events.truncated:,} events were cut by the source")
    if events.untracked:
        notes.append(f"{events.untracked:,} texts are in no template: there were too many kinds")
    notes += [f"{noted.count:,} x {what}, first {noted.first}" for what, noted in events.oddities.items()]
    new = events.by_version.get(around.new or "")
    if around.new is not None and around.old is not None and new is not None and new.invocations < _FEW:
        notes.append(f"only {new.invocations} invocations of the new version")
    return tuple(notes)


def _list_alternatives(ranked: tuple[Ranked, ...]) -> tuple[Alternative, ...]:
    likely = [each for each in ranked if each.probability >= _WORTH_TELLING]
    return tuple(Alternative(each.label, round(each.probability, 4)) for each in likely[: _MOST_ALTERNATIVES + 1])


def _describe_novelty(best: Ranked, events: EventCounts, around: Surroundings) -> str:
    both = compare_occurrences([one.template for one in best.labelled], events, around)
    if both is None or not best.labelled:
        return ""
    if best.in_time:
        return "rose at one moment, in both versions"
    return describe_novelty(*both.old, *both.new)


def _measure_share(templates: Sequence[Template], events: EventCounts, around: Surroundings) -> float | None:
    """Return in which share of the new version's invocations (of all, without one) these were seen."""
    of = events.by_version.get(around.new) if around.new is not None else None
    if of is not None:
        seen = sum(one.invocations for each in templates if (one := each.by_version.get(around.new or "")) is not None)
        return min(seen / of.invocations, 1.0) if of.invocations else None
    return min(sum(each.invocations for each in templates) / events.invocations, 1.0) if events.invocations else None


def _list_quotes(best: Ranked, around: Surroundings) -> tuple[Quote, ...]:
    clues = [Quote(_cut(clue.text), clue.at, "", 1, clue.source) for clue in best.clues]
    rest = [_quote(one, around) for one in best.labelled]
    return (*clues[:2], *rest)[:MOST_QUOTES]


def _quote(one: Labelled, around: Surroundings) -> Quote:
    template = one.template
    version = (
        around.new
        if around.new in template.by_version
        else max(template.by_version, key=lambda name: template.by_version[name].invocations, default="")
    )
    seen = template.by_version.get(version or "")
    text = one.classified.line or _get_first_line(template.sample) or str(template.key)
    return Quote(_cut(text), template.first_seen, version or "", seen.invocations if seen else template.invocations)


def _quote_fresh(
    ranked: Sequence[Ranked], labelled: Sequence[Labelled], events: EventCounts, around: Surroundings
) -> tuple[Quote, ...]:
    """Return the templates that no signature knows and that came with the new version, the most frequent first.

    Where all of them together are new, each that became more frequent is reported, however few.
    """
    together = any(each.label == UNKNOWN and each.is_new and not each.in_time for each in ranked)
    fresh = []
    for one in labelled:
        both = None if one.classified.is_known else compare_occurrences([one.template], events, around)
        if both is not None and (both.log_factor() > (0.0 if together else ALARM)):
            fresh.append(_quote(one, around))
    return tuple(sorted(fresh, key=lambda quote: -quote.count))


def _list_steps(cause: Cause, rollback: RollbackAdvice, environment: str, captures: dict[str, str]) -> tuple[str, ...]:
    """Return the cause's steps, without a rollback where it is useless."""
    steps = [step for step in cause.steps if rollback is not RollbackAdvice.USELESS or not _is_rollback(step)]
    return tuple(
        _fill_names(step, environment, captures, cause.title) for step in steps or ["backout status -e {environment}"]
    )


def _is_rollback(step: str) -> bool:
    return step.startswith("backout rollback ")


def _fill_names(step: str, environment: str, captures: dict[str, str], title: str) -> str:
    """Return a step with its names filled in; one that is not known stays in braces."""
    known = {"environment": environment, "title": title, **captures}
    return re.sub(r"\{(\w+)\}", lambda found: known.get(found[1], found[0]), step)


def _get_first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _cut(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _LONGEST_QUOTE else f"{line[: _LONGEST_QUOTE - 1]}…"
