"""Whether an output names a loss: the table, and how many rows or which; a table's name alone tells nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from database_lab.schema import find_partition

if TYPE_CHECKING:
    from collections.abc import Sequence

_KEY: Final = re.compile(r"\((?P<key>'.*?),?\) (?:is not there|should not be there|[^ (]+: )")
_COLUMN: Final = re.compile(r"\) (?P<name>.+?): '?|column \"?(?P<gone>[^\" ]+)\"? does not exist")
_WHOLE: Final = re.compile(r"left out: (?:table|rows of) ")
_FIGURE: Final = re.compile(r"(?<![\w.])\d[\d,]*(?= (?:more )?(?:rows|row|damaged))")
_RIGHT: Final = "were written since in other columns"
"""Said of rows that came back."""
_LISTED: Final = ": left as they are"
_COUNTS: Final = 4
"""How many figures the table of results has of each table: what was written, and last what was left as it is."""


def is_named(table: str, wrong: Sequence[str], said: str) -> bool:
    """Whether an output names what is wrong with a table: it as a whole, its columns, their number, or the rows.

    Of a partitioned one the partitions that hold those rows may be named in its place.

    Args:
        wrong: as `differences` tells it.
    """
    if _names_itself(table, wrong, said):
        return True
    parts = dict[str, list[str]]()
    for each in wrong:
        key = re.findall(r"'([^']*)'", each.partition(")")[0])
        parts.setdefault(find_partition(table, key), []).append(each)
    return table not in parts and all(_names_itself(part, rows, said) for part, rows in parts.items())


def _names_itself(table: str, wrong: Sequence[str], said: str) -> bool:
    plain = table.replace('"', "")
    names = {table, plain, plain.split(".", 1)[-1]}
    lines = [line for line in said.splitlines() if any(_has(line, name) for name in names)]
    if any(_is_whole(line, names) for line in lines):
        return True
    columns = {found["name"] or found["gone"] for each in wrong if (found := _COLUMN.search(each)) is not None}
    left = {line.split(":")[1].split()[-1].rsplit(".", 1)[-1] for line in lines if line.startswith("left out: column ")}
    if columns and columns <= left and not any(each.endswith("there") for each in wrong):
        return True
    if any(_LISTED in line and "..." not in line for line in lines):
        lines = [line for line in lines if not _has_figures(line, names)]  # each of those is named, and so no other
    keys = {found["key"].replace("'", "") for each in wrong if (found := _KEY.match(each)) is not None}
    rows = len(keys) or len(wrong)
    told = set[str]().union(*(_told(line, names) for line in lines if _RIGHT not in line))
    return (bool(keys) and keys <= told) or any(_counts(line, names, rows) for line in lines)


def _has(line: str, name: str) -> bool:
    return re.search(rf"(?<![\w]){re.escape(name)}(?![\w])", line) is not None


def _is_whole(line: str, names: set[str]) -> bool:
    """Whether a table is named as left alone: by itself, with its schema, or in the table of results with a reason."""
    if _WHOLE.match(line):
        return True
    cells = re.split(r"\s{2,}", line.strip(), maxsplit=_COUNTS + 1)
    if not _has_figures(line, names) or len(cells) <= _COUNTS + 1:
        return False
    last = cells[_COUNTS + 1]
    return " " in last and not re.fullmatch(r"[^ ,]+(, [^ ,]+)*", last)


def _has_figures(line: str, names: set[str]) -> bool:
    cells = re.split(r"\s{2,}", line.strip())
    return cells[0] in names and len(cells) > _COUNTS and all(cell.isdecimal() for cell in cells[1 : _COUNTS + 1])


def _told(line: str, names: set[str]) -> set[str]:
    """Return what may be keys of rows in a line."""
    if _has_figures(line, names):
        return set()
    return {each.strip(" ()'") for each in re.split(r"[,:;] ", _without(line, names))}


def _without(line: str, names: set[str]) -> str:
    for name in names:
        line = line.replace(name, "")
    return line


def _counts(line: str, names: set[str], rows: int) -> bool:
    if _has_figures(line, names):
        return int(re.split(r"\s{2,}", line.strip())[_COUNTS]) >= rows  # what was written is no loss
    if _RIGHT in line:
        return False
    return any(int(figure.replace(",", "")) >= rows for figure in _FIGURE.findall(_without(line, names)))
