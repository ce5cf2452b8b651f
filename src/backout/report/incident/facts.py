r"""Facts within a page that people write into: each block stands between markers that carry its hash; pure.

What people wrote is never changed. A block is replaced only where it stands once and as it was written; one that was
edited stays, and new facts follow below it; where its markers are gone, doubled or in disorder, they go to the end of
the page. Line ends may be converted (CRLF): that is no edit.

    <!-- facts summary 1 0123456789abcdef -->
    Version ... went live
    <!-- end of facts summary 1 -->
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_BEGIN: Final = re.compile(r"<!-- facts ([a-z]+) (\d{1,6}) ([0-9a-f]{16}) -->\r?")
_STARTS: Final = ("<!-- facts ", "<!-- end of facts ")
_END: Final = re.compile(r"<!-- end of facts ([a-z]+) (\d{1,6}) -->\r?")


class Block(Value, frozen=True):
    """The facts of one section: a name of lower-case letters, a title for where it stands alone, and its text."""

    name: str
    title: str
    text: str


class _Mark(Value, frozen=True):
    """A marker: its line, the number of its block, and the hash if it begins one."""

    line: int
    number: int
    hash: str = ""


def format_block(block: Block, number: int = 1, newline: str = "\n") -> str:
    """Return a block between its markers, without a line end after it."""
    lines = _list_lines(block)
    begin = f"<!-- facts {block.name} {number} {_hash(block.name, lines)} -->"
    return newline.join([begin, *lines, f"<!-- end of facts {block.name} {number} -->"])


def merge(page: str, blocks: Iterable[Block]) -> str:
    """Return a page with the facts as they are now; every other character of it stays, in its order.

    The same facts once more change nothing.
    """
    for block in blocks:
        page = _merge(page, block)
    return page


def _merge(page: str, block: Block) -> str:
    lines = page.split("\n")  # alone: other separators are characters of a line
    begins, ends = _find_marks(lines, block.name)
    new = _hash(block.name, _list_lines(block))
    number = max((mark.number for mark in (*begins, *ends)), default=0)
    newline = "\r\n" if 2 * page.count("\r\n") > page.count("\n") else "\n"
    span = _find_span(lines, begins, ends, number)
    if span is None:
        if any(mark.hash == new for mark in begins):
            return page  # these very facts stand there, in whatever disorder
        return _append(page, block, number + 1, newline)
    begin, end = span
    written = lines[begin.line + 1 : end.line]
    if _hash(block.name, written) != begin.hash:
        if begin.hash == new:
            return page
        below = ["", f"*{block.title}, as it is known now:*", "", format_block(block, number + 1), ""]
        return _insert(lines, end.line + 1, below, newline)
    if begin.hash == new:
        return page
    own = "\r" if lines[begin.line].endswith("\r") else ""
    made = format_block(block, number).split("\n")
    last = lines[end.line]  # as it stands: it may be the last line of the page
    return "\n".join([*lines[: begin.line], *(f"{line}{own}" for line in made[:-1]), last, *lines[end.line + 1 :]])


def _find_marks(lines: Sequence[str], name: str) -> tuple[list[_Mark], list[_Mark]]:
    begins, ends = [], []
    for at, line in enumerate(lines):
        if not line.startswith(_STARTS):
            continue
        if (begun := _BEGIN.fullmatch(line)) and begun[1] == name:
            begins.append(_Mark(at, int(begun[2]), begun[3]))
        elif (ended := _END.fullmatch(line)) and ended[1] == name:
            ends.append(_Mark(at, int(ended[2])))
    return begins, ends


def _find_span(
    lines: Sequence[str], begins: Sequence[_Mark], ends: Sequence[_Mark], number: int
) -> tuple[_Mark, _Mark] | None:
    """Return the markers of the newest block if each stands once, in order, with no other marker between them."""
    begin = [mark for mark in begins if mark.number == number]
    end = [mark for mark in ends if mark.number == number]
    if len(begin) != 1 or len(end) != 1 or begin[0].line >= end[0].line:
        return None
    between = lines[begin[0].line + 1 : end[0].line]
    return None if any(_BEGIN.fullmatch(line) or _END.fullmatch(line) for line in between) else (begin[0], end[0])


def _append(page: str, block: Block, number: int, newline: str) -> str:
    begin = "" if not page or page.endswith("\n") else newline
    head = [] if number == 1 and not page else ["", f"**{block.title}**", ""]
    return page + begin + newline.join([*head, format_block(block, number, newline), ""])


def _insert(lines: list[str], at: int, more: Sequence[str], newline: str) -> str:
    text = "\n".join(more).replace("\n", newline)
    before, after = "\n".join(lines[:at]), "\n".join(lines[at:])
    if at >= len(lines):  # the marker is the last line, without a line end
        return f"{before}{newline}{text}"
    return f"{before}\n{text}{newline if after else ''}{after}"


def _list_lines(block: Block) -> list[str]:
    """Return the lines of a block's text; none of them is a marker, whatever somebody wrote into a log."""
    lines = (line.rstrip("\r") for line in block.text.split("\n"))
    return [f"&lt;{line[1:]}" if line.startswith(_STARTS) else line for line in lines]


def _hash(name: str, lines: Iterable[str]) -> str:
    text = "\n".join([name, *(line.removesuffix("\r") for line in lines)])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
