"""Who uses the pages: a name, what that login may do, where, and until when."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Collection

OFFERED: Final = "login.offered"
USED: Final = "login.used"
STARTED: Final = "login.started"
ENDED: Final = "login.ended"
ISSUED: Final = "token.issued"
REVOKED: Final = "token.revoked"
"""The kinds of the events of logins and tokens. None has the secret itself, only its SHA-256."""
NOWHERE: Final = ""
"""The environment of such an event: a login is of the whole file."""
PREFIX: Final = "bko_"
"""What each secret begins with, so that scanners of repositories know it."""


class Permission(StrEnum):
    """The role of a login; each may do what those before it may."""

    VIEWER = "viewer"  # reads
    OPERATOR = "operator"  # asks for changes, stops and resumes runs, writes notes
    APPROVER = "approver"  # approves plans

    def includes(self, other: Permission) -> bool:
        """Whether whoever has this role has the other's rights, too."""
        ranks = list(Permission)
        return ranks.index(self) >= ranks.index(other)


class Login(Value, frozen=True):
    """A login, or a token.

    Args:
        id: the beginning of its hash, by which it is named and revoked.
        name: of the person or the program.
        environments: where it counts, () for all of the file.
        expires_at: Unix seconds.
        via: how it came about: `url`, `token`, `proxy` or `oidc`.
        person: the role of the journal's database that it is of, "" for none: by it a second person is told from the
            first one, never by the name.
    """

    id: str
    name: str
    role: Permission
    environments: tuple[str, ...]
    expires_at: float
    via: str
    person: str = ""

    def may(self, needed: Permission, environment: str) -> bool:
        """Whether it has the rights of a role in an environment."""
        return self.sees(environment) and self.role.includes(needed)

    def sees(self, environment: str) -> bool:
        """Whether it counts in an environment."""
        return not self.environments or environment in self.environments

    def choose(self, environments: Collection[str]) -> tuple[str, ...]:
        """Return those environments in which it counts, in their order."""
        return tuple(name for name in environments if self.sees(name))
