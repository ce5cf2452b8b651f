"""Run tests against the source of an earlier commit: the test of a fix must fail there and pass here.

The tests, their helpers and the settings are those of this tree; only src/ is the other commit's.

    .venv/bin/python tools/failed_before.py COMMIT TEST [TEST ...]
    .venv/bin/python tools/failed_before.py --table [WORD ...]

The second form runs the rows of docs/research/failed-before.md (those that contain one of the words) again. Prints for
each test what it does on the commit before and what it does now: `fails`, `passes`, `skipped`, or `cannot run` where
its imports or fixtures ask for what that commit did not have (which shows less than a failed assertion). The exit code
is 0 when every test fails (or cannot run) before and passes now, else 1.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from working_copy import ROOT, WorkingCopy

TABLE = ROOT / "docs" / "research" / "failed-before.md"
_ROW = re.compile(r"^\| (?P<title>.+?) \| `(?P<test>tests/[^`]+)` \| `?(?P<commit>[0-9a-f]{7,40})`? \|$", re.MULTILINE)
_NOT_BEFORE = frozenset({"fails", "cannot run"})


class Row(NamedTuple):
    """One line of the table: the fix, its test, and a commit on which that test fails."""

    title: str
    test: str
    commit: str


def rows_of(text: str) -> list[Row]:
    """Return the rows of the table, in their order.

    >>> rows_of("| a hole | `tests/x/test_y.py::test_z` | 2bf7ee3 |")
    [Row(title='a hole', test='tests/x/test_y.py::test_z', commit='2bf7ee3')]
    """
    return [Row(**found.groupdict()) for found in _ROW.finditer(text)]


def outcomes_of(report: str, tests: list[str]) -> dict[str, str]:
    """Return what each test did by a JUnit report; of a parametrised one, or of a file, the outcome that says most.

    A test that the report does not know could not be collected.
    """
    said: dict[str, Counter[str]] = {test: Counter() for test in tests}
    for case in ET.fromstring(report).iter("testcase"):  # noqa: S314 - pytest wrote it just now
        where = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        for test in tests:
            if where == test or where.startswith((f"{test}[", f"{test}::")):
                said[test][_outcome(case)] += 1
    order = ("fails", "cannot run", "passes", "skipped")
    return {test: next((each for each in order if found[each]), "cannot run") for test, found in said.items()}


def _outcome(case: ET.Element) -> str:
    if case.find("error") is not None:
        return "cannot run"
    failure = case.find("failure")
    if failure is not None:
        missing = re.match(r"(ImportError|ModuleNotFoundError)\b", failure.get("message", ""))
        return "cannot run" if missing else "fails"
    return "skipped" if case.find("skipped") is not None else "passes"


def ask(copy: WorkingCopy, tests: list[str]) -> dict[str, str]:
    """Run tests in a copy and return their outcomes; files that cannot be collected do not stop the others."""
    report = copy.folder / "report.xml"
    found: dict[str, str] = {}
    for file in dict.fromkeys(test.partition("::")[0] for test in tests):
        of_file = [test for test in tests if test.partition("::")[0] == file]
        report.unlink(missing_ok=True)
        copy.run_tests(f"--junit-xml={report}", *of_file, timeout_s=3600.0)
        found |= outcomes_of(report.read_text(encoding="utf-8") if report.is_file() else "<testsuites/>", of_file)
    return found


def judge(commit: str, tests: list[str]) -> bool:
    """Print what each test does on a commit and now; return whether all fail there and pass here."""
    with tempfile.TemporaryDirectory(prefix="failed-before-") as folder:
        now, before = WorkingCopy(Path(folder) / "now"), WorkingCopy(Path(folder) / "before")
        before.put_source_of(commit)
        then, today = ask(before, tests), ask(now, tests)
    for test in tests:
        print(f"{then[test]:<10} on {commit}, {today[test]:<10} now: {test}")
    return all(then[test] in _NOT_BEFORE and today[test] == "passes" for test in tests)


def main() -> None:
    """Judge the tests that are named, or the table's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--table", action="store_true", help="run the rows of the table again")
    parser.add_argument("words", nargs="+", metavar="COMMIT TEST|WORD")
    given = parser.parse_args(["--table", "", *sys.argv[2:]] if sys.argv[1:2] == ["--table"] else sys.argv[1:])
    if given.table:
        words = [word for word in given.words if word]
        rows = rows_of(TABLE.read_text(encoding="utf-8"))
        rows = [row for row in rows if not words or any(word in " ".join(row) for word in words)]
        wanted = {commit: [row.test for row in rows if row.commit == commit] for commit in {row.commit for row in rows}}
    else:
        commit, *tests = given.words
        wanted = {commit: tests}
    if not any(wanted.values()):
        sys.exit("no test is named")
    try:
        held = [judge(commit, list(dict.fromkeys(tests))) for commit, tests in wanted.items()]
    except subprocess.CalledProcessError as error:
        sys.exit(f"git has no source for it: {(error.stderr or b'').decode(errors='replace').strip()}")
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
