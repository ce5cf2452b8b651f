"""What is known about an environment when its provider, its journal or both are out of reach; each part by itself.

Nothing here raises: a part that cannot be read becomes one sentence in the answer, and the others are still read.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from backout.analysis.history.going_back import Remembered, find_doubted, find_last_stable, list_ways_back
from backout.analysis.history.remarks import merge_marks
from backout.errors import BackoutError
from backout.model.plan import PlanKind
from backout.model.value import Value
from backout.report.incident.card_facts import read_facts
from backout.runbook.probing.failed_proofs import read_failed_proofs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from backout.analysis.history.going_back import WayBack
    from backout.model.guard.signals import HealthReport
    from backout.model.incident.card import CardFacts
    from backout.model.incident.incident import Run
    from backout.model.situation import FailedProof
    from backout.model.version import VersionMark
    from backout.ports import BundleStore, HealthCheck, Journal, Marks, Runs

_T = TypeVar("_T")
_RUNS: Final = 10
"""How many of the newest runs are asked what they saw live."""
JOURNAL: Final = "the journal"
HEALTH: Final = "the health endpoint"
READS_LIVE: Final = "read_"
"""Steps that read back which version is live begin like this; their result has `version` and `read_at`."""


class Sources(Value, frozen=True):
    """What can be asked without the provider; None: not set up, or not available now (`missing` says why).

    Args:
        card: where the card of the environment is written.
        card_doubt: why what is there is not taken for a card of ours; "" if it is.
        health_url: what `health` asks.
        missing: one sentence for each part that could not even be opened.
    """

    environment: str
    runs: Runs | None
    marks: Marks | None
    card: Path
    kept: BundleStore | None = None
    health: HealthCheck | None = None
    health_url: str = ""
    missing: tuple[str, ...] = ()
    journal: Journal | None = None
    card_doubt: str = ""


class Known(Value, frozen=True):
    """A version, when that was so (Unix seconds), and the source."""

    version: str
    at: float
    where: str


class InNeed(Value, frozen=True):
    """What was found out; `unread`: what could not be, one sentence each. `health`: as it answers now.

    Args:
        ways: where to go back to by hand, the best first.
        no_way: why the card knows of none, "" otherwise.
        doubted: if there is none: versions that were stable and are in doubt since, see `going_back.doubted`.
    """

    environment: str
    live: Known | None = None
    stable: Known | None = None
    health: HealthReport | None = None
    health_url: str = ""
    card: Path | None = None
    unread: tuple[str, ...] = ()
    ways: tuple[WayBack, ...] = ()
    no_way: str = ""
    doubted: WayBack | None = None


def look_in_need(sources: Sources) -> InNeed:
    """Ask all that is left, the health endpoint once."""
    unread = list(sources.missing)
    seen, marks, failed = _read_journal(sources, unread)
    path, card = _read_card(sources, unread)
    where = JOURNAL
    if card is not None:
        seen += [Known(card.live[0], card.read_at, "the card")] if card.live else []
        if marks is None:
            marks, failed, where = card.marks, card.failed_proofs, "the card"
    health = _read_health(sources, unread)
    told = _find_version(health)
    seen = [told] if told is not None else seen
    if not seen:
        seen += _read_kept_code(sources, unread)
    live = max(seen, key=lambda known: known.at, default=None)
    proven = find_last_stable(marks or (), failed)
    stable = Known(proven.version, proven.at, where) if proven is not None else None
    if stable is None and card is not None and card.stable:
        stable = Known(card.stable, card.read_at, "the card")
    known = Remembered(card, marks or (), failed, live.version if live else "", is_sure=told is not None)
    ways = list_ways_back(known)
    return InNeed(
        sources.environment,
        live,
        stable,
        health,
        sources.health_url,
        path,
        tuple(dict.fromkeys(unread)),
        ways,
        card.why if card is not None and live is not None and live.version in card.live and not card.target else "",
        None if ways else find_doubted(known),
    )


def _find_version(health: HealthReport | None) -> Known | None:
    """Return the version that the health endpoint names as its own, None if it names none."""
    if health is None or not health.version:
        return None
    return Known(health.version, health.at, HEALTH)


def _read_journal(
    sources: Sources, unread: list[str]
) -> tuple[list[Known], tuple[VersionMark, ...] | None, Mapping[str, FailedProof]]:
    """Return what runs saw live, the marks (None: they cannot be read), and the failed proofs; each by itself."""
    runs, marks, journal = sources.runs, sources.marks, sources.journal
    seen: list[Known] = []
    failed: Mapping[str, FailedProof] = {}
    if runs is not None:
        found = _read(lambda: tuple(islice(runs.walk_runs(sources.environment), _RUNS)), JOURNAL, unread) or ()
        for run in found:
            seen += _read(lambda run=run: list(_list_seen(runs, run)), JOURNAL, unread) or []  # type: ignore[misc]
    kept = (
        _read(lambda: merge_marks(marks.marks(sources.environment), ()), JOURNAL, unread) if marks is not None else None
    )
    if journal is not None:
        failed = _read(lambda: read_failed_proofs(journal, sources.environment), JOURNAL, unread) or {}
    return seen, kept, failed


def _list_seen(runs: Runs, run: Run) -> Iterator[Known]:
    for action in (step.action for step in run.plan.steps if step.action.startswith(READS_LIVE)):
        read = runs.result(run.id, action)
        if isinstance(read, dict) and isinstance(read.get("version"), str):
            at = read.get("read_at")
            yield Known(str(read["version"]), float(at) if isinstance(at, int | float) else run.started_at, JOURNAL)
    if run.plan.kind is PlanKind.GUARD:
        watched = next((step.args.get("version") for step in run.plan.steps if step.action == "watch"), None)
        if isinstance(watched, str):
            yield Known(watched, run.started_at, JOURNAL)


def _read_card(sources: Sources, unread: list[str]) -> tuple[Path | None, CardFacts | None]:
    if sources.card_doubt and os.path.lexists(sources.card):
        unread.append(sources.card_doubt)
        return None, None
    if not _read(sources.card.is_file, "the card", unread):
        return None, None
    text = _read(lambda: sources.card.read_text(encoding="utf-8", errors="replace"), "the card", unread)
    return sources.card.absolute(), read_facts(text) if text is not None else None


def _read_kept_code(sources: Sources, unread: list[str]) -> list[Known]:
    store = sources.kept
    if store is None:
        return []
    found = _read(store.list_versions, "the kept code", unread) or ()
    return [Known(v.id, v.created_at, "the newest code that is kept here") for v in found[:1]]


def _read_health(sources: Sources, unread: list[str]) -> HealthReport | None:
    return _read(sources.health.look, "the health endpoint", unread) if sources.health is not None else None


def _read(ask: Callable[[], _T], what: str, unread: list[str]) -> _T | None:
    """Return what is answered; None where it is not, with a sentence."""
    try:
        return ask()
    except BackoutError as error:
        unread.append(f"{what} could not be read: {error.what}")
    except Exception as error:  # noqa: BLE001 - see the top
        unread.append(f"{what} could not be read ({type(error).__name__})")
    return None
