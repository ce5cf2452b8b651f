"""What `--expect` says: a change of answers that is intended, as `guard.expect` has it, for one watch."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from backout.config.identity import refused_expectation
from backout.config.schema.guard import expectation
from backout.errors import UsageError

if TYPE_CHECKING:
    from backout.model.policy import Expectation

FLAG = "--expect"
_SAID = re.compile(r"([A-Z]+ /[!-~]*?) ?= ?(\d{3}(?:,\d{3})*)")


def expected(text: str, health_url: str = "") -> Expectation:
    """Return what one `--expect` means.

    Args:
        health_url: of the health endpoint, whose path nobody may excuse; "" for none.

    Raises:
        UsageError: it is no expectation, or would excuse too much.

    >>> expected("GET /old/*=410,404").statuses
    (410, 404)
    """
    found = _SAID.fullmatch(text.strip())
    hint = f"{FLAG} 'GET /old/*=410'"
    if found is None:
        raise UsageError(f"expected METHOD /path=STATUS, got {text!r}", where=FLAG, hint=hint)
    statuses = tuple(int(status) for status in found[2].split(","))
    wrong = refused_expectation(found[1], statuses, health_url)
    if wrong or any(not status >= 100 for status in statuses):  # noqa: PLR2004 - HTTP's own
        raise UsageError(f"{text}: {wrong or 'not a status'}", where=FLAG, hint=hint)
    return expectation(found[1], statuses)
