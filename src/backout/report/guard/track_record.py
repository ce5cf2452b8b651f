"""The look back at guard's watches: for a person at 80 columns, and as JSON values; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.hindsight.track_record import NEEDED, Advice, Outcome, TrackRecord, compute_median
from backout.model.guard.policy import Mode
from backout.model.setting import describe_setting
from backout.report.text import format_fields, leave_plain, wrap_text
from backout.report.times import format_clock, format_day, format_duration, format_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backout.analysis.hindsight.track_record import Case
    from backout.report.text import Paint

_OUTCOMES = {
    Outcome.ROLLED_BACK: "rolled back by guard",
    Outcome.BY_HAND: "rolled back by a person",
    Outcome.FORWARD: "replaced by a newer version",
    Outcome.STAYED: "stayed live",
}


def make_record(found: TrackRecord) -> dict[str, object]:
    """Return the payload of `backout.guard-report/1`."""
    cost = found.cost
    counted = [case.errors for case in cost if case.errors is not None]
    return {
        "environment": found.environment,
        "mode": found.mode,
        "watches": len(found.watches),
        "needed": NEEDED,
        "since": format_time(found.watches[0].since) if found.watches else None,
        "verdicts": found.verdicts,
        "would_have_rolled_back": len(found.waited),
        "held_by": found.held_by,
        "refused": found.refused,
        "rolled_back": sum(case.watch.mode is Mode.ACT for case in found.acted),
        "rolled_back_when_asked": sum(case.watch.mode is not Mode.ACT for case in found.acted),
        "rolled_back_by_hand": _count_cases(found.waited, Outcome.BY_HAND),
        "replaced_by_a_newer_version": _count_cases(found.waited, Outcome.FORWARD),
        "stayed_live": _count_cases(found.waited, Outcome.STAYED),
        "missed": [
            {"version": each.version, "at": format_time(each.at), "verdict": each.verdict, "run_id": each.run}
            for each in found.missed
        ],
        "unwatched_rollbacks": found.unwatched,
        "false_alarms": len(found.false_alarms),
        "live_after_verdict_s": _measure_spread(case.live_after_verdict_s for case in cost),
        "bad_requests_after_verdict": sum(counted) if counted else None,
        "detected_after_s": _measure_spread(case.watch.decided_at - case.watch.since for case in found.cases),
        "cases": [_make_case_record(case) for case in found.cases],
        "advice": {"verdict": found.advice, "why": list(found.why), "how": list(explain_how(found))},
        "notes": list(found.notes),
    }


def _make_case_record(case: Case) -> dict[str, object]:
    watch = case.watch
    first_bad = watch.first_bad_at
    return {
        "run_id": watch.run,
        "version": watch.version,
        "deployment_id": watch.deployment,
        "mode": watch.mode,
        "verdict_at": format_time(watch.decided_at),
        "reason": watch.reason,
        "action": watch.action or None,
        "rule": watch.rule or None,
        "outcome": case.outcome,
        "left_at": None if case.left_at is None else format_time(case.left_at),
        "live_after_verdict_s": round(case.live_after_verdict_s, 3),
        "requests_after_verdict": case.requests,
        "bad_requests_after_verdict": case.errors,
        "detected_after_s": round(watch.decided_at - watch.since, 3),
        "first_bad_to_verdict_s": None if first_bad is None else round(watch.decided_at - first_bad, 3),
        "false_alarm": case.false_alarm or None,
    }


def _count_cases(cases: Iterable[Case], outcome: Outcome) -> int:
    return sum(case.outcome is outcome for case in cases)


def _measure_spread(seconds: Iterable[float]) -> dict[str, float | None]:
    known = sorted(seconds)
    middling = compute_median(known)
    return {
        "median": None if middling is None else round(middling, 3),
        "most": round(known[-1], 3) if known else None,
    }


def explain_how(found: TrackRecord) -> tuple[str, ...]:
    """Return how to follow the advice, in whole sentences; these are the only ways to arm guard."""
    name = found.environment
    if found.advice is Advice.ARM:
        return (
            f"arm it: {describe_setting('environments', name, 'guard', mode='act')}",
            f"or for one watch: `backout guard -e {name} --mode act`",
        )
    if found.advice is Advice.NOT_YET:
        return (f"look at them first: `backout runs show RUN`, `backout status -e {name}`",)
    if found.advice is Advice.TOO_FEW:
        return (f"watch each deployment: `backout guard -e {name}`",)
    return ()


def format_text(found: TrackRecord, *, width: int = 80, paint: Paint = leave_plain) -> str:
    """Return the report: numbers, what waiting cost, each case, the advice."""
    if not found.watches:
        return f"Guard has finished no watch of {found.environment} yet."
    first, number = found.watches[0], len(found.watches)
    watches = f"{number} watch{'' if number == 1 else 'es'}"
    lines = [paint("strong", f"Guard on {found.environment}: {watches} since {format_day(first.since)}"), ""]
    lines += format_fields(
        [(name, f"{number:>4}") for name, number in found.verdicts.items() if number], width, paint=paint
    )
    lines += ["", *format_fields(_list_numbers(found), width, paint=paint)]
    if found.cases:
        lines += ["", paint("strong", "Versions that guard rejected")]
        for case in found.cases:
            lines += _format_case(case, width, paint)
    for each in found.missed:
        head = f"{format_day(each.at)} {format_clock(each.at)[:5]}  {each.version[:8]}"
        said = f"missed: rolled back by a person; guard had said {each.verdict} ({each.run})"
        lines += wrap_text(f"{head}  {said}", width, indent="  ", hanging=" " * 4)
    lines += ["", *_format_advice(found, width, paint)]
    for note in found.notes:
        lines += wrap_text(f"note: {note}", width)
    return "\n".join(lines)


def _list_numbers(found: TrackRecord) -> list[tuple[str, str]]:
    waited, cost = found.waited, found.cost
    held = ", ".join(f"{number} by {rule}" for rule, number in found.held_by.items())
    hand = [case.live_after_verdict_s for case in waited if case.outcome is Outcome.BY_HAND]
    middling = compute_median(hand)
    after = "" if middling is None else f"  {format_duration(middling)} after the verdict (median)"
    asked = sum(case.watch.mode is not Mode.ACT for case in found.acted)
    rows = [
        ("would have rolled back", f"{len(waited):>4}" + (f"  held: {held}" if held else "")),
        ("  rolled back by hand", f"{len(hand):>4}{after}"),
        ("  newer version instead", f"{_count_cases(waited, Outcome.FORWARD):>4}"),
        ("  stayed live", f"{_count_cases(waited, Outcome.STAYED):>4}"),
        ("rolled back by itself", f"{len(found.acted):>4}" + (f"  {asked} of them after asking" if asked else "")),
        ("nothing to go back to", f"{found.refused:>4}"),
        ("false alarms", f"{len(found.false_alarms):>4}"),
        ("missed", f"{len(found.missed):>4}"),
    ]
    if found.unwatched:
        rows.append(("by hand, unwatched", f"{found.unwatched:>4}"))
    detected = _measure_spread(case.watch.decided_at - case.watch.since for case in found.cases)
    if detected["median"] is not None and detected["most"] is not None:
        spread = (
            f"{format_duration(detected['median'])} after the start (median), at most "
            f"{format_duration(detected['most'])}"
        )
        rows.append(("time to the verdict", spread))
    if cost:
        counted = [case.errors for case in cost if case.errors is not None]
        bad = f", {sum(counted):,} bad requests" if counted else ", bad requests: not counted"
        rows.append(
            ("what waiting cost", f"live for {format_duration(sum(c.live_after_verdict_s for c in cost))} more{bad}")
        )
    return [row for row in rows if row[1].split()[0] != "0" or row[0] in _ALWAYS]


_ALWAYS = frozenset({"would have rolled back", "rolled back by itself", "false alarms", "missed"})


def _format_case(case: Case, width: int, paint: Paint) -> list[str]:
    watch = case.watch
    head = f"{format_day(watch.decided_at)} {format_clock(watch.decided_at)[:5]}  {watch.version[:8]}"
    became = _OUTCOMES[case.outcome]
    if case.outcome is not Outcome.ROLLED_BACK:
        over = "after" if case.left_at is not None else "for"
        became += f" {over} {format_duration(case.live_after_verdict_s)}"
        became += "" if case.errors is None else f", {case.errors:,} bad requests"
    if case.false_alarm:
        became += f"; false alarm: {case.false_alarm}"
    found = wrap_text(f"{head}  {became}: {watch.reason}", width, indent="  ", hanging=" " * 4)
    return [found[0].replace(head, paint("dim", head), 1), *found[1:]]


def _format_advice(found: TrackRecord, width: int, paint: Paint) -> list[str]:
    word, role = {
        Advice.TOO_FEW: ("Too early to say", "warn"),
        Advice.NOT_YET: ("Not yet", "warn"),
        Advice.ARM: ("It may act", "good"),
        Advice.ARMED: ("Guard acts by itself here (mode = act)", "good"),
    }[found.advice]
    said = "; ".join(found.why)
    lines = wrap_text(f"{word}: {said}." if said else f"{word}.", width)
    lines[0] = lines[0].replace(word, paint(role, word), 1)
    for sentence in explain_how(found):
        lines += wrap_text(f"- {sentence}", width, hanging="  ")
    return lines
