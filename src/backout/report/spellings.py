r"""All spellings of a text reduced to one: what encodings, layouts and terminals add is removed; pure.

A secret is looked for in this *bare* form of a text, so that it does not matter how it was written: percent signs in
either case, JSON, Python and Markdown with their backslashes, HTML's entities, colours, invisible characters, the line
breaks and `> ` of whatever wrapped it. What decoding removes is removed from the secret as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from backout.escaping import INVISIBLE
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_ROUNDS = 5
"""How many nested encodings are followed: JSON in a URL in JSON."""
_DROPPED = "+>"
"""What quoting and forms add (a blank is `+` there); white space goes as well: it is what wrapping adds."""
_EDGE = 8
"""This many characters of a value, at its beginning or end, show that the rest was cut off: see `Needle`."""
_SHORTEST_CUT, _EDGE_OF_WORDS = 12, 16
"""A shorter value is recognized only as a whole; of one that begins like a word, more must be present."""

Place = tuple[int, int]
Piece = tuple[str, int, int]
"""(characters, from, to): what a part of a text means, and where in the text it begins and ends."""
Read = Callable[[re.Match[str]], list[Piece]]


class Needle(Value, frozen=True):
    """One bare form of a value.

    Args:
        text: all of it.
        head, tail: what is enough of its beginning or end, for texts that were cut before they got here.
    """

    text: str
    head: str
    tail: str

    @classmethod
    def of(cls, text: str, *, whole: bool = False) -> Needle:
        """Return the needle of a bare text; `whole`: a part of it gives nothing away (a URL)."""
        most = len(text) if whole else _measure_enough(text)
        return cls(text, text[:most], text[len(text) - (len(text) if whole else _measure_enough(text[::-1])) :])

    def stands_in(self, bare: str) -> bool:
        """Whether it, or enough of its beginning or end, is in a bare text."""
        return self.head in bare or self.tail in bare

    def find_in(self, bare: str) -> Iterator[tuple[int, int]]:
        """Yield where it occurs, each time as far as it agrees."""
        for at in _find_places(self.head, bare):
            yield at, at + _agree(self.text, bare[at : at + len(self.text)])
        for at in _find_places(self.tail, bare):
            end = at + len(self.tail)
            before = bare[max(0, end - len(self.text)) : end]
            yield end - _agree(self.text[::-1], before[::-1]), end


def _find_places(part: str, text: str) -> Iterator[int]:
    at = text.find(part)
    while at >= 0:
        yield at
        at = text.find(part, at + 1)


def _agree(one: str, other: str) -> int:
    """Return the length of the common beginning of two texts."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _measure_enough(text: str) -> int:
    """Return how many characters of the beginning cannot be an ordinary word: digits, or both cases, are among them."""
    if len(text) < _SHORTEST_CUT:
        return len(text)
    most = min(len(text), max(_EDGE_OF_WORDS, (len(text) + 1) // 2))
    return min(most, max(_EDGE, _count_to_no_word(text)))


def _count_to_no_word(text: str) -> int:
    """Return how many characters of the beginning are no ordinary word any more, more than there are where all are one.

    >>> [_count_to_no_word(each) for each in ("abC1", "ab1", "12x", "ABCd", "")]
    [3, 3, 3, 5, 1]
    """
    has_digit = has_letter = False
    for count, (before, each) in enumerate(zip(f" {text}", text, strict=False), 1):
        has_digit, has_letter = has_digit or each.isdigit(), has_letter or each.isalpha()
        if (has_digit and has_letter) or (before.islower() and each.isupper()):
            return count
    return len(text) + 1


def make_bare(text: str, *, decoded: bool = True) -> str:
    r"""Return the bare form of a text; `decoded=False`: only without layout, for what decoding may tear apart.

    >>> make_bare("a%2Fb \\u002f\\\n  c&#x2F;\\_d")
    'a/b/c/_d'
    """
    forms = list_bare_forms(text)
    return forms[-1] if decoded else forms[0]


def list_bare_forms(text: str) -> list[str]:
    """Return the bare form of a text as it is, and after each round of decoding that changes it.

    Each may show what the next one hides: decoding makes another character of a value's last `%0` and what stands
    behind it.

    >>> list_bare_forms("plain"), list_bare_forms("a%250 0")
    (['plain'], ['a%2500', 'a%00', 'a'])
    """
    for pattern in _LAYOUT:
        text = pattern().sub("", text)
    text = _squeeze(text)
    found = [text]
    for _ in range(_MOST_ROUNDS):
        for sign, pattern, read in _ENCODINGS:
            if sign in text:
                text = _squeeze(pattern().sub(_make_joiner(read), text))
        if text == found[-1]:
            break
        found.append(text)
    return [_drop_signs(form, _DROPPED) for form in found]


def locate_bare_forms(text: str) -> list[tuple[str, list[Place]]]:
    """Return the same, and for each character of a form where in the text it begins and ends."""
    places = [(at, at + 1) for at in range(len(text))]
    for pattern in _LAYOUT:
        text, places = _replace_matches(text, places, pattern(), lambda _: [])
    text, places = _keep_characters(text, places, _squeeze)
    found = [(text, places)]
    for _ in range(_MOST_ROUNDS):
        for sign, pattern, read in _ENCODINGS:
            if sign in text:
                text, places = _keep_characters(*_replace_matches(text, places, pattern(), read), _squeeze)
        if text == found[-1][0]:
            break
        found.append((text, places))
    return [_keep_characters(form, where, lambda character: _drop_signs(character, _DROPPED)) for form, where in found]


def _keep_characters(text: str, places: list[Place], keep: Callable[[str], str]) -> tuple[str, list[Place]]:
    if keep(text) == text:
        return text, places
    kept = [at for at, character in enumerate(text) if keep(character)]
    return "".join(text[at] for at in kept), [places[at] for at in kept]


def _squeeze(text: str) -> str:
    """Return the text without white space and without what cannot be seen."""
    text = "".join(text.split())
    return text if text.isascii() and text.isprintable() else _compile_unseen().sub("", text)


def _drop_signs(text: str, signs: str) -> str:
    for sign in signs:
        if sign in text:
            text = text.replace(sign, "")
    return text


@cache
def _compile_unseen() -> re.Pattern[str]:
    return re.compile(rf"[\x00-\x1f\x7f-\x9f{INVISIBLE}]")


def _make_joiner(read: Read) -> Callable[[re.Match[str]], str]:
    return lambda found: "".join(piece[0] for piece in read(found))


def _replace_matches(text: str, places: list[Place], pattern: re.Pattern[str], read: Read) -> tuple[str, list[Place]]:
    parts: list[str] = []
    kept: list[Place] = []
    at = 0
    for found in pattern.finditer(text):
        parts.append(text[at : found.start()])
        kept += places[at : found.start()]
        for characters, begin, end in read(found):
            parts.append(characters)
            kept += [(places[begin][0], places[end - 1][1])] * len(characters)
        at = found.end()
    return "".join([*parts, text[at:]]), kept + places[at:]


# --- what is decoded ----------------------------------------------------------------------------------------------


@cache
def _compile_colour() -> re.Pattern[str]:
    return re.compile(r"\x1b\[[0-9;]*m")


@cache
def _compile_line_start() -> re.Pattern[str]:
    return re.compile(r"\n[ \t]*(?:>[ \t]?)+")


@cache
def _compile_backslashes() -> re.Pattern[str]:
    return re.compile(
        r"\\+u(?P<high>[dD][89abAB][0-9a-fA-F]{2})\\+u(?P<low>[dD][c-fC-F][0-9a-fA-F]{2})"
        r"|\\+(?:u(?P<four>[0-9a-fA-F]{4})|U(?P<eight>[0-9a-fA-F]{8})|u\{(?P<some>[0-9a-fA-F]{1,6})\})"
        r"|(?P<bytes>(?:\\+(?:x[0-9a-fA-F]{2}|[0-3][0-7]{2}))+)"
        r"|\\+[nrt]?"
    )


@cache
def _compile_percent() -> re.Pattern[str]:
    return re.compile(r"(?:%[0-9a-fA-F]{2})+")


@cache
def _compile_entity() -> re.Pattern[str]:
    return re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


@cache
def _compile_byte() -> re.Pattern[str]:
    return re.compile(r"\\+(?:x([0-9a-fA-F]{2})|([0-3][0-7]{2}))|%([0-9a-fA-F]{2})")


def _decode_backslash(found: re.Match[str]) -> list[Piece]:
    begin, end = found.span()
    if found["bytes"]:
        return _decode_percent(found)
    if found["high"]:
        high, low = int(found["high"], 16) - 0xD800, int(found["low"], 16) - 0xDC00
        return [(chr(0x10000 + (high << 10) + low), begin, end)]
    digits = found["four"] or found["eight"] or found["some"]
    code = int(digits, 16) if digits else 0
    return [(chr(code), begin, end)] if 0 < code <= 0x10FFFF else []


def _decode_percent(found: re.Match[str]) -> list[Piece]:
    """Return the characters of a run of encoded bytes, each with its own place."""
    each = list(_compile_byte().finditer(found[0]))
    raw = bytes(int(part[1] or part[3], 16) if part[1] or part[3] else int(part[2], 8) for part in each)
    pieces: list[Piece] = []
    at = 0
    while at < len(raw):
        character, size = _decode_character(raw, at)
        pieces.append((character, found.start() + each[at].start(), found.start() + each[at + size - 1].end()))
        at += size
    return pieces


def _decode_character(raw: bytes, at: int) -> tuple[str, int]:
    """Return the UTF-8 character that begins there and its bytes, else the byte as Latin-1."""
    for size in (1, 2, 3, 4):
        try:
            return raw[at : at + size].decode(), min(size, len(raw) - at)
        except UnicodeDecodeError:
            continue
    return chr(raw[at]), 1


def _decode_entity(found: re.Match[str]) -> list[Piece]:
    from html import unescape

    meant = unescape(found[0])
    if meant != found[0]:
        return [(meant, *found.span())]
    return [(character, at, at + 1) for at, character in enumerate(meant, found.start())]


_LAYOUT: tuple[Callable[[], re.Pattern[str]], ...] = (_compile_line_start, _compile_colour)
_ENCODINGS: tuple[tuple[str, Callable[[], re.Pattern[str]], Read], ...] = (
    ("\\", _compile_backslashes, _decode_backslash),
    ("%", _compile_percent, _decode_percent),
    ("&", _compile_entity, _decode_entity),
)
"""(what a text must hold for it, its pattern, what a place means)"""
