"""Finds which of thousands of literals occur in a text: first by four characters of each, then in full; pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")
_GRAM: Final = 4


class LiteralIndex(Generic[T]):
    """A lookup of things by literals.

    Args:
        literals: (literal, what it stands for), shorter ones than four characters are looked for one by one.
    """

    def __init__(self, literals: Iterable[tuple[str, T]]) -> None:
        listed = list(literals)
        often = Counter(gram for literal, _ in listed for gram in _list_grams(literal))
        self._by_gram: dict[str, list[tuple[str, T]]] = {}
        self._short: list[tuple[str, T]] = []
        for literal, thing in listed:
            if len(literal) < _GRAM:
                self._short.append((literal, thing))
                continue
            rarest = min(_list_grams(literal), key=lambda gram: often[gram])
            self._by_gram.setdefault(rarest, []).append((literal, thing))

    def find(self, text: str) -> set[T]:
        """Return the things with a literal in the text."""
        present = self._by_gram.keys() & {text[at : at + _GRAM] for at in range(len(text) - _GRAM + 1)}
        things = {thing for literal, thing in self._short if literal in text}
        for gram in present:
            things.update(thing for literal, thing in self._by_gram[gram] if thing not in things and literal in text)
        return things


def _list_grams(literal: str) -> list[str]:
    return [literal[at : at + _GRAM] for at in range(len(literal) - _GRAM + 1)]
