"""Setting and lifting a hold at the provider, so that every machine sees it (safety rule 10)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.errors import BackoutError, WorldMoved
from backout.escaping import shorten
from backout.model.clock import to_utc
from backout.model.hold import format_hold
from backout.model.incident.notice import NoticeKind
from backout.model.remark import Remark, RemarkKind
from backout.runbook.incident.tell import tell
from backout.runbook.rollback.remarks import write_remark
from backout.runbook.safety.clock import get_correction_s
from backout.runbook.safety.hold import name_seen_at_provider
from backout.runbook.safety.identity import check_identity

if TYPE_CHECKING:
    from backout.model.hold import Hold
    from backout.runbook.toolbox import Toolbox


def announce(tools: Toolbox, hold: Hold) -> Hold:
    """Set (or lift, `until` 0) the hold at the provider; return it as the provider tells it, and keep that in the file.

    `until` is by this machine's clock; every machine reads it by the provider's.

    Raises:
        BackoutError: the provider did not take it.
        WorldMoved: there is nothing live to write it on.
    """
    check_identity(tools)
    history = tools.deployments.history()
    if not history:
        raise WorldMoved("nothing is deployed, so there is nothing to hold at the provider", where=tools.environment)
    until = hold.until + get_correction_s(tools) if hold.until else 0.0
    remark = Remark(RemarkKind.HOLD, until=until, incident=hold.incident, text=format_hold(hold))
    made = write_remark(tools, remark, history[0])
    told = replace(hold, until=until, at=made.created_at, where=f"deployment {made.id}")
    if tools.safety.holds is not None:
        with contextlib.suppress(BackoutError):  # the provider has it, which matters more
            tools.safety.holds.write(tools.environment, told)
            tools.safety.holds.write(name_seen_at_provider(tools.environment), told)
    return told


def tell_of(tools: Toolbox, hold: Hold) -> None:
    """Send the notice that automatic actions are stopped, or allowed again."""
    lifted = not hold.until
    until = "" if lifted else f" until {to_utc(hold.until):%Y-%m-%d %H:%M:%SZ}"
    tell(
        tools,
        NoticeKind.HOLD_SET,
        f"{tools.environment}: automatic actions are {'allowed again' if lifted else 'stopped'}{until}",
        f"{hold.by} says: {shorten(hold.why)}",
        key=f"{hold.where} {hold.until:g}",
        next=() if lifted else (f"backout unhold -e {tools.environment}",),
    )
