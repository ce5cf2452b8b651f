"""Laying out text for a terminal of any width; pure. Colour is a role, never the only carrier of meaning."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence

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
    """Return Markdown with its long lines wrapped for a terminal; lists hang under their text, headings stay whole."""
    lines: list[str] = []
    for line in markdown.splitlines():
        mark = next((m for m in ("- [ ] ", "- [x] ", "- ", "> ") if line.startswith(m)), "")
        hanging = "> " if mark == "> " else " " * len(mark)
        lines += [line] if line.startswith(("#", "<!--")) else wrap_text(line, width, hanging=hanging)
    return "\n".join(lines)


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
