"""The identity of an environment: `init` pins it and each mutation checks it first (safety rule 1)."""

from __future__ import annotations

from backout.model.value import Value


class Identity(Value, frozen=True):
    """The identity of an environment; None: not pinned, or not set up.

    Args:
        account_id, script_tag: the platform's own ids of the account and the application (a name can be given again, a
            tag cannot).
        database_system_identifier: "IDENTIFIER/NAME" of the database cluster and the database in it.
    """

    account_id: str | None = None
    script_tag: str | None = None
    database_system_identifier: str | None = None
    bucket: str | None = None
    health_host: str | None = None

    def differences(self, found: Identity) -> tuple[tuple[str, str, str | None], ...]:
        """Return (name, pinned, found) of everything pinned here that is not the same there; None: not readable."""
        pairs = ((name, getattr(self, name), getattr(found, name)) for name in self.__struct_fields__)
        return tuple((name, mine, other) for name, mine, other in pairs if mine is not None and mine != other)
