"""What a step recorded as progress is read by its step: other steps of the run record theirs under the same names."""

from __future__ import annotations

import ast
from pathlib import Path

import backout

SOURCE = Path(backout.__file__).parent
ELSEWHERE = {"runbook/incident/impact.py"}
"""Modules that ask for the progress of a whole run: whether any watch of it said that its counts are a sample."""


def test_no_module_reads_the_progress_of_a_whole_run() -> None:
    """`list_progress` reads that of one step."""
    asking = set[str]()
    for path in SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "step.progress" in text:
            calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.keyword) and node.arg == "kind"]
            if any(isinstance(node.value, ast.Constant) and node.value.value == "step.progress" for node in calls):
                asking.add(path.relative_to(SOURCE).as_posix())
    assert asking == {"ports/journal.py", *ELSEWHERE}
