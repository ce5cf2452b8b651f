"""A module that a docstring or a comment refers to is there: moving one leaves no reference to its old place."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from source_trees import SOURCE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

REFERENCE = re.compile(r"`(?:backout\.)?([a-z_]+(?:\.[A-Za-z_]+)+)`")


def is_there(parts: Sequence[str], below: Path = SOURCE) -> bool:
    """Whether a dotted name leads to a module, or to something that a module names."""
    name, *rest = parts
    if (below / name).is_dir():
        return not rest or is_there(rest, below / name)
    module = below / f"{name}.py"
    if module.is_file():
        return not rest or _names(module, rest[0])
    return _names(below / "__init__.py", name)


def _names(module: Path, name: str) -> bool:
    return re.search(rf"\b{name}\b", module.read_text(encoding="utf-8")) is not None


def test_what_a_docstring_refers_to_is_there() -> None:
    """Each `room.module.name` in backticks, of the rooms that there are."""
    rooms = {path.stem for path in SOURCE.iterdir() if path.is_dir() or path.suffix == ".py"}
    lost = [
        f"{path.relative_to(SOURCE)}: {found[0]}"
        for path in sorted(SOURCE.rglob("*.py"))
        for found in REFERENCE.finditer(path.read_text(encoding="utf-8"))
        if (parts := found[1].split("."))[0] in rooms and not is_there(parts)
    ]
    assert lost == []


def test_a_lost_reference_is_found() -> None:
    """A module that moved, a name that is no longer in its module; and not what is there."""
    assert is_there(["model", "version", "Mark"])
    assert is_there(["analysis", "history", "marks"])
    assert not is_there(["analysis", "marks"])
    assert not is_there(["model", "version", "Marker"])
