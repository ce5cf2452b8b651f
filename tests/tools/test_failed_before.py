"""The tool that shows that a test fails without its mend, and the table of what it showed."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

from failed_before import TABLE, outcomes_of, rows_of
from source_trees import nodes_of

ROOT = Path(__file__).parents[2]
REPORT = """
<testsuites><testsuite>
  <testcase classname="tests.x.test_y" name="test_assert"><failure message="AssertionError: 1 != 2"/></testcase>
  <testcase classname="tests.x.test_y" name="test_import"><failure message="ImportError: no z"/></testcase>
  <testcase classname="tests.x.test_y" name="test_many[a]"/>
  <testcase classname="tests.x.test_y" name="test_many[b]"><failure message="AssertionError"/></testcase>
  <testcase classname="tests.x.test_y" name="test_fixture"><error message="fixture 'z' not found"/></testcase>
  <testcase classname="tests.x.test_y" name="test_skipped"><skipped/></testcase>
  <testcase classname="tests.x.test_y" name="test_well"/>
</testsuite></testsuites>
"""


def test_outcomes_are_told_apart() -> None:
    """A failed assertion, an import that fails, a fixture that is missing, a skip and a pass are five things."""
    names = ("assert", "import", "many", "fixture", "skipped", "well", "unknown")
    tests = [f"tests/x/test_y.py::test_{name}" for name in names]
    expected = ["fails", "cannot run", "fails", "cannot run", "skipped", "passes", "cannot run"]
    assert list(outcomes_of(REPORT, tests).values()) == expected


def test_each_row_names_a_test_that_exists() -> None:
    """A row whose test was renamed shows nothing any more."""
    text = TABLE.read_text(encoding="utf-8")
    rows = rows_of(text)
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| what was wrong")]
    assert len(rows) == len(lines), "a row that the tool cannot read"
    for row in rows:
        file, _, name = row.test.partition("::")
        functions = {
            node.name for node in nodes_of(ROOT / file) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert not name or name.partition("[")[0].rpartition("::")[2] in functions, row


def test_each_row_names_a_commit_of_the_history() -> None:
    """A row of a commit that never came here cannot be run by anybody."""
    argv = ["git", "rev-list", "HEAD"]
    listed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    history = listed.stdout.split()
    named = {row.commit for row in rows_of(TABLE.read_text(encoding="utf-8"))}
    assert {commit for commit in named if not any(each.startswith(commit) for each in history)} == set()
