"""Everything that is known of an incident, and what people do with one: open, note, acknowledge, resolve."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from backout.analysis.history.incidents import CRITICAL_FROM, choose_severity
from backout.errors import BackoutError, UsageError
from backout.model.clock import to_utc
from backout.model.incident import record
from backout.model.incident.case import Case
from backout.model.incident.incident import TimelineEntry
from backout.model.incident.notice import Notice, NoticeKind, QueueState
from backout.model.incident.record import IncidentRecord, Origin, Severity, Told
from backout.model.value import Value
from backout.runbook.incident.impact import read_impact
from backout.runbook.incident.records import list_incidents, tell_incident

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.incident.contact import Help
    from backout.model.incident.incident import Incident
    from backout.model.incident.notice import QueuedNotice
    from backout.model.plan import Json
    from backout.ports import Checkpoints, Clock, CountsStore, Journal, Notifier, Reports, Runs, Traffic, VendorStatus

_SAID: Final = {
    record.NOTED: "{text}",
    record.UPDATED: "Told customers: {text}",
    record.ACKNOWLEDGED: "Acknowledged",
    record.RESOLVED: "Resolved",
}
MOST: Final = 280
_NONCE_BYTES: Final = 8
"""Characters of a sentence for customers."""
PICTURE: Final = ".svg"


def _list_nothing() -> tuple[QueuedNotice, ...]:
    return ()


class IncidentRecords(Value, frozen=True):
    """What incidents are kept and read with; nothing of it asks the platform.

    Args:
        protected: of the environment; `critical_from`: see `analysis.history.incidents`.
        list_queued: returns the notices about the environment, newest first; raises BackoutError.
        notifier: None without a channel.
        vendors: status pages, None without any.
        helps: who helps with which subject.
        commit_url: of a commit's page, with `{}` for its hash, "" unknown.
        redact: removes every secret known here from a text.
        open_traffic: opens the source of counts where it needs no token of the platform, for what no run has counted;
            returns None for none; raises BackoutError.
    """

    environment: str
    actor: str
    clock: Clock
    journal: Journal
    runs: Runs
    counts: CountsStore
    checkpoints: Checkpoints
    reports: Reports
    protected: bool = True
    critical_from: float = CRITICAL_FROM
    list_queued: Callable[[], tuple[QueuedNotice, ...]] = _list_nothing
    notifier: Notifier | None = None
    vendors: VendorStatus | None = None
    helps: tuple[Help, ...] = ()
    commit_url: str = ""
    redact: Callable[[str], str] = str
    open_traffic: Callable[[], Traffic | None] = lambda: None

    def list_records(self) -> tuple[IncidentRecord, ...]:
        """Return the incidents, newest first. Raises BackoutError: the journal cannot be read."""
        return list_incidents(self.journal, self.runs, self.environment)


def read_case(records: IncidentRecords, found: IncidentRecord) -> Case:
    """Return everything that is known of an incident."""
    incident = tell_incident(records.journal, records.runs, found)
    tools = (records.journal, records.runs, records.counts, records.checkpoints)
    report = next((path for name in (found.id, *found.runs) if (path := records.reports.of_run(name))), None)
    picture = report.with_suffix(PICTURE) if report is not None else None
    return Case(
        record=found,
        severity=choose_severity(found, protected=records.protected, critical_from=records.critical_from),
        title=found.title or (incident.title if incident is not None else "incident"),
        incident=incident,
        impact=read_impact(*tools, found, incident, records.clock.now()),
        timeline=tuple(sorted(list_lines(found, incident), key=lambda line: line.at)),
        told=_list_told(records, found),
        report=str(report or ""),
        picture=str(picture) if picture is not None and picture.exists() else "",
    )


def open_incident(records: IncidentRecords, title: str, severity: Severity | None, blamed: str = "") -> str:
    """Record that a person opened an incident, tell the channels, and return its id.

    Args:
        blamed: the version that caused it, "" for none.
    """
    name = f"incident-{to_utc(records.clock.now()).strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    data: dict[str, Json] = {"id": name, "title": title, "severity": str(severity or ""), "version": blamed}
    records.journal.note(records.environment, record.OPENED, name, data, actor=records.actor)
    _tell(records, name, "open", f"incident: {title}", f"{records.actor} opened incident {name}: {title}.")
    return name


def add_remark(records: IncidentRecords, found: IncidentRecord, kind: str, text: str, *, key: str = "") -> None:
    """Record what a person says of an incident; `kind` is one of `model.incident.record`'s.

    Args:
        key: chosen by whoever says it, so that saying it twice is saying it once; "": each time counts.

    Raises:
        UsageError: a sentence for customers that is too long.
    """
    if kind == record.UPDATED and len(text) > MOST:
        what = f"an update is one sentence of at most {MOST} characters; this has {len(text)}"
        raise UsageError(what, where="-m", hint="backout incident update -m SENTENCE")
    once = kind in (record.ACKNOWLEDGED, record.RESOLVED)
    key = f"{found.id}:{records.actor}" if once else f"{found.id}:{key or secrets.token_hex(8)}"
    data: dict[str, Json] = {"id": found.id, "text": text}
    records.journal.note(records.environment, kind, key, data, actor=records.actor)
    what = f": {text}" if text else ""
    if kind == record.UPDATED:
        _tell(records, found.id, key, text, text, NoticeKind.UPDATE)
    elif once:
        state = kind.removeprefix("incident.")
        _tell(records, found.id, state, f"incident {state}", f"{records.actor} {state} incident {found.id}{what}.")


def add_action(records: IncidentRecords, found: IncidentRecord, text: str, kind: str, owner: str, due: str) -> int:
    """Record an action item and return its number."""
    number = len(found.actions) + 1
    data: dict[str, Json] = {"id": found.id, "action": number, "text": text, "kind": kind, "owner": owner, "due": due}
    data["nonce"] = secrets.token_hex(_NONCE_BYTES)
    while (
        records.journal.note(records.environment, record.ACTION, f"{found.id}:{number}", data, actor=records.actor)
        is None
    ):
        number += 1
        data["action"] = number
    return number


def _tell(
    records: IncidentRecords, name: str, state: str, title: str, text: str, kind: NoticeKind = NoticeKind.INCIDENT
) -> None:
    if records.notifier is None:
        return
    records.notifier.tell(
        Notice(
            kind=kind,
            environment=records.environment,
            at=records.clock.now(),
            title=f"{records.environment}: {title}",
            text=text,
            key=f"{records.environment}:{kind}:{name}:{state}",
            next=() if kind is NoticeKind.UPDATE else (f"backout incident show {name} -e {records.environment}",),
            facts={"incident": name} if kind is NoticeKind.UPDATE else {"incident": name, "state": state},
        )
    )


def list_lines(found: IncidentRecord, incident: Incident | None) -> list[TimelineEntry]:
    """Return the lines of the timeline, in no order: the journal's, and what people wrote."""
    lines = list(incident.timeline) if incident is not None else []
    if found.by_person:
        lines.append(TimelineEntry(found.opened_at, f"Incident opened: {found.title}", found.opened_by, Origin.PERSON))
    for remark in found.remarks:
        said = _SAID[remark.kind]
        text = said.format(text=remark.text) if "{text}" in said else f"{said}: {remark.text}" if remark.text else said
        lines.append(TimelineEntry(remark.at, text, remark.by, Origin.PERSON))
    for action in found.actions:
        text = f"Action item {action.number} ({action.kind}): {action.text}"
        lines.append(TimelineEntry(action.at, text, action.by, Origin.PERSON))
    return lines


def _list_told(records: IncidentRecords, found: IncidentRecord) -> tuple[Told, ...]:
    """Return the notices that arrived, each with when a person first acknowledged after it; none if not known."""
    try:
        queued = records.list_queued()
    except BackoutError:
        return ()
    acknowledged = sorted(each.at for each in found.remarks if each.kind == record.ACKNOWLEDGED)
    told = [
        Told(
            each.at,
            each.channel,
            each.notice.title,
            next((at for at in acknowledged if at >= each.at), None),
        )
        for each in queued
        if each.state is QueueState.DELIVERED
        and (each.notice.run in found.runs or each.notice.facts.get("incident") == found.id)
    ]
    return tuple(sorted(told, key=lambda each: (each.at, each.channel)))
