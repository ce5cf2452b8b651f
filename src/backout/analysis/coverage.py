"""What a rollback of code changes, leaves or does not cover beside the code; pure (safety rule 16)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.attached import ATTACHED, choose_attached, cover_attached
from backout.model.triggers import Coverage, Fate, TriggerKind
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Collection

    from backout.model.situation import Situation
    from backout.model.version import Version

UNKNOWN_TRIGGERS = "schedules, routes, queue consumers and custom domains stay as they are (they were not looked at)"
UNKNOWN_DATA = "data (database rows, stored files, key-value entries, queues) stays as it is"

_WORDS = {
    TriggerKind.SCHEDULES: "schedules",
    TriggerKind.ROUTES: "routes",
    TriggerKind.DOMAINS: "custom domains",
    TriggerKind.QUEUES: "queue consumers",
}
OBJECTS = "durable_object_namespace"
"""The type of a binding to Durable Objects, which run the code of before until they are idle, five minutes at most."""
OBJECTS_S = 300.0
"""For how long, where a deployment says nothing else (Cloudflare, "Durable Objects code updates", read 2026-12-01)."""
_DATA = {
    "kv_namespace": "its entries stay as they are",
    "d1": "its rows and its schema stay as they are",
    OBJECTS: (
        "the storage of its objects stays as it is; objects that are live are reset, so that none runs the code of "
        "before for minutes: their connections close, and what they hold in memory is gone (by hand: wrangler with "
        "--durable-objects-code-update-mode immediate)"
    ),
    "queue": "messages that are in it are delivered to the version that is live then",
    "r2_bucket": "its objects stay as they are",
    "hyperdrive": "the rows and the schema of the database behind it stay as they are",
    "vectorize": "its vectors stay as they are",
    "analytics_engine": "what was written to it stays",
    "pipelines": "what was sent to it stays",
    "workflow": "instances that have begun go on: steps that are done keep their results, by their names",
    "secrets_store_secret": "its value belongs to the store, not to a version",
}
"""Types of bindings behind which something outlives a version, and what becomes of it."""


class Way(Value, frozen=True):
    """A move from one version to another.

    Args:
        target, leaving: version ids.
        quick: look only at what a plan can restore.
        restores: title of the step that restores the schedules, "" without one.
        by_hand: the command to restore them by hand, "" when there is none.
    """

    target: str
    leaving: str
    quick: bool = False
    restores: str = ""
    by_hand: str = ""


def choose_kinds(situation: Situation, way: Way) -> tuple[TriggerKind, ...]:
    """Return what to compare: in a hurry the schedules alone, and queues only where a version handles them."""
    if way.quick:
        return (TriggerKind.SCHEDULES,)
    versions = [situation.version(version) for version in (way.target, way.leaving)]
    consumes = any(version is None or not version.handlers or "queue" in version.handlers for version in versions)
    return tuple(kind for kind in TriggerKind if kind is not TriggerKind.QUEUES or consumes)


def list_coverage(situation: Situation, way: Way) -> tuple[Coverage, ...]:
    """Return one line for everything beside the code that differs, is not known, or is data."""
    target, by_hand = way.target, way.by_hand
    lines = []
    same = []
    if situation.triggers is not None:
        for kind in choose_kinds(situation, way):
            line = _cover_trigger(situation, target, kind, way.restores if kind is TriggerKind.SCHEDULES else "")
            if line is None:
                same.append(_WORDS[kind])
            elif kind is TriggerKind.SCHEDULES and by_hand and line.fate is Fate.STAYS:
                lines.append(Coverage(line.what, line.fate, f"{line.why}; to restore them: {by_hand}"))
            else:
                lines.append(line)
    if same:
        why = f"the same as when version {target[:8]} was live"
        lines.append(Coverage(_join_words(same), Fate.STAYS, why))
    if way.quick and situation.triggers is not None:
        versions = (situation.version(target), situation.version(way.leaving))
        more = [ATTACHED[kind] for kind in choose_attached(versions)]
        rest = _join_words([words for kind, words in _WORDS.items() if kind is not TriggerKind.SCHEDULES] + more)
        lines.append(Coverage(rest, Fate.STAYS, "not looked at, to be quick"))
    return (*lines, *cover_attached(situation.attached), *_cover_data(situation, target, way.leaving))


def list_general(situation: Situation, lines: tuple[Coverage, ...]) -> tuple[str, ...]:
    """Return the sentences for what `list_coverage` could not look at."""
    sentences = [] if situation.triggers is not None else [UNKNOWN_TRIGGERS]
    if not any(line.fate is Fate.NOT_COVERED for line in lines):
        sentences.append(UNKNOWN_DATA)
    return tuple(sentences)


def keeps_running(situation: Situation, versions: Collection[str]) -> bool:
    """Whether something of these versions would run the code of before for a while behind a switch."""
    known = (situation.version(version) for version in versions)
    return any(has_objects(version) for version in known if version)


def has_objects(version: Version) -> bool:
    """Whether a version is bound to Durable Objects."""
    return any(name.startswith(f"{OBJECTS}:") for name in version.bindings)


def find_schedules_to_restore(situation: Situation, target: str) -> tuple[str, ...] | None:
    """Return the schedules at the time the target was live, if known and different from the current ones; else None."""
    then, now = situation.snapshots.get(target), situation.triggers
    if then is None or now is None or then.schedules is None or now.schedules is None:
        return None
    return None if then.schedules == now.schedules else then.schedules


def _cover_trigger(situation: Situation, target: str, kind: TriggerKind, restores: str) -> Coverage | None:
    """Return the line about one kind, or None when it is as it was."""
    snapshot = situation.snapshots.get(target)
    then = snapshot.of(kind) if snapshot else None
    now = situation.triggers.of(kind) if situation.triggers else None
    was = f"when version {target[:8]} was live"
    if now is None and then:
        return Coverage(_WORDS[kind], Fate.REFUSED, f"{_format_values(then)} {was}; not measured now, so not compared")
    if now is None:
        return Coverage(_WORDS[kind], Fate.STAYS, "not measured: the token may not read them")
    if then is None:
        return Coverage(_WORDS[kind], Fate.STAYS, f"now {_format_values(now)}; not known what they were {was}")
    if then == now:
        return None
    if restores:
        return Coverage(
            _WORDS[kind], Fate.CHANGES, f"now {_format_values(now)}, back to {_format_values(then)} ({restores})"
        )
    return Coverage(_WORDS[kind], Fate.STAYS, f"now {_format_values(now)}; {_format_values(then)} {was}")


def _cover_data(situation: Situation, target: str, leaving: str) -> tuple[Coverage, ...]:
    """Name what is behind the bindings of both versions, and the database."""
    bound: dict[str, list[str]] = {}
    for version in (leaving, target):
        known = situation.version(version)
        for binding in known.bindings if known else ():
            if binding.partition(":")[0] in _DATA:
                bound.setdefault(binding, []).append(version)
    lines = [
        Coverage(
            _name_binding(binding), Fate.NOT_COVERED, _DATA[binding.partition(":")[0]] + _name_only(versions, target)
        )
        for binding, versions in sorted(bound.items())
    ]
    if situation.schema.set_up:
        state = situation.schema.state
        head = f" (migration head {state.head or 'none'})" if state else ""
        lines.append(Coverage("database", Fate.NOT_COVERED, f"its rows and its schema{head} stay as they are"))
    return tuple(lines)


def _name_only(versions: list[str], target: str) -> str:
    if target not in versions:
        return "; the version that is returned to does not use it"
    return "; only the version that is returned to uses it" if len(versions) == 1 else ""


def _name_binding(binding: str) -> str:
    kind, _, name = binding.partition(":")
    return f"{kind} {name}"


def _format_values(values: tuple[str, ...]) -> str:
    return ", ".join(values) or "none"


def _join_words(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
