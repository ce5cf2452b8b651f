"""Who an environment is: what `init` pins and each mutation compares first (safety rule 1)."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Identity:
    """What identifies an environment; None: not pinned, or not set up.

    Args:
        account_id, script_tag: the platform's own ids of the account and the application (a name can be given again, a
            tag cannot). database_system_identifier: "IDENTIFIER/NAME" of the database cluster and the database in it.
    """

    account_id: str | None = None
    script_tag: str | None = None
    database_system_identifier: str | None = None
    bucket: str | None = None
    health_host: str | None = None

    def differences(self, found: Identity) -> tuple[tuple[str, str, str | None], ...]:
        """Return (name, pinned, found) of everything pinned here that is not the same there; None: not readable."""
        pairs = ((f.name, getattr(self, f.name), getattr(found, f.name)) for f in fields(self))
        return tuple((name, mine, other) for name, mine, other in pairs if mine is not None and mine != other)
