"""The class of an answer: its value to the client, by the HTTP status alone."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class AnswerClass(StrEnum):
    """The classes of answers; each value is how its statuses are written, in names and in JSON.

    Server errors and exceptions are in none of these (`errors` counts them), nor are requests that the client canceled.
    """

    GOOD = "2xx"  # 101, 2xx, 206, 304
    REDIRECT = "3xx"
    BAD_REQUEST = "400"  # and 422
    DENIED = "401"  # and 403, 407, 451
    NOT_FOUND = "404"
    GONE = "410"
    LIMITED = "429"
    OTHER_CLIENT_ERROR = "4xx"

    @property
    def words(self) -> str:
        """Return what such an answer says, as the end of "was answered ..."."""
        return _WORDS[self]


EVERY_CLASS: Final = frozenset(AnswerClass)
"""What a source tells apart that sees each status."""
FAMILIES: Final = {
    "1xx": AnswerClass.GOOD,
    "2xx": AnswerClass.GOOD,
    "3xx": AnswerClass.REDIRECT,
    "4xx": AnswerClass.OTHER_CLIENT_ERROR,
}
"""What a source tells apart that sees the first digit of a status alone."""
_WORDS = {
    AnswerClass.GOOD: "well",
    AnswerClass.REDIRECT: "with a redirect",
    AnswerClass.BAD_REQUEST: "400 or 422 (bad request)",
    AnswerClass.DENIED: "401 or 403 (denied)",
    AnswerClass.NOT_FOUND: "404 (not found)",
    AnswerClass.GONE: "410 (gone)",
    AnswerClass.LIMITED: "429 (too many requests)",
    AnswerClass.OTHER_CLIENT_ERROR: "with another 4xx",
}
_BY_STATUS = {
    101: AnswerClass.GOOD,
    304: AnswerClass.GOOD,
    400: AnswerClass.BAD_REQUEST,
    422: AnswerClass.BAD_REQUEST,
    401: AnswerClass.DENIED,
    403: AnswerClass.DENIED,
    407: AnswerClass.DENIED,
    451: AnswerClass.DENIED,
    404: AnswerClass.NOT_FOUND,
    410: AnswerClass.GONE,
    429: AnswerClass.LIMITED,
}
_BY_HUNDRED = {
    2: AnswerClass.GOOD,
    3: AnswerClass.REDIRECT,
    4: AnswerClass.OTHER_CLIENT_ERROR,
}


def classify(status: int | None) -> AnswerClass | None:
    """Return the class of an answer with that HTTP status; None for server errors and where the status is not known.

    >>> [classify(status) for status in (204, 304, 302, 403, 418, 503, None)]
    ... # doctest: +NORMALIZE_WHITESPACE
    [<AnswerClass.GOOD: '2xx'>, <AnswerClass.GOOD: '2xx'>, <AnswerClass.REDIRECT: '3xx'>, <AnswerClass.DENIED: '401'>,
     <AnswerClass.OTHER_CLIENT_ERROR: '4xx'>, None, None]
    """
    if not status:
        return None
    return _BY_STATUS.get(status) or _BY_HUNDRED.get(status // 100)


def classify_unless_good(status: int | None) -> AnswerClass | None:
    """Return the class of an answer that is neither good nor an error, else None: what `Counts.classes` counts.

    >>> classify_unless_good(200), classify_unless_good(404), classify_unless_good(500)
    (None, <AnswerClass.NOT_FOUND: '404'>, None)
    """
    found = classify(status)
    return None if found is AnswerClass.GOOD else found
