"""Bodies of answers as sources count them: by length, and by content type where the source provides it.

A key of `RouteCounts.sizes` has both: the bucket of the length, and the family of the content type. So few families
tell a page from the data that it loads, and none is a visitor's text.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

FAMILY: Final = 100
"""The distance between the keys of two families; buckets of lengths stay below."""
_MOST_BUCKET: Final = 63


class BodyKind(IntEnum):
    """The kind of a body; the values are kept in journals."""

    UNKNOWN = 0
    HTML = 1
    JSON = 2
    SCRIPT = 3
    STYLE = 4
    IMAGE = 5
    TEXT = 6
    OTHER = 7

    @property
    def words(self) -> str:
        """How it is called in a sentence, "" for unknown."""
        return "" if self is BodyKind.UNKNOWN else f"{self.name.lower() if self is not BodyKind.HTML else 'HTML'} "


def classify_body(content_type: str) -> BodyKind:
    """Return the family of a content type.

    >>> classify_body("text/html; charset=utf-8"), classify_body("application/problem+json"), classify_body("")
    (<BodyKind.HTML: 1>, <BodyKind.JSON: 2>, <BodyKind.UNKNOWN: 0>)
    """
    kind = content_type.partition(";")[0].strip().lower()
    if not kind:
        return BodyKind.UNKNOWN
    if kind in ("text/html", "application/xhtml+xml"):
        return BodyKind.HTML
    if kind.endswith(("/json", "+json")):
        return BodyKind.JSON
    if kind.endswith(("/javascript", "/x-javascript", "/ecmascript")):
        return BodyKind.SCRIPT
    if kind == "text/css":
        return BodyKind.STYLE
    if kind.startswith("image/"):
        return BodyKind.IMAGE
    return BodyKind.TEXT if kind.startswith("text/") or kind.endswith(("/xml", "+xml")) else BodyKind.OTHER


def find_size_bucket(length: int) -> int:
    """Return the bucket of a body's length in bytes: one per power of two.

    >>> find_size_bucket(0), find_size_bucket(1), find_size_bucket(1500)
    (0, 1, 11)
    """
    return min(max(0, length).bit_length(), _MOST_BUCKET)


def make_size_key(length: int, content_type: str = "") -> int:
    """Return the key of a body: its bucket, and its family where the type is known.

    >>> make_size_key(1500), make_size_key(1500, "application/json")
    (11, 211)
    """
    return FAMILY * classify_body(content_type) + find_size_bucket(length)
