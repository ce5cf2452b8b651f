"""What else goes back or is lost when a whole cluster is swapped; a person agrees to each by name."""

from __future__ import annotations

import shlex
from enum import StrEnum
from typing import TYPE_CHECKING

from backout.errors import UsageError
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backout.model.plan import Json

_ALL = "all"
_FOREVER = 1 << 63


class AlsoKind(StrEnum):
    """Its kind; each is one word of `--also-back`."""

    DATABASE = "database"
    SHARED = "roles"
    SLOT = "slot"
    UNLOGGED = "unlogged"
    FILE = "file"
    UNKNOWN = "unknown"


_PREFIXED = (AlsoKind.DATABASE, AlsoKind.SLOT, AlsoKind.FILE)
_COUNTED = (AlsoKind.DATABASE, AlsoKind.SHARED, AlsoKind.UNLOGGED)
_ALONE = (AlsoKind.SHARED, AlsoKind.UNLOGGED, AlsoKind.UNKNOWN)


class AlsoBack(Value, frozen=True):
    """One thing that a person has to agree to.

    Args:
        name: of a database, slot or file.
        count: of rows or unlogged tables; None where all of it goes, or it cannot be counted.
        text: for a person to read.
    """

    kind: AlsoKind
    name: str = ""
    count: int | None = None
    text: str = ""

    @property
    def word(self) -> str:
        """What `--also-back` says for exactly this.

        >>> AlsoBack(AlsoKind.DATABASE, "crm", 500).word, AlsoBack(AlsoKind.DATABASE, "roles").word
        ('crm=500', 'database:roles=all')
        >>> AlsoBack(AlsoKind.SHARED, count=3).word, AlsoBack(AlsoKind.SLOT, "cdc").word
        ('roles=3', 'slot:cdc')
        """
        if self.kind not in _COUNTED:
            return f"{self.kind}:{self.name}" if self.kind in _PREFIXED else str(self.kind)
        return f"{self.title}={_ALL if self.count is None else self.count}"

    @property
    def title(self) -> str:
        """What a person types for it on a terminal."""
        if self.kind is AlsoKind.DATABASE:
            return self.name if _is_plain(self.name) else f"{self.kind}:{self.name}"
        return f"{self.kind}:{self.name}" if self.name else str(self.kind)

    def record(self) -> dict[str, Json]:
        """Return it as JSON values."""
        more: dict[str, Json] = {"kind": str(self.kind), "name": self.name, "count": self.count}
        return {**more, "text": self.text, "word": self.word}


class Agreed(Value, frozen=True):
    """What a word of `--also-back` agrees to; most: the maximum of rows, None: as many as were shown."""

    kind: AlsoKind
    name: str
    most: int | None

    def covers(self, thing: AlsoBack) -> bool:
        """Whether it agrees to all of that thing."""
        if (self.kind, self.name) != (thing.kind, thing.name):
            return False
        return self.most is None or (_FOREVER if thing.count is None else thing.count) <= self.most


def read_word(word: str) -> Agreed:
    """Return what a word of `--also-back` agrees to. Raises UsageError: nothing is named.

    >>> read_word("crm=500").most, read_word("crm").most, read_word("slot:a=1").name
    (500, None, 'a=1')
    """
    head, colon, rest = word.partition(":")
    kind = AlsoKind(head) if colon and head in map(str, _PREFIXED) else None
    body = rest if kind is not None else word
    if not body.strip():
        raise UsageError(
            f"--also-back {word!r} names nothing", hint="`backout db restore TARGET --swap --dry-run` prints the words"
        )
    if kind is not None and kind not in _COUNTED:
        return Agreed(kind, body, None)
    name, equals, number = body.rpartition("=")
    counted = bool(equals) and (number == _ALL or (number.isascii() and number.isdecimal()))
    most = None if not counted else _FOREVER if number == _ALL else int(number)
    name = name if counted else body
    if kind is None and name in map(str, _ALONE):
        return Agreed(AlsoKind(name), "", most)
    return Agreed(AlsoKind.DATABASE, name, most)


def find_uncovered(things: Iterable[AlsoBack], words: Sequence[str]) -> tuple[AlsoBack, ...]:
    """Return the things that no word agrees to, or only for fewer rows."""
    agreed = [read_word(word) for word in words]
    return tuple(thing for thing in things if not any(each.covers(thing) for each in agreed))


def list_exact_words(things: Iterable[AlsoBack], words: Sequence[str]) -> tuple[str, ...]:
    """Return words that agree to no more than was shown or typed: one without a number gets that which was shown."""
    found = [word for word in words if read_word(word).most is not None or read_word(word).kind not in _COUNTED]
    loose = [each for each in map(read_word, words) if each.most is None]
    shown = [thing.word for thing in things if any(each.covers(thing) for each in loose)]
    return tuple(dict.fromkeys((*found, *shown)))


def format_flags(things: Iterable[AlsoBack]) -> str:
    """Return what is added to a command line to agree to these things.

    >>> format_flags([AlsoBack(AlsoKind.DATABASE, "my shop", 5), AlsoBack(AlsoKind.UNLOGGED, count=2)])
    "--also-back 'my shop=5' --also-back unlogged=2"
    """
    return " ".join(f"--also-back {shlex.quote(thing.word)}" for thing in things)


def _is_plain(name: str) -> bool:
    return ":" not in name and name not in map(str, _ALONE)
