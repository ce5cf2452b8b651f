"""Write an environment's pin into the text of a backout.toml, everything else untouched; pure."""

from __future__ import annotations

import copy
import re
import tomllib
from typing import TYPE_CHECKING

from backout.config.toml_lines import lines_of
from backout.config.toml_text import key, literal

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEADER = re.compile(r"^\s*\[")
_DOTTED = re.compile(r"[^=]*\bpin\b[^=]*\.[^=]*=")
_INLINE = re.compile(r"""(\bpin\s*=\s*)\{(?:[^{}"']|"(?:[^"\\]|\\.)*"|'[^']*')*\}""")


def with_pin(text: str, environment: str, pin: Mapping[str, str]) -> str | None:
    """Return the text with these keys of `[environments.NAME.pin]` set, comments and order kept.

    None when the file is written in a way that cannot be edited line by line; nothing but the pin ever changes.
    """
    wanted = _make_expected(text, environment, pin)
    if tomllib.loads(text) == wanted:
        return text
    if text.count("\r\n") == text.count("\n") > 0:  # written on another system: its line ends stay
        edited = with_pin(text.replace("\r\n", "\n"), environment, pin)
        return None if edited is None else edited.replace("\n", "\r\n")
    for edit in (_in_place, _as_new_table, _at_the_end):
        edited = edit(text, environment, pin)
        if edited is not None and _parse(edited) == wanted:
            return edited
    return None


def table_of(environment: str, pin: Mapping[str, str]) -> list[str]:
    """Return the lines of the whole table."""
    return [f"[environments.{key(environment)}.pin]", *(f"{name} = {literal(value)}" for name, value in pin.items())]


def _make_expected(text: str, environment: str, pin: Mapping[str, str]) -> object:
    document = copy.deepcopy(tomllib.loads(text))
    document["environments"][environment].setdefault("pin", {}).update(pin)
    return document


def _parse(text: str) -> object:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _in_place(text: str, environment: str, pin: Mapping[str, str]) -> str | None:
    """Change the values where they stand, and add the missing keys after the header or the last key of the pin."""
    found, at = lines_of(text), ("environments", environment, "pin")
    if at not in found:
        return None
    lines = text.split("\n")
    mine = {str(path[-1]): number - 1 for path, number in found.items() if path[:-1] == at}
    header = lines[found[at] - 1]
    if not _HEADER.match(header) and not _DOTTED.match(header):
        return _inline(text, found[at] - 1, {**_old(text, environment), **pin})
    for name, value in pin.items():
        if name in mine:
            lines[mine[name]] = _replace_value(lines[mine[name]], value)
    before = "" if _HEADER.match(header) else header[: header.index("pin")] + "pin."
    after = max(mine.values(), default=found[at] - 1)
    lines[after + 1 : after + 1] = [f"{before}{name} = {literal(v)}" for name, v in pin.items() if name not in mine]
    return "\n".join(lines)


def _old(text: str, environment: str) -> dict[str, str]:
    document = tomllib.loads(text)
    old: dict[str, str] = document["environments"][environment]["pin"]
    return old


def _inline(text: str, number: int, pin: Mapping[str, str]) -> str:
    lines = text.split("\n")
    lines[number] = _INLINE.sub(lambda match: match[1] + literal(dict(pin)), lines[number], count=1)
    return "\n".join(lines)


def _replace_value(line: str, value: str) -> str:
    """Return the line with another string as its value; a comment after it is kept."""
    pattern = r"""=(\s*)("(?:[^"\\]|\\.)*"|'[^']*')"""
    return re.sub(pattern, lambda match: f"={match[1]}{literal(value)}", line, count=1)


def _as_new_table(text: str, environment: str, pin: Mapping[str, str]) -> str | None:
    """Put the table after the environment's last one."""
    lines = text.split("\n")
    last = max(number for path, number in lines_of(text).items() if path[:2] == ("environments", environment))
    following = next((n for n in range(last, len(lines)) if _HEADER.match(lines[n])), None)
    if following is None:
        return None
    while following > last and (not lines[following - 1].strip() or lines[following - 1].startswith("#")):
        following -= 1  # a comment right above a header is that table's
    lines[following:following] = ["", *table_of(environment, pin)]
    return "\n".join(lines)


def _at_the_end(text: str, environment: str, pin: Mapping[str, str]) -> str:
    return "\n".join([text.rstrip("\n"), "", *table_of(environment, pin), ""])
