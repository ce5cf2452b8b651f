"""The capability matrix: for a person at 80 columns, and as JSON values; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.database.capability import Granularity, Readiness
from backout.model.database.wal import show_lsn
from backout.report.text import format_fields, leave_plain, wrap_text
from backout.report.times import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.database.backups import Protection
    from backout.model.database.capability import Choice, RecoveryWay, ServerFacts, Surroundings, VendorState
    from backout.report.text import Paint

_TONES = {Readiness.READY: "good", Readiness.POSSIBLE: "warn", Readiness.CLOSED: "dim"}

_EXACTNESS = {
    Granularity.LSN: "to an exact commit (LSN)",
    Granularity.MICROSECOND: "to a microsecond",
    Granularity.SECOND: "to a second",
    Granularity.SNAPSHOT: "to the moment of a copy",
}


def make_record(around: Surroundings, choice: Choice) -> dict[str, object]:
    """Return the payload of `backout.db-check/1`."""
    use, vendor = around.connections, around.vendor
    return {
        "environment": around.environment,
        "path": choice.path,
        "why": choice.why,
        "reachable": around.facts is not None,
        "problem": around.problem or None,
        "server": _make_server_record(around.facts) if around.facts else None,
        "connections": None
        if use is None
        else {"used": use.used, "limit": use.limit, "scope": use.scope, "waiting": use.waiting},
        "tools": {"version": around.tools.version or None, "tls": around.tools.has_tls},
        "vendor": None if vendor is None else _make_vendor_record(vendor),
        "ways": [_make_way_record(way) for way in choice.ways],
        "warnings": list(choice.warnings),
        "protection": None if around.protection is None else make_protection_record(around.protection),
        "alarm": around.alarm or None,
    }


def make_protection_record(found: Protection) -> dict[str, object]:
    """Return whether the database is protected as JSON values."""
    reaches = None if found.reaches_lsn is None else show_lsn(found.reaches_lsn)
    return {
        "protected": found.protected,
        "why": found.why,
        "base": found.base or None,
        "reaches_lsn": reaches,
        "reaches_at": _format_time(found.reaches_at),
        "behind_bytes": found.behind_bytes,
        "proved_at": _format_time(found.proved_at),
        "alarm": found.alarm or None,
    }


def _make_server_record(facts: ServerFacts) -> dict[str, object]:
    archiver = facts.archiver
    return {
        "user": facts.user,
        "database": facts.database,
        "version": facts.server_version,
        "tls": facts.tls or None,
        "tls_verified": facts.tls_verified,
        "in_recovery": facts.in_recovery,
        "system_identifier": facts.system_identifier,
        "size_bytes": facts.size_bytes,
        "pooler": {"name": facts.pooler.name, "transactions": facts.pooler.transactions, "why": facts.pooler.why}
        if facts.pooler.name
        else None,
        "replication": {"granted": facts.replication.granted, "why": facts.replication.why or None},
        "privileges": dict(facts.privileges),
        "settings": dict(facts.settings),
        "extensions": None if facts.extensions is None else dict(facts.extensions),
        "archiver": None
        if archiver is None
        else {
            "archived": archiver.archived,
            "failed": archiver.failed,
            "last_archived": archiver.last_archived or None,
            "last_archived_at": _format_time(archiver.last_archived_at),
            "last_failed": archiver.last_failed or None,
            "last_failed_at": _format_time(archiver.last_failed_at),
        },
        "slots": None
        if facts.slots is None
        else [
            {
                "name": slot.name,
                "kind": slot.kind,
                "active": slot.active,
                "retained_bytes": slot.retained_bytes,
                "wal_status": slot.wal_status or None,
            }
            for slot in facts.slots
        ],
        "unreadable": [{"what": what, "why": why} for what, why in facts.unreadable],
    }


def _make_vendor_record(vendor: VendorState) -> dict[str, object]:
    return {
        "name": vendor.vendor,
        "answers": vendor.answers,
        "problem": vendor.problem or None,
        "notes": list(vendor.notes),
    }


def _make_way_record(way: RecoveryWay) -> dict[str, object]:
    return {
        "name": way.name,
        "path": way.path,
        "readiness": way.readiness,
        "granularity": way.granularity,
        "in_place": way.in_place,
        "keeps_old": way.keeps_old,
        "earliest": _format_time(way.earliest),
        "latest": _format_time(way.latest),
        "lacks": [{"what": lack.what, "line": lack.line or None} for lack in way.lacks],
        "note": way.note or None,
    }


def _format_time(at: float | None) -> str | None:
    return None if at is None else format_time(at)


def format_text(around: Surroundings, choice: Choice, *, width: int = 80, paint: Paint = leave_plain) -> str:
    """Return the matrix: what was chosen and why, the ways, what is known of the server, warnings."""
    path = f"path: {choice.path}" if choice.path else "path: none"
    lines = [
        paint("strong", f"What can be recovered on {around.environment}"),
        *wrap_text(f"{path}, because {choice.why}.", width),
    ]
    if around.protection is not None:
        good = around.protection.protected
        said = f"protected: {around.protection.claim}" if good else f"UNPROTECTED: {around.protection.why}"
        lines += [paint("good" if good else "bad", line) for line in wrap_text(said, width)]
        proved = around.protection.proved_at
        last = f"restored as a proof last at {_format_time(proved)}" if proved else "never restored as a proof"
        lines += wrap_text(last, width) if not around.alarm else []
    lines += wrap_text(f"! {around.alarm}", width) if around.alarm else []
    for way in choice.ways:
        lines += ["", *_format_way(way, width, paint)]
    lines += ["", paint("strong", "The database"), *format_fields(_list_facts(around), width, paint=paint)]
    if around.facts is not None and around.facts.unreadable:
        rows = [(what, f"not readable: {why}") for what, why in around.facts.unreadable]
        lines += format_fields(rows, width, paint=paint)
    if around.vendor is not None:
        vendor = around.vendor
        lines += format_fields([(vendor.vendor, "answers" if vendor.answers else vendor.problem)], width, paint=paint)
        lines += format_fields([("", vendor.problem)], width) if vendor.answers and vendor.problem else []
    for warning in choice.warnings:
        lines += ["", *wrap_text(f"! {warning}", width, hanging="  ")]
    return "\n".join(lines)


def _format_way(way: RecoveryWay, width: int, paint: Paint) -> list[str]:
    place = "in place" if way.in_place else "a new one beside it"
    kept = "keeps the old state" if way.keeps_old else "the old state is gone"
    head = f"{way.name}: {way.readiness}"
    lines = [paint(_TONES[way.readiness], head)]
    lines += wrap_text(f"{way.path} path; {_EXACTNESS[way.granularity]}, {place}, {kept}", width, indent="  ")
    if way.latest is not None:
        reach = (
            f"from {_format_time(way.earliest)} to {_format_time(way.latest)}"
            if way.earliest
            else f"to {_format_time(way.latest)}"
        )
        lines += wrap_text(reach, width, indent="  ")
    if way.note:
        lines += wrap_text(way.note, width, indent="  ")
    for lack in way.lacks:
        lines += wrap_text(f"lacks: {lack.what}", width, indent="  ", hanging="    ")
        lines += [f"    {lack.line}"] if lack.line else []
    return lines


def _list_facts(around: Surroundings) -> list[tuple[str, str]]:
    facts, tools = around.facts, around.tools
    rows = [("programs", f"{tools.version}, {'with' if tools.has_tls else 'without'} TLS" if tools.version else "none")]
    if facts is None:
        return [("reachable", f"no: {around.problem}"), *rows]
    version = f"{facts.server_version // 10_000}.{facts.server_version % 10_000}"
    verified = "verified" if facts.tls_verified else "not verified"
    rows = [
        ("reachable", f"as {facts.user}, database {facts.database}, version {version}"),
        ("TLS", f"{facts.tls}, {verified}" if facts.tls else "no"),
        ("pooler", f"{facts.pooler.name} ({facts.pooler.why})" if facts.pooler.name else "none noticed"),
        ("replication", _describe_replication(facts)),
        *rows,
        ("may", ", ".join(name for name, has in facts.privileges.items() if has) or "nothing special"),
    ]
    if around.connections is not None:
        rows.append(("connections", f"{around.connections.used} of {around.connections.limit}"))
    if facts.size_bytes is not None:
        rows.append(("size", f"{facts.size_bytes / 1024**2:,.0f} MB"))
    rows += [(name, value or "(empty)") for name, value in facts.settings.items()]
    if facts.extensions is not None:
        rows.append(("extensions", _describe_extensions(facts.extensions)))
    if facts.archiver is not None:
        rows.append(("archiver", f"{facts.archiver.archived} archived, {facts.archiver.failed} failed"))
    for slot in facts.slots or ():
        held = "" if slot.retained_bytes is None else f", holds {slot.retained_bytes / 1024**2:,.0f} MB of WAL"
        rows.append((f"slot {slot.name}", f"{slot.kind}, {'active' if slot.active else 'not read'}{held}"))
    return rows


def _describe_replication(facts: ServerFacts) -> str:
    if facts.replication.granted is None:
        return f"could not be tried: {facts.replication.why}"
    return "granted" if facts.replication.granted else f"refused: {facts.replication.why}"


def _describe_extensions(found: Mapping[str, str]) -> str:
    parts = (f"{name} {version}" if version else f"{name} (can be installed)" for name, version in found.items())
    return ", ".join(parts) or "none of those that help"
