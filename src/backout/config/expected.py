"""Parse `--expect`: an intended change of answers, as in `guard.expect`, for one watch."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from backout.config.identity import explain_refusal
from backout.config.schema.guard import make_expectation
from backout.errors import UsageError
from backout.model.guard.routes import METHODS

if TYPE_CHECKING:
    from backout.model.guard.policy import Expectation

FLAG = "--expect"
_SAID = re.compile(r"([A-Z]+ /[!-~]*?) ?= ?(\d{3}(?:,\d{3})*)")


def parse_expectation(text: str, health_url: str = "") -> Expectation:
    """Return the meaning of one `--expect`.

    Args:
        health_url: of the health endpoint, whose path must not be excused; "" for none.

    Raises:
        UsageError: it is not an expectation, or would excuse too much.

    >>> parse_expectation("GET /old/*=410,404").statuses
    (410, 404)
    """
    found = _SAID.fullmatch(text.strip())
    hint = f"{FLAG} 'GET /old/*=410'"
    if found is None or found[1].partition(" ")[0] not in METHODS:
        raise UsageError(f"expected METHOD /path=STATUS (GET, POST ...), got {text!r}", where=FLAG, hint=hint)
    statuses = tuple(int(status) for status in found[2].split(","))
    wrong = explain_refusal(found[1], statuses, health_url)
    if wrong or any(not status >= 100 for status in statuses):
        raise UsageError(f"{text}: {wrong or 'not a status'}", where=FLAG, hint=hint)
    return make_expectation(found[1], statuses)
