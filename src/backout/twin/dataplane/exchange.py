"""One request passing through the edge, as tails and counts see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backout.model.guard.chosen import Choice

if TYPE_CHECKING:
    from collections.abc import Mapping


Event = dict[str, object]


@dataclass(slots=True)
class Exchange:
    """The router's record of one request, kept until its tail event has come (or a minute has passed).

    Args:
        id: the value of `x-backout-req`.
        started_at: Unix seconds.
        status: of the answer, None while there is none.
        outcome: `ok` until another is known.
        second: the one in which it was counted.
        latency_ms: set at its end.
        size: bytes of the body so far.
        content_type: what it is, "" unknown.
        choice: how its version was chosen.
    """

    id: str
    script: str
    version: str
    method: str
    url: str
    headers: Mapping[str, str]
    started_at: float
    probe: bool = False
    status: int | None = None
    outcome: str = "ok"
    latency_ms: float | None = None
    second: int | None = None
    ended_at: float | None = None
    event: Event | None = None
    size: int = 0
    content_type: str = ""
    choice: Choice = Choice.CHANCE
