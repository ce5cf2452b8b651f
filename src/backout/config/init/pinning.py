"""Write an environment's pin into the text of a backout.toml, everything else untouched; pure."""

from __future__ import annotations

import copy
import re
import tomllib
from typing import TYPE_CHECKING

from backout.config.toml_lines import find_lines
from backout.config.toml_text import format_key, format_literal

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEADER = re.compile(r"^\s*\[")
_DOTTED = re.compile(r"[^=]*\bpin\b[^=]*\.[^=]*=")
_INLINE = re.compile(r"""(\bpin\s*=\s*)\{(?:[^{}"']|"(?:[^"\\]|\\.)*"|'[^']*')*\}""")


def set_pin(text: str, environment: str, pin: Mapping[str, str]) -> str | None:
    """Return the text with these keys of `[environments.NAME.pin]` set, comments and order kept.

    None when the file is written in a way that cannot be edited line by line; nothing but the pin ever changes.
    """
    wanted = _make_expected(text, environment, pin)
    if tomllib.loads(text) == wanted:
        return text
    if text.count("\r\n") == text.count("\n") > 0:  # written on another system: its line ends stay
        edited = set_pin(text.replace("\r\n", "\n"), environment, pin)
        return None if edited is None else edited.replace("\n", "\r\n")
    for edit in (_replace_in_place, _insert_table, _append_table):
        edited = edit(text, environment, pin)
        if edited is not None and _parse(edited) == wanted:
            return edited
    return None


def format_table(environment: str, pin: Mapping[str, str]) -> list[str]:
    """Return the lines of the whole table."""
    return [
        f"[environments.{format_key(environment)}.pin]",
        *(f"{name} = {format_literal(value)}" for name, value in pin.items()),
    ]


def _make_expected(text: str, environment: str, pin: Mapping[str, str]) -> object:
    document = copy.deepcopy(tomllib.loads(text))
    document["environments"][environment].setdefault("pin", {}).update(pin)
    return document


def _parse(text: str) -> object:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _replace_in_place(text: str, environment: str, pin: Mapping[str, str]) -> str | None:
    """Change the values where they stand, and add the missing keys after the header or the last key of the pin."""
    found, at = find_lines(text), ("environments", environment, "pin")
    if at not in found:
        return None
    lines = text.split("\n")
    mine = {str(path[-1]): number - 1 for path, number in found.items() if path[:-1] == at}
    header = lines[found[at] - 1]
    if not _HEADER.match(header) and not _DOTTED.match(header):
        return _inline(text, found[at] - 1, {**_read_old(text, environment), **pin})
    for name, value in pin.items():
        if name in mine:
            lines[mine[name]] = _replace_value(lines[mine[name]], value)
    before = "" if _HEADER.match(header) else header[: header.index("pin")] + "pin."
    after = max(mine.values(), default=found[at] - 1)
    lines[after + 1 : after + 1] = [
        f"{before}{name} = {format_literal(v)}" for name, v in pin.items() if name not in mine
    ]
    return "\n".join(lines)


def _read_old(text: str, environment: str) -> dict[str, str]:
    document = tomllib.loads(text)
    old: dict[str, str] = document["environments"][environment]["pin"]
    return old


def _inline(text: str, number: int, pin: Mapping[str, str]) -> str:
    lines = text.split("\n")
    lines[number] = _INLINE.sub(lambda match: match[1] + format_literal(dict(pin)), lines[number], count=1)
    return "\n".join(lines)


def _replace_value(line: str, value: str) -> str:
    """Return the line with another string as its value; a comment after it is kept."""
    pattern = r"""=(\s*)("(?:[^"\\]|\\.)*"|'[^']*')"""
    return re.sub(pattern, lambda match: f"={match[1]}{format_literal(value)}", line, count=1)


def _insert_table(text: str, environment: str, pin: Mapping[str, str]) -> str | None:
    """Put the table after the environment's last one."""
    lines = text.split("\n")
    last = max(number for path, number in find_lines(text).items() if path[:2] == ("environments", environment))
    following = next((n for n in range(last, len(lines)) if _HEADER.match(lines[n])), None)
    if following is None:
        return None
    while following > last and (not lines[following - 1].strip() or lines[following - 1].startswith("#")):
        following -= 1  # a comment right above a header is that table's
    lines[following:following] = ["", *format_table(environment, pin)]
    return "\n".join(lines)


def _append_table(text: str, environment: str, pin: Mapping[str, str]) -> str:
    return "\n".join([text.rstrip("\n"), "", *format_table(environment, pin), ""])
