"""What is known of an environment when its provider, its journal or both are out of reach; each part by itself.

Nothing here raises: what cannot be read is one sentence in the answer, and keeps nothing else from being read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from backout.analysis.stability import in_force
from backout.errors import BackoutError
from backout.model.deployment import Mark
from backout.model.plan import PlanKind
from backout.report.card import ids_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from backout.model.deployment import VersionMark
    from backout.model.incident import Run
    from backout.model.signals import HealthReport
    from backout.ports import BundleStore, HealthCheck, Marks, Runs

_T = TypeVar("_T")
_RUNS: Final = 10
"""So many of the newest runs are asked what they saw live."""
JOURNAL: Final = "the journal"
READS_LIVE: Final = "read_"
"""Steps that read back which version is live begin so; their result has `version` and `read_at`."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What can be asked without the provider; None: not set up, or not to be had now (`missing` says why).

    Args:
        card: where the card of the environment is written. health_url: what `health` asks.
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


@dataclass(frozen=True, slots=True)
class Known:
    """A version, when that was so (Unix seconds), and who says it."""

    version: str
    at: float
    where: str


@dataclass(frozen=True, slots=True)
class InNeed:
    """What could be found out; `unread`: what could not, one sentence each. `health`: as it answers now."""

    environment: str
    live: Known | None = None
    stable: Known | None = None
    health: HealthReport | None = None
    health_url: str = ""
    card: Path | None = None
    unread: tuple[str, ...] = ()


def look_in_need(sources: Sources) -> InNeed:
    """Ask everything that is left, the health endpoint once."""
    unread = list(sources.missing)
    seen, stable = _of_journal(sources, unread)
    path, card = _of_card(sources, unread)
    if card is not None:
        read_at, live, proven = card
        seen += [Known(live, read_at, "the card")] if live else []
        stable += [Known(proven, read_at, "the card")] if proven else []
    if not seen:
        seen += _of_kept_code(sources, unread)
    return InNeed(
        sources.environment,
        max(seen, key=lambda known: known.at, default=None),
        max(stable, key=lambda known: known.at, default=None),
        _of_health(sources, unread),
        sources.health_url,
        path,
        tuple(dict.fromkeys(unread)),
    )


def _of_journal(sources: Sources, unread: list[str]) -> tuple[list[Known], list[Known]]:
    """Return what runs saw live, and what marks call stable; runs that cannot be read keep no mark from being read."""
    runs, marks = sources.runs, sources.marks
    seen: list[Known] = []
    stable: list[Known] = []
    if runs is not None:
        found = _read(lambda: runs.runs(sources.environment)[:_RUNS], JOURNAL, unread) or ()
        for run in found:
            seen += _read(lambda run=run: list(_seen(runs, run)), JOURNAL, unread) or []  # type: ignore[misc]
    if marks is not None:
        kept = _read(lambda: marks.marks(sources.environment), JOURNAL, unread) or ()
        stable = _stable(kept)
    return seen, stable


def _seen(runs: Runs, run: Run) -> Iterator[Known]:
    for action in (step.action for step in run.plan.steps if step.action.startswith(READS_LIVE)):
        read = runs.result(run.id, action)
        if isinstance(read, dict) and isinstance(read.get("version"), str):
            at = read.get("read_at")
            yield Known(str(read["version"]), float(at) if isinstance(at, int | float) else run.started_at, JOURNAL)
    if run.plan.kind is PlanKind.GUARD:
        watched = next((step.args.get("version") for step in run.plan.steps if step.action == "watch"), None)
        if isinstance(watched, str):
            yield Known(watched, run.started_at, JOURNAL)


def _stable(marks: tuple[VersionMark, ...]) -> list[Known]:
    bad = {mark.version for mark in in_force(marks)}
    return [Known(m.version, m.at, JOURNAL) for m in marks if m.mark is Mark.STABLE and m.version not in bad]


def _of_card(sources: Sources, unread: list[str]) -> tuple[Path | None, tuple[float, str, str] | None]:
    if not _read(sources.card.is_file, "the card", unread):
        return None, None
    text = _read(lambda: sources.card.read_text(encoding="utf-8", errors="replace"), "the card", unread)
    return sources.card.absolute(), ids_on(text) if text is not None else None


def _of_kept_code(sources: Sources, unread: list[str]) -> list[Known]:
    store = sources.kept
    if store is None:
        return []
    found = _read(store.kept, "the kept code", unread) or ()
    return [Known(v.id, v.created_at, "the newest code that is kept here") for v in found[:1]]


def _of_health(sources: Sources, unread: list[str]) -> HealthReport | None:
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
