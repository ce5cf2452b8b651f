"""Whether a journal is the one that deployments' messages speak of: its heads then are events of it now; pure.

The chain of hashes shows a change within it. Whoever may change the tables can write another history as a whole, whose
chain is whole; what he cannot change is which head stood in the messages that the provider keeps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.value import Value
from backout.model.witness import HEAD_DIGITS, JOURNAL_DIGITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backout.model.incident.incident import Event
    from backout.model.witness import Told


class Differing(Value, frozen=True):
    """A deployment that speaks of an event that the journal does not have, or not there; `why` in one sentence."""

    told: Told
    why: str


class Compared(Value, frozen=True):
    """The result of comparing a journal with what stands elsewhere.

    Args:
        confirmed: how many of the messages speak of an event of this journal.
        differing: those that contradict it.
        other: how many speak of another journal, about which this one says nothing.
    """

    confirmed: int = 0
    differing: tuple[Differing, ...] = ()
    other: int = 0


class _Known:
    """What is looked for in the events of a journal."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.journals: set[str] = set()
        self.heads: dict[str, int] = {}
        self.began: dict[str, int] = {}
        for event in events:
            if event.seq == 1:
                self.journals.add(event.hash[:JOURNAL_DIGITS])
            self.heads[event.hash[:HEAD_DIGITS]] = event.seq
            if event.kind == "run.submitted":
                self.began.setdefault(event.run, event.seq)
            self._take_spooled(event)

    def _take_spooled(self, event: Event) -> None:
        """Take what was recorded in a file while the journal's server was away: there it had another hash."""
        spooled = event.data.get("spooled")
        if isinstance(spooled, dict):
            own = str(spooled.get("hash"))
            self.heads.setdefault(own[:HEAD_DIGITS], event.seq)
            if spooled.get("seq") == 1:
                self.journals.add(own[:JOURNAL_DIGITS])


def compare_witnesses(told: Sequence[Told], events: Iterable[Event]) -> Compared:
    """Return how many of the witnesses a journal confirms, which ones contradict it, and how many are not about it.

    Args:
        events: all of the journal, in order; read after the messages were.
    """
    known = _Known(events)
    confirmed, other, differing = 0, 0, []
    for each in told:
        place, began = known.heads.get(each.witness.head), known.began.get(each.run)
        if place is not None and place >= (began or 0):
            confirmed += 1
        elif place is not None:
            why = f"event {place} stood at the journal's head then, and its run begins only with event {began}"
            differing.append(Differing(each, why))
        elif began is not None or each.witness.journal in known.journals:
            what = "no event of this journal has the hash that stood at its head then"
            differing.append(Differing(each, what))
        else:
            other += 1
    return Compared(confirmed, tuple(differing), other)
