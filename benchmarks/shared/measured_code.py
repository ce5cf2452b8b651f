"""Which code a measurement is of, so that one that takes several days does not go on with another detector."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

_ROOT = Path(__file__).parents[2]
MEASURED = (
    "src/backout/analysis/detector",
    "src/backout/analysis/shifts",
    "src/backout/analysis/statistics",
    "src/backout/model/guard",
    "src/backout/runbook/probing",
    "benchmarks/shared",
)
"""The folders that decide how a simulated watch ends."""
_SIMULATES, _SHOWS = ("answers_", "detect_"), ("_report.py", "_chart.py")
"""Of the benchmarks' own: how names begin of what simulates and judges, and how they end of what only shows it."""


def compute_digest(root: Path = _ROOT) -> str:
    """Return what tells the code below `root` from other code; comments, docstrings and layout do not count."""
    digest = hashlib.sha256()
    for name in MEASURED:
        for path in sorted((root / name).rglob("*.py")):
            of_benchmarks = name == MEASURED[-1]
            if not of_benchmarks or (path.name.startswith(_SIMULATES) and not path.name.endswith(_SHOWS)):
                code = _strip_words(path.read_text(encoding="utf-8"))
                digest.update(f"{path.relative_to(root)}\0{code}\0".encode())
    return digest.hexdigest()[:16]


def _strip_words(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [each for each in node.body if not _is_text(each)] or [ast.Pass()]
    return ast.unparse(tree)


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )
