"""The examples in docstrings are run: one that is not true misleads whoever reads it."""

from __future__ import annotations

import doctest
import importlib
import warnings
from typing import TYPE_CHECKING

from source_trees import SOURCE

if TYPE_CHECKING:
    from pathlib import Path

FEWEST = 200
"""There are so many: none would be found where nothing is looked at."""


def name_module(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_every_example_is_true() -> None:
    """Each module by itself, its examples with nothing but its own names."""
    paths = [path for path in sorted(SOURCE.rglob("*.py")) if ">>>" in path.read_text(encoding="utf-8")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = [doctest.testmod(importlib.import_module(name_module(path))) for path in paths]
    assert sum(each.attempted for each in results) >= FEWEST
    assert [path.name for path, each in zip(paths, results, strict=True) if each.failed] == []
