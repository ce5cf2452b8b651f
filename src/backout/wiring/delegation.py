"""Who acts for somebody else: the pages for whoever is logged in, a worker's command for who asked for it there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from backout.config.overlay import REQUEST_ENV
from backout.errors import UsageError
from backout.model.person import Delegation

if TYPE_CHECKING:
    from backout.config import Config


def read_delegation(config: Config) -> Delegation:
    """Return the role of the pages, and the request that a worker began this command for.

    Raises:
        UsageError: what the variable has is no number.
    """
    found = config.variables.get(REQUEST_ENV) or "0"
    if not re.fullmatch(r"\d{1,15}", found, re.ASCII):
        raise UsageError("that is no number of a request", where=REQUEST_ENV, hint=f"unset {REQUEST_ENV}")
    return Delegation(config.settings.journal.pages_role or "", int(found))
