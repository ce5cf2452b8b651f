"""In a split, labels are evidence only while chance chose the version of each request that counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from backout.analysis.detector.wording import count
from backout.runbook.guard.late_counts import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backout.model.guard.signals import Counts
    from backout.model.steps.guard import WatchStep
    from backout.ports import TellsKeys
    from backout.runbook.toolbox import Toolbox


def settle_keyed(tools: Toolbox, watch: WatchStep) -> None:
    """Have requests whose version a key chose left out in a split, unless the team says that such keys are its own.

    Any visitor may send a key, and a visitor's key stays on one version.
    """
    is_split = any(share < 1 for _, share in watch.shares)
    _count_keyed(tools, wanted=tools.policy.guard.sticky or not is_split)


def restore_source(tools: Toolbox) -> None:
    """Have them counted again, and every version waited for: after the watch nothing rests on labels."""
    _count_keyed(tools, wanted=True)
    wait_for(tools, "")


def _count_keyed(tools: Toolbox, *, wanted: bool) -> None:
    if hasattr(tools.traffic, "count_keyed"):  # the wrapper passes attributes on, which `isinstance` does not see
        cast("TellsKeys", tools.traffic).count_keyed(wanted=wanted)


def say_chosen(tools: Toolbox, rows: Iterable[Counts], before: int) -> int:
    """Return how many requests were left out with these rows, as their senders chose the version; say it at the first.

    Args:
        before: how many were left out up to then.
    """
    number = before + sum(row.chosen for row in rows)
    if number and not before:
        tools.say(
            "some requests name the version that is to answer them, or bring a key that decides it; they are left out "
            "of the counts. If it is your own edge that sets a key, say so: guard.sticky = true"
        )
    return number


def say_left_out(tools: Toolbox, number: int) -> None:
    """Say at the end of a watch how many requests were left out, see `say_chosen`."""
    if number:
        tools.say(f"left out of the counts: {count(number, 'request')} whose version was chosen by a header")
