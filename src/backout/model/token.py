"""The state of the token in use (safety rule 2), and the permissions that are needed."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


class TokenRole(StrEnum):
    """What a token is used for."""

    ALL = "all"
    READ = "read"
    ROLLBACK = "rollback"
    SECRETS = "secrets"


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


class Permission(Value, frozen=True):
    """A permission of a token, and what it is needed for.

    Args:
        name: as the provider lists it among the scopes of a token.
        use: what needs it, in words.
        role: of the token that needs it, where each has its own.
        also: other permissions, each of which will do.
        kind: what it is granted on: Account, Zone or User.
        label: what the dashboard calls it where it is not the name without its last word, "" elsewhere.
        vital: nothing of its role works without it.
        optional: without it a line of a plan says "not measured", and nothing else changes.
        templated: the dashboard's template for deploying has it, or one that will do.
    """

    name: str
    use: str
    role: TokenRole = TokenRole.READ
    also: tuple[str, ...] = ()
    kind: str = "Account"
    label: str = ""
    vital: bool = False
    optional: bool = False
    templated: bool = False

    def is_in(self, scopes: Collection[str]) -> bool:
        """Whether a token with these scopes has it."""
        return any(name in scopes for name in (self.name, *self.also))


class Needed(Value, frozen=True):
    """What the tokens of an environment need.

    Args:
        template: the name of the dashboard's template that has those which say so.
    """

    permissions: tuple[Permission, ...]
    template: str


def find_needed(needs: Iterable[Permission], role: str, roles: Collection[str]) -> tuple[Permission, ...]:
    """Return what the token of a role needs, of the tokens with these roles; what has none of its own is another's.

    >>> needs = (Permission("A", "to look"), Permission("B", "to set", role=TokenRole.SECRETS))
    >>> [each.name for each in find_needed(needs, "rollback", ["rollback", "read"])]
    ['B']
    """
    first = next((each for each in (TokenRole.ALL, TokenRole.ROLLBACK) if each in roles), role)
    return tuple(need for need in needs if role == (need.role if need.role in roles else first))
