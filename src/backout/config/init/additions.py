"""Add a setting to the text of a backout.toml, everything else untouched, and tell which lines that takes; pure."""

from __future__ import annotations

import copy
import difflib
import re
from typing import TYPE_CHECKING

from backout.config.toml_lines import find_lines
from backout.config.toml_text import format_key, format_literal
from backout.decoding import decode_toml
from backout.model.setting import PATTERN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_HEADER = re.compile(r"^\s*\[[^\[]")
Table = tuple[str, ...]


def rewrite_for_file(words: str, text: str, name: str) -> str:
    """Return the words of an error with each setting in them as lines for this very file.

    Args:
        words: with settings as `backout.model.setting` writes them.
        text: the file's.
        name: what it is called.
    """

    def describe_edit(found: re.Match[str]) -> str:
        table, values = _read(found)
        edited = set_values(text, table, values)
        return (
            f"in {name}, {found[0].partition(', ')[2]}" if edited is None else _describe_difference(text, edited, name)
        )

    parts: list[str] = []
    at = 0
    for found in PATTERN.finditer(words):
        said = words[at : found.start()]
        parts += [_move_behind_lines(parts, said), describe_edit(found)]
        at = found.end()
    return "".join([*parts, _move_behind_lines(parts, words[at:])])


def _move_behind_lines(parts: Sequence[str], said: str) -> str:
    """Return the text that follows lines of a file on a line of its own, or it would be pasted with them."""
    if not said.strip() or not parts or "\n" not in parts[-1]:
        return said
    return "\n" + said.lstrip(" ;,.")


def find_settings(words: str) -> list[tuple[Table, dict[str, object]]]:
    """Return the settings that an error's words name."""
    return [_read(found) for found in PATTERN.finditer(words)]


def _read(found: re.Match[str]) -> tuple[Table, dict[str, object]]:
    table: Table = ()
    inner: object = decode_toml(f"[{found['table']}]")
    while isinstance(inner, dict) and inner:
        ((part, inner),) = inner.items()
        table = (*table, part)
    values: dict[str, object] = decode_toml(f"v = {found['values']}")["v"]
    return table, values


def set_values(text: str, table: Table, values: Mapping[str, object]) -> str | None:
    """Return the text with these keys of a table set; None if it cannot be edited line by line."""
    for name, value in values.items():
        edited = _set_value(text, table, name, value)
        if edited is None:
            return None
        text = edited
    return text


def _set_value(text: str, table: Table, name: str, value: object) -> str | None:
    wanted = copy.deepcopy(decode_toml(text))
    inner = wanted
    for part in table:
        inner = inner.setdefault(part, {})
        if not isinstance(inner, dict):
            return None
    inner[name] = value
    line = f"{format_key(name)} = {format_literal(value)}"
    for edited in (
        _replace_in_place(text, table, name, line),
        _insert_below_header(text, table, line),
        *_rewrite_one_line(text, table, name, value),
        _append_table(text, table, line),
    ):
        if edited is not None and _parse(edited) == wanted:
            return edited
    return None


def _replace_in_place(text: str, table: Table, name: str, line: str) -> str | None:
    """Put it in place of the key, on a line of its own; a comment after it stays."""
    found = find_lines(text).get((*table, name))
    if found is None:
        return None
    lines = text.split("\n")
    comment = re.search(r"\s+#[^\"']*$", lines[found - 1])
    lines[found - 1] = line + (comment[0] if comment else "")
    return "\n".join(lines)


def _insert_below_header(text: str, table: Table, line: str) -> str | None:
    """Put it below the last key of the table, which has its own header."""
    found = find_lines(text)
    if table not in found or not _HEADER.match(text.split("\n")[found[table] - 1]):
        return None
    lines = text.split("\n")
    last = found[table]
    for path, number in found.items():
        is_inside = path[: len(table)] == table and not _HEADER.match(lines[number - 1])
        if is_inside and _find_header_end(lines, number) == found[table]:
            last = max(last, number)
    lines.insert(last, line)
    return "\n".join(lines)


def _find_header_end(lines: Sequence[str], number: int) -> int:
    return next((above for above in range(number, 0, -1) if _HEADER.match(lines[above - 1])), 0)


def _rewrite_one_line(text: str, table: Table, name: str, value: object) -> Iterator[str]:
    """Rewrite a parent table that is on one line, with the setting added; the outermost one first."""
    found, document = find_lines(text), decode_toml(text)
    for length in range(1, len(table) + 1):
        lines = text.split("\n")
        number = found.get(table[:length])
        if number is None or _HEADER.match(lines[number - 1]):
            continue
        whole = copy.deepcopy(document)
        for part in table[:length]:
            whole = whole[part]
        deepest = whole
        for part in table[length:]:
            deepest = deepest.setdefault(part, {})
        if not isinstance(deepest, dict):
            return
        deepest[name] = value
        before, _, rest = lines[number - 1].partition("{")
        lines[number - 1] = before + format_literal(whole) + _get_text_behind(rest)
        yield "\n".join(lines)


def _get_text_behind(rest: str) -> str:
    """Return the text after the closing brace of what was opened before `rest`."""
    depth, quote, at = 1, "", 0
    while at < len(rest) and depth:
        sign = rest[at]
        if quote:
            at += sign == "\\" and quote == '"'
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        else:
            depth += (sign == "{") - (sign == "}")
        at += 1
    return rest[at:]


def _append_table(text: str, table: Table, line: str) -> str:
    return "\n".join([text.rstrip("\n"), "", f"[{'.'.join(map(format_key, table))}]", line, ""])


def _parse(text: str) -> object:
    try:
        return decode_toml(text)
    except ValueError:
        return None


def _describe_difference(before: str, after: str, name: str) -> str:
    """Return the change of lines in words."""
    old, new = before.rstrip("\n").split("\n"), after.rstrip("\n").split("\n")
    parts = []
    for kind, first, last, start, end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        lines = "".join(f"\n    {each}" for each in new[start:end] if each.strip())
        if kind == "replace":
            place = f"in place of line {first + 1}" if last == first + 1 else f"in place of lines {first + 1} to {last}"
        else:
            place = f"below line {first}" if first < len(old) else "at the end"
        parts.append(f"{place} of {name}:{lines}")
    return "; ".join(parts) or f"it is in {name} already"
