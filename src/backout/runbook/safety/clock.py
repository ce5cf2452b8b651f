"""The clock: measured against the provider's before times are compared (safety rule 3)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from backout.errors import BackoutError, Refused
from backout.model.clock import describe_offset, is_off, to_utc
from backout.plan.target import is_time, resolve
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from backout.model.situation import Situation
    from backout.model.version import VersionId
    from backout.runbook.toolbox import Toolbox


def measure_clock(tools: Toolbox) -> None:
    """Measure the provider's clock if that was not done yet: a resumed run compares times before it asks anything."""
    if tools.safety.provider_clock is not None and tools.safety.provider_clock.offset_s() is None:
        with contextlib.suppress(BackoutError):
            tools.deployments.history()


def measure_clock_offset_s(tools: Toolbox) -> float | None:
    """Return the provider's clock minus this machine's in seconds, None when it was not measured."""
    return None if tools.safety.provider_clock is None else tools.safety.provider_clock.offset_s()


def get_correction_s(tools: Toolbox) -> float:
    """Return how far the provider's time is ahead of this machine's, 0 if that is negligible or not known."""
    offset_s = measure_clock_offset_s(tools)
    return offset_s if offset_s is not None and is_off(offset_s) else 0.0


def say_clock(tools: Toolbox) -> None:
    """Report that the clocks disagree, if they do."""
    offset_s = measure_clock_offset_s(tools)
    if offset_s is not None and is_off(offset_s):
        tools.say(f"{describe_offset(offset_s)}; the provider's time is used (the journal keeps this machine's)")


def find_target_version(tools: Toolbox, text: str, situation: Situation) -> VersionId:
    """Return the version that a person's words mean, see `plan.target.resolve`.

    Raises:
        Refused: they name a time, and it is not known which clock it was read from.
        UsageError: as `resolve`.
    """
    offset_s = measure_clock_offset_s(tools)
    if offset_s is not None and is_off(offset_s) and is_time(text, situation):
        theirs = tools.clock.now()
        raise Refused(
            f"'{text}' is a time, and {describe_offset(offset_s)}: {_format_time(theirs - offset_s)} here, "
            f"{_format_time(theirs)} there",
            where=tools.environment,
            rule=SafetyRule.CLOCK,
            options=(
                f"name the version instead of a time: `backout deployments list -e {tools.environment}` has the ids",
                "set this machine's clock right (NTP), then the same command again",
            ),
        )
    return resolve(text, situation)


def _format_time(at: float) -> str:
    return to_utc(at).strftime("%Y-%m-%d %H:%M:%S UTC")
