"""The tool that shows that a test fails without its mend, and the table of what it showed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
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


@pytest.mark.long
def test_each_id_of_a_case_is_one_that_pytest_collects() -> None:
    """Where a case was renamed, the tool runs nothing, though a function of the name is still there."""
    cases = {row.test for row in rows_of(TABLE.read_text(encoding="utf-8")) if "[" in row.test}
    files = sorted({test.partition("::")[0] for test in cases})
    argv = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:randomly", "-p", "no:cacheprovider"]
    env = {**os.environ, "BACKOUT_PROOF": "full"}  # elsewhere some are left to another day
    listed = subprocess.run([*argv, *files], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert listed.returncode == 0, listed.stdout[-2000:] + listed.stderr[-2000:]
    assert sorted(cases - set(listed.stdout.splitlines())) == []


def test_no_row_stands_twice_and_no_table_is_empty() -> None:
    """Each is run once, and a heading has something below it."""
    text = TABLE.read_text(encoding="utf-8")
    assert [row for row, count in Counter(rows_of(text)).items() if count > 1] == []
    sections = text.split("\n## ")[1:]
    headings = [section.partition("\n")[0] for section in sections]
    assert [heading for heading, count in Counter(headings).items() if count > 1] == []
    assert [heading for heading, section in zip(headings, sections, strict=True) if not rows_of(section)] == []


def test_each_row_names_a_commit_of_the_history() -> None:
    """A row of a commit that never came here cannot be run by anybody."""
    argv = ["git", "rev-list", "HEAD"]
    listed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    history = listed.stdout.split()
    named = {row.commit for row in rows_of(TABLE.read_text(encoding="utf-8"))}
    assert {commit for commit in named if not any(each.startswith(commit) for each in history)} == set()
