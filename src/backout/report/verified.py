"""How the outcome of a verification is called, in all that people read."""

from __future__ import annotations

from typing import Final

VERIFIED: Final = {True: "verified", False: "verification failed", None: "verification inconclusive"}
"""{whether the criteria were met, None where that could not be measured: the words}."""


def describe_verified(verified: bool | None) -> str:
    """Return the outcome as the beginning of a sentence.

    >>> describe_verified(True), describe_verified(None)
    ('Verified', 'Verification inconclusive')
    """
    return VERIFIED[verified].capitalize()
