"""Migrations as text and as records: their state in one environment and compared with others, and schema drift."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.analysis.recovery.drift import write_script
from backout.model.database.compatibility import Compatibility
from backout.model.database.migrations import MigrationState
from backout.report.text import leave_plain, wrap_text
from backout.report.times import format_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backout.model.database.catalog import Drift
    from backout.model.database.compatibility import MigrationVerdict
    from backout.model.database.migrations import Comparison, HistoryLook, MigrationStatus, Standing
    from backout.report.text import Paint

_ROLES: Final = {MigrationState.APPLIED: "good", MigrationState.PENDING: "note", MigrationState.UNTOLD: "dim"}
_VERDICT_ROLES: Final = {Compatibility.SAFE: "good", Compatibility.SAFE_IF: "warn", Compatibility.BREAKING: "bad"}
_SHOWN_APPLIED: Final = 5
"""At most this many applied migrations without problems are listed; the others are counted."""


def make_standing_record(tool: str, found: Standing, notes: tuple[str, ...]) -> dict[str, object]:
    """Return the payload of `backout.db-migrations-status/1`."""
    report = found.report
    return {
        "environment": found.asked.environment,
        "tool": tool,
        **_make_look_record(found.asked),
        "in_order": found.exit_code == 0 if found.exit_code <= 1 else None,
        "migrations": [_make_status_record(m) for m in report.migrations] if report else [],
        "findings": [
            *(report.findings if report else ()),
            *(line for c in found.comparisons for line in _explain_wrong(c)),
        ],
        "others": [{"environment": look.environment, **_make_look_record(look)} for look in found.others],
        "comparisons": [
            {
                "later": each.later,
                "earlier": each.earlier,
                "never_ran": list(each.never_ran),
                "not_yet": list(each.not_yet),
                "differ": list(each.differ),
                "in_order": each.in_order,
            }
            for each in found.comparisons
        ],
        "notes": list(notes),
    }


def _make_look_record(look: HistoryLook) -> dict[str, object]:
    state = look.state
    return {
        "read_at": format_time(state.read_at) if state else None,
        "head": state.head if state else None,
        "problem": look.problem or None,
    }


def _make_status_record(found: MigrationStatus) -> dict[str, object]:
    return {
        "name": found.name,
        "title": found.title or None,
        "state": found.state.value,
        "finding": found.finding,
        "why": found.why or None,
        "applied_at": format_time(found.applied_at) if found.applied_at is not None else None,
        "dated": found.dated if found.applied_at is not None else None,
        "logs": found.logs or None,
    }


def format_standing(found: Standing, *, width: int, paint: Paint = leave_plain) -> str:
    """Return the text for a person: what is wrong or pending, the newest applied ones, the other environments."""
    lines = list(_format_own(found, width, paint))
    compared = {name for each in found.comparisons for name in (each.later, each.earlier)}
    for look in found.others:
        if look.environment not in compared:
            lines += [
                "",
                *wrap_text(f"{paint('strong', look.environment)}: {_describe_alone(look)}", width, hanging="  "),
            ]
    for each in found.comparisons:
        lines += ["", *_describe_comparison(each, width, paint)]
    return "\n".join(lines)


def _describe_alone(look: HistoryLook) -> str:
    """Return what is known of an environment that could not be compared."""
    return look.problem or f"head {look.state.head if look.state and look.state.head else 'none'}; not compared"


def _format_own(found: Standing, width: int, paint: Paint) -> Iterator[str]:
    name, report = paint("strong", found.asked.environment), found.report
    if report is None:
        yield from wrap_text(f"{name}: {found.asked.problem}", width, hanging="  ")
        return
    quiet = [m for m in report.migrations if m.state is MigrationState.APPLIED]
    counted = ", ".join(
        f"{len(names)} {state.value}" for state in MigrationState if (names := report.list_names(state))
    )
    yield f"{name}: {counted or 'no migrations'}; head {found.asked.state.head or 'none' if found.asked.state else ''}"
    if len(quiet) > _SHOWN_APPLIED:
        yield paint("dim", f"  {len(quiet) - _SHOWN_APPLIED} older ones are applied")
    shown = {m.name for m in quiet[-_SHOWN_APPLIED:]}
    for migration in report.migrations:
        if migration.state is not MigrationState.APPLIED or migration.name in shown:
            yield from _format_lines(migration, width, paint)
    for sentence in report.findings:
        yield from wrap_text(f"  {paint('bad', sentence)}", width, hanging="  ")


def _format_lines(found: MigrationStatus, width: int, paint: Paint) -> Iterator[str]:
    role = "bad" if found.finding else _ROLES.get(found.state, "dim")
    title = f" ({found.title})" if found.title else ""
    until = "" if found.dated else "by "
    at = f"  {until}{format_time(found.applied_at)[:19]}Z" if found.applied_at is not None else ""
    yield f"  {paint(role, f'{found.state.value:<12}')} {found.name}{title}{paint('dim', at)}"
    if found.why:
        yield from wrap_text(found.why, width, indent=" " * 15)


def _describe_comparison(found: Comparison, width: int, paint: Paint) -> Iterator[str]:
    both = f"{paint('strong', found.later)} beside {paint('strong', found.earlier)}"
    if found.in_order:
        yield f"{both}: {paint('good', 'in order')}"
    else:
        yield f"{both}:"
        for sentence in _explain_wrong(found):
            yield from wrap_text(f"  {paint('bad', sentence)}", width, hanging="    ")
    if found.not_yet:
        yield from wrap_text(f"  not yet in {found.later}: {', '.join(found.not_yet)}", width, hanging="    ")


def _explain_wrong(found: Comparison) -> Iterator[str]:
    for name in found.never_ran:
        yield f"{name} is applied in {found.later}, and {found.earlier} never ran it"
    for name in found.differ:
        yield f"{name} was applied in {found.later} and {found.earlier} from different files"


def make_verdict_record(found: MigrationVerdict) -> dict[str, object]:
    """Return one of the `verdicts` of `backout.db-migrations-apply/1`."""
    return {"name": found.name, "verdict": found.verdict.value, "reversible": found.reversible.value}


def format_pending(found: Sequence[MigrationVerdict], *, width: int, paint: Paint = leave_plain) -> str:
    """Return a line for each pending migration, and why it is not safe for the code that runs before it."""
    lines = []
    for each in found:
        lines.append(f"{paint(_VERDICT_ROLES[each.verdict], f'{each.verdict.value:<8}')}  {each.name}")
        reasons = (
            s.reason for s in each.statements if s.verdict is each.verdict and s.verdict is not Compatibility.SAFE
        )
        for reason in dict.fromkeys(reasons):
            lines += wrap_text(reason, width, indent=" " * 10)
    return "\n".join(lines)


def make_drift_record(environment: str, found: Drift, *, record: bool) -> dict[str, object]:
    """Return the payload of `backout.db-migrations-drift/1`."""
    return {
        "environment": environment,
        "in_order": not found.differences,
        "direction": "record" if record else "repair",
        "live_version": found.live_version,
        "built_version": found.built_version,
        "differences": [
            {
                "kind": each.kind.value,
                "name": each.name,
                "change": each.change.value,
                "found": each.found or None,
                "wanted": each.wanted or None,
                "statements": list(each.statements),
            }
            for each in found.differences
        ],
        "statements": list(write_script(found.differences)),
    }


def format_drift(environment: str, found: Drift, *, record: bool, paint: Paint = leave_plain) -> str:
    """Return the statements, each below its difference; one sentence if nothing differs."""
    if not found.differences:
        return f"{paint('strong', environment)}: {paint('good', 'no drift')}, the schema is what the migrations build"
    purpose = (
        "what a migration would have to say" if record else f"what would make {environment} what the migrations build"
    )
    count = len(found.differences)
    lines = [f"-- {count} difference{'s' if count > 1 else ''}; {purpose}"]
    sides = {"missing": "in the migrations only", "extra": "live only", "different": "different"}
    if record:
        sides = {"missing": "live only", "extra": "in the migrations only", "different": "different"}
    for each in found.differences:
        lines += ["", paint("dim", f"-- {each.kind.value} {each.name}: {sides[each.change.value]}")]
        lines += [s if s.startswith("--") else f"{s};" for s in each.statements]
    return "\n".join(lines)
