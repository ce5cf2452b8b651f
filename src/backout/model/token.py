"""The state of the token in use (safety rule 2)."""

from __future__ import annotations

from backout.model.value import Value


class TokenState(Value, frozen=True):
    """One look at a token.

    Args:
        valid: the provider accepts it now.
        status: the provider's own word.
        expires_at: Unix seconds; None: never.
        scopes: names of its permissions; None: the provider does not let this token read them.
        role: its use: "all", or "read", "rollback", "secrets" when each has its own.
    """

    valid: bool
    status: str
    expires_at: float | None = None
    scopes: tuple[str, ...] | None = None
    role: str = "all"
