"""The journal's ports when no journal can be used: nothing can be recorded, and little is remembered.

The card was written when all was well, and keeps the marks: the provider lists only its newest deployments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from backout.errors import BackoutError
from backout.model.incident.card import CardFacts
from backout.model.incident.incident import Event
from backout.report.incident.card_facts import read_facts
from backout.runbook.probing.failed_proofs import KIND
from backout.runbook.toolbox import Late

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from backout.model.guard.signals import Counts
    from backout.model.incident.incident import Run
    from backout.model.plan import Json
    from backout.model.version import Mark, VersionMark
    from backout.runbook.toolbox import Toolbox


class NoJournal:
    """Ports Journal, Runs, Marks, CountsStore and Checkpoints: reads find nothing, writes raise `why`.

    Args:
        why: what is wrong with the journal.
        card: the facts on the last card; its marks and failed proofs are known.
    """

    def __init__(self, why: BackoutError, card: CardFacts = CardFacts()) -> None:  # noqa: B008 - it is frozen
        self._why = why
        self._card = card

    def _refuse(self, *_args: Any, **_named: Any) -> Any:
        raise self._why

    submit = drive = note = ask = check_approvable = mark = keep = prune = save_checkpoint = _refuse

    def events(self, *, kind: str | None = None, **_filters: object) -> Iterator[Event]:
        """Yield the failed proofs of the card if those are asked for, else nothing."""
        for version, proof in self._card.failed_proofs.items() if kind == KIND else ():
            yield Event(0, proof.at, "", "", None, KIND, {"version": version, "why": proof.why})

    def read_witness(self) -> None:
        """Return None."""

    def runs(self, environment: str | None = None) -> tuple[Run, ...]:
        """Return none."""
        return ()

    def walk_runs(self, environment: str | None = None) -> Iterator[Run]:
        """Yield none."""
        return iter(())

    def walk_history(self, environment: str | None = None) -> Iterator[tuple[Run, Mapping[str, Json]]]:
        """Yield none."""
        return iter(())

    def find(self, run: str) -> Run | None:
        """Return None."""
        return None

    def result(self, run: str, action: str) -> Json:
        """Return None."""
        return None

    def marks(self, environment: str) -> tuple[VersionMark, ...]:
        """Return those of the card."""
        return self._card.marks

    def find_mark(self, environment: str, version: str, mark: Mark) -> VersionMark | None:
        """Return the latest such mark of the card."""
        found = (each for each in reversed(self._card.marks) if each.mark is mark and each.version == version)
        return next(found, None)

    def load_counts(self, environment: str, since: int, until: int) -> tuple[Counts, ...]:
        """Return none."""
        return ()

    def load_checkpoint(self, run: str, name: str) -> Json:
        """Return None."""
        return None


class SpooledJournal:
    """A journal of its own for the time in which the shared one is away: what it lacks is taken from the last card.

    Args:
        book: has all ports of a journal.
        card: the facts on the last card; its marks and failed proofs are known.
    """

    def __init__(self, book: Any, card: CardFacts) -> None:
        self._book = book
        self._remembered = NoJournal(BackoutError("only read"), card)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._book, name)

    def events(self, *, kind: str | None = None, **filters: Any) -> Iterator[Event]:
        """Yield the failed proofs of the card if those are asked for, then what is recorded."""
        yield from self._remembered.events(kind=kind)
        yield from self._book.events(kind=kind, **filters)

    def marks(self, environment: str) -> tuple[VersionMark, ...]:
        """Return those of the card, then those that are recorded."""
        found: tuple[VersionMark, ...] = self._book.marks(environment)
        return (*self._remembered.marks(environment), *found)

    def find_mark(self, environment: str, version: str, mark: Mark) -> VersionMark | None:
        """Return the latest such mark."""
        found = (each for each in reversed(self.marks(environment)) if each.mark is mark and each.version == version)
        return next(found, None)


def replace_journal(tools: Toolbox, why: BackoutError) -> Toolbox:
    """Return the ports with the facts from the provider and the last card, for when the journal cannot be read."""
    cards = tools.incident.cards
    none = NoJournal(why, read_last_card(cards.path() if cards is not None else None))
    return replace(
        tools,
        journal=none,
        runs=none,
        marks=none,
        counts=none,
        checkpoints=none,
        parts=replace(tools.parts, rollback=Late(lambda: replace(tools.rollback, triggers=None))),
    )


def read_last_card(path: Path | None) -> CardFacts:
    """Return the facts on the card that was written last; never raises."""
    if path is None:
        return CardFacts()
    try:
        return read_facts(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return CardFacts()


def replace_unread_journal(tools: Toolbox) -> Toolbox:
    """Return the ports as they are if the journal can be read, else with the facts from the provider and the card."""
    try:
        tools.runs.runs(tools.environment)
        tools.marks.marks(tools.environment)
    except BackoutError as error:
        return replace_journal(tools, error)
    return tools
