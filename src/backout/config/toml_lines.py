"""The line of each key of a valid TOML text: a scanner for positions only; tomllib reads the values."""

from __future__ import annotations

import re
import tomllib

Path = tuple[str | int, ...]

_SKIP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BLANK = re.compile(r"[ \t]*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*'""")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|' + r"'''.*?'{3,5}|" + r'"(?:[^"\\]|\\.)*"|' + r"'[^']*'",
    re.DOTALL,
)
_BARE = re.compile(r"[^,\]}#\r\n]+")


def find_lines(text: str) -> dict[Path, int]:
    r"""Return {path: line, from 1} of every key, table and array item of a text that tomllib accepts.

    >>> find_lines('[a]\nb = { c = [1,\n 2] }')[("a", "b", "c", 1)]
    3
    """
    return _Scanner(text).document()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._at = 0
        self._line = 1
        self._counted = 0
        self._found: dict[Path, int] = {}

    def document(self) -> dict[Path, int]:
        table: Path = ()
        arrays: dict[Path, int] = {}
        while True:
            self._skip(_SKIP)
            if self._at >= len(self._text):
                return self._found
            if self._peek("[["):
                self._at += 2
                name = self._resolve(self._key(), arrays)
                arrays[name] = arrays.get(name, -1) + 1
                table = self._note((*name, arrays[name]))
                self._take("]]")
            elif self._peek("["):
                self._at += 1
                table = self._note(self._resolve(self._key(), arrays))
                self._take("]")
            else:
                self._pair(table)

    def _resolve(self, key: tuple[str, ...], arrays: dict[Path, int]) -> Path:
        """Insert the index of the current item wherever the header names an array of tables."""
        path: Path = ()
        for part in key[:-1]:
            path = (*path, part)
            path = (*path, arrays[path]) if path in arrays else path
        return (*path, key[-1])

    def _note(self, path: Path) -> Path:
        line = self._here()
        for length in range(1, len(path) + 1):
            self._found.setdefault(path[:length], line)
        return path

    def _pair(self, table: Path) -> None:
        path = self._note((*table, *self._key()))
        self._take("=")
        self._value(path)

    def _key(self) -> tuple[str, ...]:
        parts = []
        while True:
            self._skip(_BLANK)
            parts.append(_unquote(self._match(_KEY)))
            self._skip(_BLANK)
            if not self._peek("."):
                return tuple(parts)
            self._at += 1

    def _value(self, path: Path) -> None:
        self._skip(_BLANK)
        if self._peek("["):
            self._items(path, "]", array=True)
        elif self._peek("{"):
            self._items(path, "}", array=False)
        elif self._peek('"') or self._peek("'"):
            self._match(_STRING)
        else:
            self._match(_BARE)

    def _items(self, path: Path, end: str, *, array: bool) -> None:
        self._at += 1
        index = 0
        while True:
            self._skip(_SKIP)
            if self._peek(end):
                self._at += 1
                return
            if array:
                self._value(self._note((*path, index)))
            else:
                self._pair(path)
            index += 1
            self._skip(_SKIP)
            if self._peek(","):
                self._at += 1

    def _here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def _peek(self, token: str) -> bool:
        return self._text.startswith(token, self._at)

    def _take(self, token: str) -> None:
        self._skip(_BLANK)
        if not self._peek(token):
            raise ValueError(f"expected {token} at line {self._here()}")
        self._at += len(token)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _match(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise ValueError(f"cannot read line {self._here()}")
        self._at = match.end()
        return match[0]


def _unquote(key: str) -> str:
    if key[0] == "'":
        return key[1:-1]
    if key[0] == '"':
        return str(tomllib.loads(f"k = {key}")["k"])
    return key
