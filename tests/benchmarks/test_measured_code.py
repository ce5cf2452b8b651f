"""Measurements that take days are of one code: other code is told by it, other words are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from shared.kept import Kept
from shared.measured_code import MEASURED, compute_digest

if TYPE_CHECKING:
    from pathlib import Path

CODE = '"""What it is."""\n\n\ndef f(x: int) -> int:\n    """Return more."""\n    return x + 1  # one\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a tree with one module in it."""
    folder = tmp_path / MEASURED[0]
    folder.mkdir(parents=True)
    (folder / "streams.py").write_text(CODE, encoding="utf-8")
    return tmp_path


def test_words_and_layout_do_not_count(root: Path) -> None:
    """Nor do other benchmarks, and the tables and pictures that show what was measured."""
    before, module = compute_digest(root), root / MEASURED[0] / "streams.py"
    module.write_text(CODE.replace("Return more", "Say more").replace("  # one", "\n"), encoding="utf-8")
    (root / MEASURED[-1]).mkdir(parents=True)
    for name in ("answers_report.py", "database_bench.py"):
        (root / MEASURED[-1] / name).write_text("x = 1", encoding="utf-8")
    assert compute_digest(root) == before


def test_other_code_counts(root: Path) -> None:
    """A figure, a name, a module."""
    before, module = compute_digest(root), root / MEASURED[0] / "streams.py"
    for other in (CODE.replace("x + 1", "x + 2"), CODE.replace("def f", "def g"), ""):
        module.write_text(other, encoding="utf-8")
        assert compute_digest(root) != before
    module.write_text(CODE, encoding="utf-8")
    simulation = root / MEASURED[-1] / "answers_runs.py"
    simulation.parent.mkdir(parents=True)
    simulation.write_text("x = 1", encoding="utf-8")
    assert compute_digest(root) != before
    simulation.unlink()
    assert compute_digest(root) == before
    module.rename(module.with_name("other.py"))
    assert compute_digest(root) != before


def test_what_other_code_measured_is_measured_again(tmp_path: Path) -> None:
    """Its lines stay in the file."""
    Kept(tmp_path / "kept", 1).put("watch 1", 5.0)
    assert Kept(tmp_path / "kept", 1).get("watch 1") == 5.0
    assert Kept(tmp_path / "kept", 2).get("watch 1") is None
    other = Kept(tmp_path / "kept", 1, code="another")
    assert other.get("watch 1") is None
    other.put("watch 1", 6.0)
    assert Kept(tmp_path / "kept", 1).get("watch 1") == 5.0
