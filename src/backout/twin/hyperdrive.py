"""The twin's Hyperdrive."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class HyperdriveTarget:
    """Where the Hyperdrive binding of a Worker connects to; the password is the twin's own, good on loopback only."""

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)
