"""The page of the runbook cannot lie: its tests, commands and modules exist, and what runs has a test that shows it."""

from __future__ import annotations

import ast
import re
from functools import cache
from typing import TYPE_CHECKING

import click
import pytest
import runbook_page
from command_lines import parsed

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENT = runbook_page.read()
SECTIONS = DOCUMENT["section"]
ROWS = [(f"{section['title']}: {row['line']}", row) for section in SECTIONS for row in section.get("row", ())]
KEYS = {"line", "backout", "commands", "modules", "state", "tests", "lacks"}
STATES = {"runs", "partly", "not"}
TITLES = (
    *(
        "Quick rollback commands",
        "Rollback scenarios",
        "Scenario 1: failed health checks",
        "Scenario 2: build failures",
    ),
    *("Scenario 3: runtime errors after deployment", "Scenario 4: database migration issues"),
    *("Scenario 5: environment variable issues", "Recovery procedures", "Database recovery", "R2 storage recovery"),
    *("Complete system recovery", "Rollback testing", "Staging rollback test", "Production rollback simulation"),
    *("Monitoring during rollback", "Key metrics to watch", "Rollback success criteria", "Post-incident procedures"),
    *("Emergency contacts", "Additional resources"),
)
"""The headings of the runbook, in its order."""


@cache
def names_in(file: Path) -> frozenset[str]:
    """Return the names of the tests of a file."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def mistakes(row: dict[str, object]) -> list[str]:
    """Return what is wrong with a row."""
    found = [f"unknown key {key}" for key in row.keys() - KEYS]
    state = row.get("state")
    if state not in STATES:
        found.append(f"no state: {state}")
    if state == "runs" and not row.get("tests"):
        found.append("runs, and no test shows it")
    if (state == "partly") != ("lacks" in row):
        found.append("partly says what it lacks, and nothing else does")
    if state == "not" and (row.get("commands") or row.get("tests")):
        found.append("not, and a command or a test of it")
    for test in row.get("tests", ()):
        file, _, name = test.partition("::")
        if not (runbook_page.ROOT / file).is_file() or name not in names_in(runbook_page.ROOT / file):
            found.append(f"no such test: {test}")
    found += [f"no such module: {module}" for module in row.get("modules", ()) if not runbook_page.file_of(module)]
    for command in row.get("commands", ()):
        try:
            assert parsed(command) or command == "backout"
        except click.UsageError as error:
            found.append(f"{command}: {error.format_message()}")
    return found


@pytest.mark.parametrize(("name", "row"), ROWS, ids=[name[:70] for name, _ in ROWS])
def test_a_row_says_what_is(name: str, row: dict[str, object]) -> None:
    """Each named test, command and module is there; what runs has a test, what runs in part says what it lacks."""
    assert mistakes(row) == [], name


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"state": "surely"}, "no state"),
        ({"tests": []}, "no test shows it"),
        ({"state": "partly"}, "what it lacks"),
        ({"state": "not"}, "a command or a test"),
        ({"tests": ["tests/tools/test_runbook_page.py::test_nothing_of_the_kind"]}, "no such test"),
        ({"modules": ["backout.runbook.nothing"]}, "no such module"),
        ({"commands": ["backout rolback"]}, "rolback"),
        ({"comands": []}, "unknown key"),
    ],
)
def test_a_row_that_lies_is_found(change: dict[str, object], what: str) -> None:
    """The check above can fail, for each of its reasons."""
    right = {
        "state": "runs",
        "commands": ["backout status -e production"],
        "modules": ["backout.runbook.incident.status"],
        "tests": ["tests/tools/test_runbook_page.py::test_a_row_that_lies_is_found"],
    }
    assert mistakes(right) == []
    assert what in " ".join(mistakes({**right, **change}))


def test_the_page_is_current() -> None:
    """It is what tools/runbook_page.py writes."""
    assert runbook_page.PAGE.read_text(encoding="utf-8") == runbook_page.page(DOCUMENT)


def test_every_section_of_the_runbook_has_its_rows() -> None:
    """In its order; a heading stands above sections or has rows of its own."""
    titles = [section["title"] for section in SECTIONS]
    assert [title for title in titles if title in TITLES] == list(TITLES)
    empty = {section["title"] for section in SECTIONS if not section.get("row")}
    above = {"Rollback scenarios", "Recovery procedures", "Rollback testing", "Monitoring during rollback"}
    assert empty - above <= {"When backout itself is in trouble"}
    assert len(ROWS) > 80
    assert {row["state"] for _, row in ROWS} == STATES


def test_no_page_tells_of_settings_that_the_schema_refuses() -> None:
    """A row names keys of backout.toml that exist."""
    from backout.config.unbuilt import NOT_BUILT  # noqa: PLC0415 - an earlier source has none

    text = runbook_page.SOURCE.read_text(encoding="utf-8")
    assert [key for key in NOT_BUILT if re.search(rf"`{re.escape(key)}`", text)] == []
