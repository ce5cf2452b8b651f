"""The page of the proofs: what was counted, and how many minutes the tests of each file took."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

HEAD: Final = """\
# Proofs

For readers who want the evidence behind a claim: how often it was tried, and how often it failed.
Made by `make proof`; do not edit. Each line is a long
test with its full counts on the day given (`make test` runs the same
tests with small seeded counts; `make proof PYTEST=tests/journal` renews only the lines of those tests). *Upper bound*
is the one-sided 95 % Clopper-Pearson bound of the share of failures. If it is above what is allowed, the trials neither
refute the claim nor show it; the number of trials that would is given beside it.
[rules.md](rules.md) shows that the test of each safety rule fails if the rule is taken out.

| claim | trials | failures | upper bound (95 %) | allowed | how | day |
|---|---|---|---|---|---|---|
"""
TITLE: Final = "\n## Minutes\n"
MINUTES: Final = f"""{TITLE}
What each file took when its lines were last renewed, with what it sets up; two files run at a time. A proof that was
resumed took what was left of it.

| file | minutes | day |
|---|---|---|
"""


class MinutesByFile:
    """Adds up what workers report, in the process that writes the page."""

    def __init__(self) -> None:
        self._spent: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count the setup, the call and the teardown of a test."""
        self._spent[report.nodeid.partition("::")[0]] += report.duration  # type: ignore[assignment] # seconds

    def make_rows(self) -> dict[str, str]:
        """Return the line of each file."""
        day = datetime.now(UTC).strftime("%Y-%m-%d")
        return {file: f"| {file} | {seconds / 60:.1f} | {day} |" for file, seconds in self._spent.items()}


def write_page(page: Path, claims: dict[str, str], minutes: dict[str, str], *, whole: bool) -> None:
    """Write the page of the proofs.

    Args:
        claims, minutes: the lines of its two tables, by claim and by file.
        whole: whether all proofs ran; of a part of them the others stand as they are.
    """
    if not whole:
        text = page.read_text(encoding="utf-8") if page.is_file() else ""
        old_claims, _, old_minutes = text.partition(TITLE)
        claims, minutes = {**_rows(old_claims), **claims}, {**_rows(old_minutes), **minutes}
    tables = [HEAD + "\n".join(claims[claim] for claim in sorted(claims)) + "\n"]
    tables.append(MINUTES + "\n".join(minutes[file] for file in sorted(minutes)) + "\n")
    page.write_text("".join(tables), encoding="utf-8")


def _rows(table: str) -> dict[str, str]:
    """Return the rows of a table by their first column."""
    lines = [
        line for line in table.splitlines() if line.startswith("| ") and not line.startswith(("| claim ", "| file "))
    ]
    return {line.split(" | ")[0].removeprefix("| "): line for line in lines}
