"""The DORA metrics of an environment, and guard's own, each with its formula, its n and what was left out; pure.

A deployment is a new code that reaches all of the traffic. Not counted: steps of a ramp, proofs and marks, changes of
secrets, uploads of the same code, rollbacks, drills, and the oldest deployment that is known.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Final

from msgspec import field

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ENOUGH: Final = 10
"""With fewer, a share is said as "3 of 8", and is no percentage."""
_DAY_S: Final = 86_400.0


class Reached(Value, frozen=True):
    """A version got traffic.

    Args:
        at: Unix seconds.
        code: hash of its code, its id where that is not known.
        is_final: it has all of the traffic.
        is_return: it was a rollback or a change of secrets, so no new code, whatever is known of it.
    """

    at: float
    version: str
    code: str
    is_final: bool
    is_return: bool = False


class Trouble(Value, frozen=True):
    """An incident.

    Args:
        began_at: of the first failed request, Unix seconds; `ended_at` when all was shown to be well, None: open.
        versions: that were left for it, or that a person says it is caused by.
        by_guard: guard rolled back; `by_hand`: a person did.
        is_false: a person said that guard was wrong.
        failed: requests that were served badly, None: not counted.
    """

    began_at: float
    ended_at: float | None
    versions: frozenset[str]
    by_guard: bool = False
    by_hand: bool = False
    is_false: bool = False
    failed: int | None = None


class History(Value, frozen=True):
    """What the metrics are computed from; nothing needs to be in an order.

    Args:
        since, until: the window, Unix seconds.
        committed: {version: when its commit was made}, as far as known.
        forward: versions that a roll-forward deployed.
        missed: bad versions that guard watched and did not find.
        drills: runs of drills in the window, which count nowhere.
    """

    environment: str
    since: float
    until: float
    reached: Sequence[Reached]
    troubles: Sequence[Trouble]
    committed: Mapping[str, float] = field(default_factory=dict)
    forward: frozenset[str] = frozenset()
    missed: int = 0
    drills: int = 0


class Metric(Value, frozen=True):
    """One figure.

    Args:
        value: None where nothing tells, or a share of fewer than `ENOUGH`.
        unit: per_day, seconds, share, requests or count.
        n: of what it is computed from.
        count: of a share, how many of n; None for other figures.
        formula: in words.
        excluded: {what was left out: how many}.
    """

    value: float | None
    unit: str
    n: int
    formula: str
    count: int | None = None
    excluded: Mapping[str, int] = field(default_factory=dict)


class Dora(Value, frozen=True):
    """The metrics by name, in order."""

    environment: str
    since: float
    until: float
    metrics: Mapping[str, Metric]


class _Deployment(Value, frozen=True):
    at: float
    version: str
    code: str


def compute_dora(history: History) -> Dora:
    """Return the metrics of a window."""
    deployments, excluded = _count_deployments(history)
    in_window = [each for each in history.troubles if history.since <= each.began_at < history.until]
    metrics = {
        "deployment_frequency": Metric(
            len(deployments) / max(1.0, (history.until - history.since) / _DAY_S),
            "per_day",
            len(deployments),
            "new code that reached all of the traffic, per day of the window",
            excluded=excluded,
        ),
        "lead_time": _measure_lead_time(deployments, history.committed),
        "change_failure_rate": _measure_failures(deployments, history.troubles),
        "recovery_time": _measure_recovery(in_window, history.drills),
        "rework_rate": _measure_rework(deployments, history),
        **_measure_guard(in_window, history),
    }
    return Dora(history.environment, history.since, history.until, metrics)


def _count_deployments(history: History) -> tuple[list[_Deployment], dict[str, int]]:
    """Return the deployments of the window, and what was left out, by why."""
    seen: set[str] = set()
    found: list[_Deployment] = []
    left = dict.fromkeys(("ramp steps", "rollbacks and changes of secrets", "the same code again", "oldest known"), 0)
    for number, each in enumerate(sorted(history.reached, key=lambda each: (each.at, each.version))):
        why = ""
        if number == 0:
            why = "oldest known"  # what was live before it is not known
        elif each.is_return:
            why = "rollbacks and changes of secrets"
        elif not each.is_final:
            why = "ramp steps"
        elif each.code in seen:
            why = "the same code again"
        if each.is_final:
            seen.add(each.code)
        if not history.since <= each.at < history.until:
            continue
        if why:
            left[why] += 1
        else:
            found.append(_Deployment(each.at, each.version, each.code))
    return found, {why: number for why, number in left.items() if number}


def _measure_lead_time(deployments: Sequence[_Deployment], committed: Mapping[str, float]) -> Metric:
    known = [each.at - committed[each.version] for each in deployments if each.version in committed]
    well = [seconds for seconds in known if seconds >= 0]
    left = {"no commit is known": len(deployments) - len(known), "committed after it": len(known) - len(well)}
    formula = "median of commit to all of the traffic"
    return Metric(_find_median(well), "seconds", len(well), formula, excluded=_drop_zeros(left))


def _measure_failures(deployments: Sequence[_Deployment], troubles: Iterable[Trouble]) -> Metric:
    bad = {version for trouble in troubles if not trouble.is_false for version in trouble.versions}
    false = {version for trouble in troubles if trouble.is_false for version in trouble.versions} - bad
    failed = sum(each.version in bad for each in deployments)
    left = {"rolled back by guard, which was wrong": sum(each.version in false for each in deployments)}
    formula = "deployments rolled back, fixed forward, or that a person says caused an incident, of all deployments"
    return _make_share(failed, len(deployments), formula, left)


def _measure_recovery(troubles: Sequence[Trouble], drills: int) -> Metric:
    real = [trouble for trouble in troubles if not trouble.is_false]
    ended = [trouble.ended_at - trouble.began_at for trouble in real if trouble.ended_at is not None]
    left = {
        "open": len(real) - len(ended),
        "guard's false rollbacks": len(troubles) - len(real),
        "drills": drills,
    }
    formula = "median of the first failed request to when all was shown to be well, of each incident"
    return Metric(_find_median(ended), "seconds", len(ended), formula, excluded=_drop_zeros(left))


def _measure_rework(deployments: Sequence[_Deployment], history: History) -> Metric:
    def is_unplanned(each: _Deployment) -> bool:
        during = any(
            not trouble.is_false
            and trouble.began_at < each.at
            and (trouble.ended_at is None or each.at <= trouble.ended_at)
            and each.version not in trouble.versions
            for trouble in history.troubles
        )
        return during or each.version in history.forward

    formula = "deployments by roll-forward or while an incident was open, of all deployments"
    return _make_share(sum(map(is_unplanned, deployments)), len(deployments), formula, {})


def _measure_guard(troubles: Sequence[Trouble], history: History) -> dict[str, Metric]:
    acted = [trouble for trouble in troubles if trouble.by_guard]
    right = [trouble for trouble in acted if not trouble.is_false]
    counted = [trouble.failed for trouble in acted if trouble.failed is not None]
    saved, without = _measure_saved(acted, history.troubles)
    return {
        "guard_precision": _make_share(
            len(right), len(acted), "guard's rollbacks that no person called wrong, of all of guard's", {}
        ),
        "guard_misses": Metric(
            float(history.missed), "count", history.missed, "bad versions that guard watched and did not find"
        ),
        "guard_bad_requests": Metric(
            float(sum(counted)) if counted else None,
            "requests",
            len(counted),
            "requests served badly in the incidents that guard ended, summed",
            excluded=_drop_zeros({"not counted": len(acted) - len(counted)}),
        ),
        "guard_saved": Metric(
            sum(saved) if saved else None,
            "seconds",
            len(saved),
            "median recovery of earlier rollbacks by hand, less guard's own, summed",
            excluded=_drop_zeros({"no earlier rollback by hand, or not ended": without}),
        ),
    }


def _measure_saved(acted: Iterable[Trouble], troubles: Iterable[Trouble]) -> tuple[list[float], int]:
    by_hand = [
        (trouble.ended_at, trouble.ended_at - trouble.began_at)
        for trouble in troubles
        if trouble.by_hand and not trouble.by_guard and trouble.ended_at is not None
    ]
    saved, without = [], 0
    for trouble in acted:
        usual = _find_median([took for ended_at, took in by_hand if ended_at <= trouble.began_at])
        if usual is None or trouble.ended_at is None or trouble.is_false:
            without += 1
        else:
            saved.append(usual - (trouble.ended_at - trouble.began_at))
    return saved, without


def _make_share(count: int, n: int, formula: str, excluded: Mapping[str, int]) -> Metric:
    return Metric(count / n if n >= ENOUGH else None, "share", n, formula, count, _drop_zeros(excluded))


def _find_median(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _drop_zeros(excluded: Mapping[str, int]) -> dict[str, int]:
    return {why: number for why, number in excluded.items() if number}
