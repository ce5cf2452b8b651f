"""A diagnosis for a person, for a report, and as a record; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.analysis.detector.wording import format_percent
from backout.report.text import format_fields, leave_plain, wrap_text
from backout.report.times import format_clock, format_duration, format_time

if TYPE_CHECKING:
    from backout.model.incident.diagnosis import Diagnosis, Quote
    from backout.report.text import Paint

ADVICE: Final = {
    "code_ok": "a rollback of the code helps",
    "blocked": "not of the code alone: the schema comes first",
    "useless": "does not help: the version before meets it as well",
    "not_needed": "not needed",
}
"""What a rollback of the code does about it."""
_VALUE: Final = "not what it takes: a value is missing or wrong, and setting it needs no rollback"
"""The same where only a value is missing: a version that does not need it, or has it, would help as well."""
SCENARIOS: Final = {
    "S0_no_action": "S0, nothing to do",
    "S1_health_check": "S1, a service fails",
    "S2_build_failure": "S2, the build failed",
    "S3_runtime_errors": "S3, runtime errors",
    "S4_migration": "S4, migration trouble",
    "S5_env_vars": "S5, environment and secrets",
}
"""The scenarios in words."""
_ROLES = {"S0_no_action": "good"}
_ID = 8


def make_record(found: Diagnosis) -> dict[str, object]:
    """Return the payload of `backout.diagnosis/1`."""
    return {
        "scenario": found.scenario,
        "cause": found.cause,
        "title": found.title,
        "confidence": round(found.confidence, 4),
        "service": found.service,
        "criticality": found.criticality,
        "is_new": found.is_new,
        "novelty": found.novelty or None,
        "first_seen": _format_time(found.first_seen),
        "deployed_at": _format_time(found.deployed_at),
        "share": None if found.share is None else round(found.share, 6),
        "names": list(found.names),
        "evidence": [_make_quote_record(quote) for quote in found.evidence],
        "alternatives": [{"cause": each.cause, "probability": each.probability} for each in found.alternatives],
        "rollback": found.rollback,
        "next": list(found.next),
        "confirm": found.confirm or None,
        "counts": {
            version: {"invocations": invocations, "errors": errors}
            for version, (invocations, errors) in found.counts.items()
        },
        "unreadable": dict(found.unreadable),
        "new_templates": [_make_quote_record(quote) for quote in found.fresh],
        "clean": list(found.clean),
        "notes": list(found.notes),
    }


def format_text(found: Diagnosis, *, width: int = 80, paint: Paint = leave_plain) -> str:
    """Return the answer for a terminal: what it is, the lines that prove it, what else it may be, what limits it."""
    head = SCENARIOS[found.scenario] if found.scenario else "unknown scenario"
    role = _ROLES.get(found.scenario or "", "bad" if found.is_known else "warn")
    lines = wrap_text(f"{paint(role, head)}: {found.title}" if found.title else paint(role, head), width)
    lines.append("")
    lines += format_fields(_list_rows(found), width, paint=paint)
    if found.evidence:
        lines += ["", paint("strong", "Evidence")]
        for quote in found.evidence:
            lines += wrap_text(_format_line(quote), width, indent="  ", hanging=" " * 10)
    fresh = [quote for quote in found.fresh if quote not in found.evidence]
    if fresh:
        lines += ["", paint("strong", "New, and known to no signature")]
        lines += [
            line for quote in fresh[:5] for line in wrap_text(_format_line(quote), width, indent="  ", hanging=" " * 10)
        ]
    todo = [step for step in found.next if not step.startswith("backout ")]  # the commands follow it
    if todo:
        lines += ["", paint("strong", "To do")]
        lines += [line for step in todo for line in wrap_text(step, width, indent="  ", hanging="    ")]
    unread = [(reason, count) for reason, count in found.unreadable.items()]
    if unread or found.notes:
        lines += ["", paint("strong", "Mind")]
        notes = [*found.notes, *(f"{count:,} x not read: {reason}" for reason, count in unread)]
        lines += [line for note in notes for line in wrap_text(note, width, indent="  ", hanging="    ")]
    return "\n".join(lines)


def list_sentences(found: Diagnosis) -> tuple[str, ...]:
    """Return the diagnosis as sentences for a report: what it is, how sure, how new, and what a rollback does."""
    if not found.is_known:
        return (f"Diagnosis: {found.title}.",) if found.title else ()
    scenario = SCENARIOS[found.scenario] if found.scenario else "unknown scenario"
    said = [f"{found.title} (`{found.cause}`, {scenario}; {format_percent(found.confidence)} sure)"]
    critical = f" ({found.criticality})" if found.criticality else ""
    said += [f"service: {found.service}{critical}"] if found.service else []
    said += [f"missing or wrong: {', '.join(found.names)}"] if found.names else []
    advice = _describe_advice(found)
    said += [f"compared with the version before: {found.novelty}"] if found.novelty else []
    said += [f"a rollback {'is ' if advice == _VALUE else ''}{advice}"] if found.rollback == "useless" else []
    return (f"Diagnosis: {'; '.join(said)}.",)


def _list_rows(found: Diagnosis) -> list[tuple[str, str]]:
    rows = []
    if found.is_known:
        rows.append(("cause", f"{found.cause}, {format_percent(found.confidence)} sure"))
        critical = f", {found.criticality}" if found.criticality else ""
        rows += [("service", f"{found.service}{critical}")] if found.service else []
        rows += [("names", ", ".join(found.names))] if found.names else []
        rows += [("new", _describe_novelty(found))] if found.is_new is not None else []
        rows += [("seen", _describe_seen(found))] if found.share is not None or found.first_seen is not None else []
    rows.append(("rollback", _describe_advice(found)))
    others = [f"{each.cause} {format_percent(each.probability)}" for each in found.alternatives]
    rows += [("or", ", ".join(others))] if others else []
    rows += [("confirm", found.confirm)] if found.confirm else []
    rows += [("well", "; ".join(found.clean))] if found.clean else []
    counts = [f"{name[:_ID] or 'all'}: {errors:,} of {n:,} failed" for name, (n, errors) in found.counts.items()]
    rows += [("counted", "; ".join(counts))] if counts else []
    return rows


def _describe_advice(found: Diagnosis) -> str:
    useless = found.rollback == "useless"
    return _VALUE if useless and found.scenario == "S5_env_vars" else ADVICE[found.rollback]


def _describe_novelty(found: Diagnosis) -> str:
    if not found.is_new:
        return found.novelty or "no: as before"
    return found.novelty or "yes"


def _describe_seen(found: Diagnosis) -> str:
    parts = [] if found.share is None else [f"in {format_percent(found.share)} of invocations"]
    if found.first_seen is not None:
        at = f"first {format_clock(found.first_seen)} UTC"
        if found.deployed_at is not None:
            gap = found.first_seen - found.deployed_at
            at += f", {format_duration(abs(gap))} {'after' if gap >= 0 else 'before'} the deployment"
        parts.append(at)
    return ", ".join(parts)


def _format_line(quote: Quote) -> str:
    where = [format_clock(quote.at)] if quote.at is not None else []
    where += [quote.version[:_ID]] if quote.version else []
    where += [quote.source] if quote.source != "events" else []
    return f"{quote.count:>5,} x  {quote.text}" + (f"  [{', '.join(where)}]" if where else "")


def _make_quote_record(quote: Quote) -> dict[str, object]:
    return {
        "text": quote.text,
        "at": _format_time(quote.at),
        "version": quote.version or None,
        "count": quote.count,
        "source": quote.source,
    }


def _format_time(at: float | None) -> str | None:
    return None if at is None else format_time(at)
