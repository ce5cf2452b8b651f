"""The names of the secrets that a diagnosis finds missing (Scenario 5); pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

    from backout.model.incident.diagnosis import Diagnosis

MENDABLE: Final = frozenset({"missing_env_var", "secret_invalid"})
"""Causes that a value may fix."""
SURE: Final = 0.8
"""How sure a diagnosis must be before anything is set without a person."""
_OF_SERVICE: Final = {
    "database": re.compile(r"DATABASE|POSTGRES|(?:^|_)(?:DB|PG)(?:_|$)|^PG[A-Z]+$|MYSQL"),
    "storage": re.compile(r"S3|R2|AWS|STORAGE|BUCKET"),
    "email": re.compile(r"RESEND|SMTP|MAIL|SENDGRID|POSTMARK|MAILGUN"),
    "auth": re.compile(r"JWT|AUTH|SESSION|COOKIE|SIGNING"),
}
"""The names of a service's secrets."""


def list_wanted_names(found: Diagnosis, *, expected: Collection[str], present: Collection[str]) -> tuple[str, ...]:
    """Return the names that have to be set, sorted; () when the diagnosis does not say enough.

    Named ones first: what the evidence names, as far as the application knows such a name. Then, for something missing,
    every expected name that is not there. Then, for something refused, the names of the service that refused it, when
    there is exactly one.

    Args:
        expected: names that the application needs.
        present: names that the live version has.
    """
    if found.cause not in MENDABLE or found.confidence < SURE:
        return ()
    known = {*expected, *present}
    named = set(found.names) & known
    if named and found.cause == "missing_env_var":
        named -= set(present)  # a value that is there may be newer than the source's: never set over it
        return tuple(sorted(named))
    if named:
        return tuple(sorted(named))
    if found.cause == "missing_env_var":
        return tuple(sorted(set(expected) - set(present)))
    pattern = _OF_SERVICE.get(found.service or "")
    theirs = sorted(name for name in known if pattern is not None and pattern.search(name))
    return tuple(theirs) if len(theirs) == 1 else ()
