"""A test notice through every channel at once, with the result of each."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from backout.providers.notify.channel import SendFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.incident.notice import Notice
    from backout.providers.notify.channel import Route

WITHIN_S: Final = 40.0
"""Longer than any channel's own limit."""


@dataclass(slots=True)
class Tried:
    """The result of one channel; `why` when it failed."""

    channel: str
    ok: bool = False
    why: str = "no answer in time"
    took_s: float = 0.0


def try_all(routes: Sequence[Route], notice: Notice, now: float, within_s: float = WITHIN_S) -> tuple[Tried, ...]:
    """Send the notice once through each channel, nothing kept and nothing repeated, and return how that went."""
    tried = [Tried(route.name) for route in routes]
    threads = [
        threading.Thread(target=_try, args=(route, notice, now, each), daemon=True)
        for route, each in zip(routes, tried, strict=True)
    ]
    deadline = time.monotonic() + within_s
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return tuple(tried)


def _try(route: Route, notice: Notice, now: float, tried: Tried) -> None:
    began = time.monotonic()
    why = ""
    try:
        route.open().send(notice, now)
    except SendFailed as error:
        why = error.why
    except Exception as error:  # noqa: BLE001 - the others are tried all the same
        why = f"{type(error).__name__}: {error}"
    tried.took_s = time.monotonic() - began
    tried.ok, tried.why = not why, why
