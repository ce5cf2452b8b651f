"""What is known without the provider or the journal, as `status`, `panic`, `card` and `hold` tell it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeVar

from backout.cli.support.style import Style, Tone
from backout.model.guard.signals import ServiceState
from backout.report.times import format_ago, format_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.analysis.history.going_back import WayBack
    from backout.cli.support.output import Output
    from backout.config import Config
    from backout.model.guard.signals import HealthReport
    from backout.runbook.incident.in_need import InNeed, Known
    from backout.runbook.toolbox import Toolbox

_T = TypeVar("_T")


def find_out(config: Config) -> InNeed:
    """Read the journal, the card, the kept code and the health endpoint; none of them raises."""
    from backout.runbook.incident.in_need import look_in_need
    from backout.wiring.in_need import make_sources

    return look_in_need(make_sources(config))


def observe_in_need(tools: Toolbox, observe: Callable[[Toolbox], _T]) -> _T:
    """Return what is observed; if the journal cannot be used, only what the provider tells, and say so."""
    from backout.journal.rows import JournalUnavailable

    try:
        return observe(tools)
    except JournalUnavailable as error:
        from backout.runbook.incident.no_journal import replace_journal

        tools.say(f"without the journal ({error.what}), only what the provider tells is known")
        return observe(replace_journal(tools, error))


def list_rows(style: Style, found: InNeed, now: float) -> list[tuple[str, str]]:
    """Return (what, in words) of what was found out; `now`: Unix seconds of the clock here."""
    health = format_health(style, found.health)
    return [
        ("last live", _describe_known(style, found.live, now)),
        ("last stable", _describe_known(style, found.stable, now)),
        *(("go back to", _format_way(way)) for way in found.ways),
        *([("go back to", f"{found.no_way} (by the card)")] if found.no_way and not found.ways else []),
        *([("in doubt", _describe_doubt(found.doubted))] if found.doubted is not None else []),
        ("health", f"{health} from {found.health_url}" if found.health_url else health),
        ("card", str(found.card) if found.card else style.dim("none was written")),
        *(("not read", style.badge(sentence, Tone.WARN)) for sentence in found.unread),
    ]


def make_record(found: InNeed) -> dict[str, object]:
    """Return it as JSON values; `health` as `backout.status/1` has it is added there."""
    return {
        "last_live": _make_known_record(found.live),
        "last_stable": _make_known_record(found.stable),
        "health_url": found.health_url or None,
        "card": None if found.card is None else str(found.card),
        "unread": list(found.unread),
        "ways_back": [{"version": way.version, "why": way.why, "only_if": way.only_if or None} for way in found.ways],
        "no_way_back": found.no_way or None,
        "in_doubt": None
        if found.doubted is None
        else {"version": found.doubted.version, "why": found.doubted.why, "against": found.doubted.only_if},
    }


def say(output: Output, config: Config | None, found: InNeed | None = None) -> None:
    """Say with an error what is still known; `found`: if that was looked up already."""
    if config is None:
        return
    with contextlib.suppress(Exception):  # whatever else is wrong, the error itself is printed
        from backout.report.text import format_fields
        from backout.wiring import clock

        found = found or find_out(config)
        told = format_fields(list_rows(output.talk, found, clock.now()), output.talk.width, indent="")
        output.complain("\n".join(told))


def _format_way(way: WayBack) -> str:
    return f"{way.version}, " + (f"only if {way.only_if}; " if way.only_if else "") + way.why


def _describe_doubt(way: WayBack) -> str:
    return f"{way.version}: {way.why}, but {way.only_if}"


def _describe_known(style: Style, known: Known | None, now: float) -> str:
    if known is None:
        return style.dim("unknown")
    return f"{known.version}, by {known.where}" + (f", {format_ago(known.at, now)}" if known.at else "")


def _make_known_record(known: Known | None) -> dict[str, object] | None:
    return None if known is None else {"version": known.version, "at": format_time(known.at), "where": known.where}


def format_health(style: Style, health: HealthReport | None) -> str:
    """Return what the health endpoint answers, in a badge and a few words."""
    if health is None:
        return style.dim("not set up")
    if not health.measured:
        word = style.badge("down", Tone.BAD) if health.is_down else style.badge("not measured", Tone.WARN)
        return f"{word}: {health.why_unmeasured}"
    tone = Tone.GOOD if health.overall is ServiceState.OK else Tone.WARN
    word = style.badge("down", Tone.BAD) if health.is_down else style.badge(health.overall, tone)
    services = ", ".join(f"{s.name} {s.state}" + (f" ({s.detail})" if s.detail else "") for s in health.services)
    answer = f"{health.status}" + (f", {health.latency_ms:.0f} ms" if health.latency_ms is not None else "")
    return "; ".join(part for part in (f"{word} ({answer})", services, *health.findings) if part)
