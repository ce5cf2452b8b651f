"""Laying out text for a terminal of any width; pure. Colour is a role, never the only carrier of meaning."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Final

_PICTURE: Final = re.compile(r"!\[(.*)\]\(([^()\s]+)\)")
_LINK: Final = re.compile(r"\[([^\[\]]+)\]\(([^()\s]+)\)")
_BAR: Final = re.compile(r"(?<!\\)\|")
_RULE: Final = re.compile(r":?-+:?")

Paint = Callable[[str, str], str]
"""(role, text) -> text; roles: good, bad, warn, dim, strong."""


def leave_plain(role: str, text: str) -> str:  # noqa: ARG001 the Paint protocol
    """Return the text as it is."""
    return text


def wrap_text(text: str, width: int, *, indent: str = "", hanging: str | None = None) -> list[str]:
    """Return the text in lines of at most `width`, words (ids, commands) never broken."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent if hanging is None else hanging,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [indent]


def reflow_markdown(markdown: str, width: int) -> str:
    """Return Markdown laid out for a terminal: long lines wrapped, lists under their text, tables in columns.

    Headings stay whole. A table that does not fit has a line for each cell; of a picture its file and its words stand.
    """
    lines: list[str] = []
    is_code = False
    for is_row, block in itertools.groupby(markdown.splitlines(), lambda line: line.startswith("|")):
        texts = list(block)
        rows = [_split_cells(line) for line in texts] if is_row and not is_code else []
        if rows and _is_table(rows):
            lines += _format_table(rows, width)
            continue
        for line in texts:
            is_fence = line.lstrip().startswith("```")
            lines += [line] if is_code or is_fence else _reflow_line(line, width)
            is_code ^= is_fence
    return "\n".join(lines)


def _reflow_line(line: str, width: int) -> list[str]:
    picture = _PICTURE.fullmatch(line)
    text = f"Picture {picture[2]}: {picture[1]}" if picture else line
    mark = next((m for m in ("- [ ] ", "- [x] ", "- ", "> ") if text.startswith(m)), "")
    hanging = "> " if mark == "> " else " " * len(mark)
    return [text] if text.startswith(("#", "<!--")) else wrap_text(text, width, hanging=hanging)


def _is_table(rows: Sequence[Sequence[str]]) -> bool:
    """Whether lines are a table, and not a person's that begin with a bar: a rule below the head, cells as there."""
    head, *others = rows
    has_rule = bool(others) and all(map(_RULE.fullmatch, others[0]))
    return has_rule and all(len(row) == len(head) for row in others)


def _split_cells(row: str) -> list[str]:
    cells = _BAR.split(row.strip().removeprefix("|").removesuffix("|"))
    return [_LINK.sub(r"\1 \2", cell.strip().replace("\\|", "|")) for cell in cells]


def _format_table(rows: list[list[str]], width: int) -> list[str]:
    """Return a table in columns, or, where it is too wide, each row as a line for each of its cells."""
    head, _, *others = rows
    widths = [max(map(len, column)) for column in zip(head, *others, strict=True)]
    if sum(widths) + 2 * (len(widths) - 1) <= width:
        every = [head, *others] if any(head) else others
        return ["  ".join(f"{cell:<{size}}" for cell, size in zip(row, widths, strict=True)).rstrip() for row in every]
    lines: list[str] = []
    for row in others:
        named = [(name, cell) for name, cell in zip(head, row, strict=True) if cell]
        lines += [*([""] if lines else []), *format_fields(named, width)]
    return lines


def format_fields(
    rows: Sequence[tuple[str, str]], width: int, *, indent: str = "  ", paint: Paint = leave_plain
) -> list[str]:
    """Return `label  text` lines, the labels in one column, long texts hanging under their first word.

    >>> format_fields([("why", "it fails"), ("target", "v41")], 80)
    ['  why     it fails', '  target  v41']
    """
    column = max((len(label) for label, _ in rows), default=0)
    lines: list[str] = []
    for label, text in rows:
        start = f"{indent}{label:<{column}}  "
        found = wrap_text(text, width, indent=start, hanging=" " * len(start))
        found[0] = indent + paint("dim", f"{label:<{column}}") + found[0][len(indent) + column :]
        lines += found
    return lines
