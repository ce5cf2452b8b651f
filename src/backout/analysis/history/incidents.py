"""From runs and what people wrote to incidents: which run belongs to which, and where each stands; pure.

A regressed watch, or a repair that changed something, opens one. While one is open, later trouble and repairs belong to
it; a run that another one led to belongs where that does. A repair that was shown to be well, or a later watch that
ended healthy, resolves it; one that a person opened is resolved by a person.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.model.incident import record
from backout.model.incident.record import ActionItem, IncidentRecord, Remark, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backout.model.incident.incident import Event

CRITICAL_FROM: Final = 0.25
"""The share of failed requests from which an incident in a protected environment is critical."""


def choose_severity(found: IncidentRecord, *, protected: bool, critical_from: float = CRITICAL_FROM) -> Severity:
    """Return a person's word, or what the policy says.

    Args:
        protected: of the environment.
        critical_from: see `CRITICAL_FROM`.
    """
    if found.severity is not None:
        return found.severity
    if not protected:
        return Severity.MINOR
    is_critical = found.is_grave or (found.share is not None and found.share >= critical_from)
    return Severity.CRITICAL if is_critical else Severity.MAJOR


def trace_incidents(
    environment: str, facts: Iterable[record.RunFacts], events: Iterable[Event]
) -> tuple[IncidentRecord, ...]:
    """Return the incidents of an environment, oldest first; runs and events may come in any order."""
    ledger = _Ledger(environment)
    for moment in _order(facts, events):
        ledger.take(moment)
    return tuple(ledger.found)


class _Began:
    """A run begins to matter; `_Well`: it was shown that all is well."""

    def __init__(self, fact: record.RunFacts) -> None:
        self.fact = fact


class _Well(_Began):
    pass


def _order(facts: Iterable[record.RunFacts], events: Iterable[Event]) -> Sequence[_Began | Event]:
    moments: list[tuple[float, int, str, _Began | Event]] = []
    for fact in facts:
        if fact.began_at is not None:
            moments.append((fact.began_at, 0, fact.run, _Began(fact)))
        if fact.well_at is not None:
            moments.append((fact.well_at, 1, fact.run, _Well(fact)))
    moments += [(event.at, 2, f"{event.seq:012d}", event) for event in events if event.kind in record.KINDS]
    return [moment for *_, moment in sorted(moments, key=lambda each: each[:3])]


class _Ledger:
    def __init__(self, environment: str) -> None:
        self._environment = environment
        self.found: list[IncidentRecord] = []

    def take(self, moment: _Began | Event) -> None:
        if isinstance(moment, _Well):
            self._end(moment.fact)
        elif isinstance(moment, _Began):
            self._begin(moment.fact)
        else:
            self._hear(moment)

    def _begin(self, fact: record.RunFacts) -> None:
        own = next((at for at, each in enumerate(self.found) if set(fact.chain) & set(each.runs)), None)
        at = own if own is not None else self._find_open()
        if at is not None:
            known = self.found[at]
            new = tuple(run for run in fact.chain if run not in known.runs)
            self.found[at] = replace(known, runs=known.runs + new, **_worsen(known, fact))
        elif fact.opens and fact.began_at is not None:
            made = IncidentRecord(fact.chain[0], self._environment, fact.began_at, fact.by, runs=fact.chain)
            self.found.append(replace(made, is_grave=fact.is_grave, share=fact.share, is_of_data=fact.is_of_data))

    def _find_open(self) -> int | None:
        open_ones = (at for at in reversed(range(len(self.found))) if self.found[at].resolved_at is None)
        return next(open_ones, None)

    def _end(self, fact: record.RunFacts) -> None:
        for at, each in enumerate(self.found):
            is_over = fact.ends_all and fact.started_at >= each.opened_at and not each.is_of_data
            is_meant = is_over or fact.run in each.runs
            if is_meant and each.resolved_at is None and not each.by_person:
                self.found[at] = replace(each, resolved_at=fact.well_at, resolved_by=fact.by)

    def _hear(self, event: Event) -> None:
        data = {name: str(event.data.get(name) or "") for name in ("id", "text", "title", "severity", "url", "version")}
        if event.kind == record.OPENED:
            severity = Severity(data["severity"]) if data["severity"] in list(Severity) else None
            opened = IncidentRecord(data["id"], self._environment, event.at, event.actor, data["title"], severity)
            self.found.append(replace(opened, by_person=True, blamed=data["version"]))
            return
        at = next((at for at, each in enumerate(self.found) if each.id == data["id"]), None)
        if at is None:
            return  # about an incident of which this journal has no run
        known = self.found[at]
        if event.kind == record.ACTION:
            self.found[at] = replace(known, actions=(*known.actions, _read_action(event)))
            return
        if event.kind == record.FILED:
            number = event.data.get("action")
            filed = tuple(replace(a, url=data["url"]) if a.number == number else a for a in known.actions)
            self.found[at] = replace(known, actions=filed)
            return
        known = replace(known, remarks=(*known.remarks, Remark(event.at, event.kind, data["text"], event.actor)))
        if event.kind == record.ACKNOWLEDGED and known.acknowledged_at is None:
            known = replace(known, acknowledged_at=event.at, acknowledged_by=event.actor)
        if event.kind == record.RESOLVED and known.resolved_at is None:
            known = replace(known, resolved_at=event.at, resolved_by=event.actor)
        self.found[at] = known


def _worsen(known: IncidentRecord, fact: record.RunFacts) -> dict[str, bool | float | None]:
    shares = [share for share in (known.share, fact.share) if share is not None]
    return {
        "is_grave": known.is_grave or fact.is_grave,
        "is_of_data": known.is_of_data or fact.is_of_data,
        "share": max(shares, default=None),
    }


def _read_action(event: Event) -> ActionItem:
    number = event.data.get("action")
    names = ("text", "kind", "owner", "due", "nonce")
    text, kind, owner, due, nonce = (str(event.data.get(name) or "") for name in names)
    number = number if isinstance(number, int) else 0
    return ActionItem(number, event.at, text, kind, owner, due, by=event.actor, nonce=nonce)
