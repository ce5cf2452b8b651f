"""What today's detector would have done: one sentence, each deployment that matters, and JSON values; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.detector.wording import count
from backout.analysis.hindsight.hindsight import Truth
from backout.report.text import leave_plain, wrap_text
from backout.report.times import format_clock, format_day, format_duration, format_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.analysis.hindsight.hindsight import Hindsight, Judged
    from backout.report.text import Paint

_ID = 8


def make_record(found: Hindsight) -> dict[str, object]:
    """Return the payload of `backout.guard-replay/1`."""
    rolled = found.rolled_back
    return {
        "environment": found.environment,
        "since": format_time(found.since),
        "sentence": describe_hindsight(found),
        "deployments": len(found.judged),
        "judged": len(found.counted),
        "would_have_rolled_back": len(rolled),
        "real": _count_cases(rolled, Truth.BAD),
        "false": _count_cases(rolled, Truth.GOOD),
        "unknown": _count_cases(rolled, Truth.UNKNOWN),
        "missed": len(found.missed),
        "bad_requests_saved": found.saved,
        "cases": [_make_case_record(each) for each in found.judged],
        "notes": list(found.notes),
    }


def _make_case_record(each: Judged) -> dict[str, object]:
    trial, at = each.trial, each.rolled_back_at
    return {
        "deployment_id": trial.deployment,
        "version": trial.version,
        "compared_with": trial.old or None,
        "split": trial.split,
        "at": format_time(trial.at),
        "judged_s": round(trial.until - trial.at, 3),
        "left_at": None if trial.left_at is None else format_time(trial.left_at),
        "counted": each.counted,
        "would_roll_back": at is not None,
        "after_s": None if at is None else round(at - trial.at, 3),
        "reason": each.reason or None,
        "bad_requests_saved": each.saved,
        "truth": each.truth,
        "why": each.why,
    }


def _count_cases(judged: Sequence[Judged], truth: Truth) -> int:
    return sum(each.truth is truth for each in judged)


def describe_hindsight(found: Hindsight) -> str:
    """Return "would have rolled back 2 of 84, both real; bad requests saved: 1,204"."""
    rolled, all_ = found.rolled_back, len(found.counted)
    missed = f"; {count(len(found.missed), 'bad version')} would have been left" if found.missed else ""
    if not rolled:
        return f"would have rolled back none of {all_}{missed}"
    kinds = (("real", Truth.BAD), ("false", Truth.GOOD), ("not known", Truth.UNKNOWN))
    parts = [(word, number) for word, truth in kinds if (number := _count_cases(rolled, truth))]
    if len(parts) > 1:
        told = ", ".join(f"{number} {word}" for word, number in parts)
    else:
        word, number = parts[0]
        told = {1: word, 2: f"both {word}"}.get(number, f"all {word}")
    return f"would have rolled back {len(rolled)} of {all_}, {told}; bad requests saved: {found.saved:,}{missed}"


def format_text(found: Hindsight, *, width: int = 80, paint: Paint = leave_plain) -> str:
    """Return the sentence, then each deployment that was bad or would have been rolled back."""
    head = f"Guard on {found.environment} since {format_day(found.since)}, by today's detector and policy"
    lines = [paint("strong", head), *wrap_text(f"{describe_hindsight(found)}.", width)]
    for each in (*found.rolled_back, *found.missed):
        lines += _format_lines(each, width, paint)
    for note in found.notes:
        lines += wrap_text(f"note: {note}", width)
    return "\n".join(lines)


def _format_lines(each: Judged, width: int, paint: Paint) -> list[str]:
    trial = each.trial
    head = f"{format_day(trial.at)} {format_clock(trial.at)[:5]}  {trial.version[:_ID]}"
    known = {Truth.BAD: "real", Truth.GOOD: "false alarm", Truth.UNKNOWN: "not known"}[each.truth]
    if each.rolled_back_at is None:
        said = f"left alone, but it was bad ({each.why})"
    else:
        after = format_duration(each.rolled_back_at - trial.at)
        saved = f"saving {count(each.saved or 0, 'bad request')}"
        said = f"back after {after}, {saved}: {each.reason}. {known.capitalize()}: {each.why}"
    found = wrap_text(f"{head}  {said}", width, indent="  ", hanging="    ")
    return [found[0].replace(head, paint("dim", head), 1), *found[1:]]
