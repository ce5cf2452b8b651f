"""The example reports in docs: one who was not there finds in each what broke, for whom, how long, what was done."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import record_reports

from backout.report.incident.facts import Block, merge
from backout.report.incident.incident import OPEN

if TYPE_CHECKING:
    from pathlib import Path

PAGES = sorted(record_reports.PAGES.glob("incident-*.md"))
ANSWERS = {
    "incident-guard": ("errors after the deployment", "GET /api/models", "Rolled back to version", "fixture"),
    "incident-person": ("every page is an error", "The shop did not answer", "Rolled back to version", "CATALOGUE_URL"),
    "incident-rows": ("the rows that transaction", "no mail could be delivered", "Done to the data", "a second review"),
}
"""What broke, for whom, what was done, what is open: a word of each."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_next_person_finds_the_answers(page: Path) -> None:
    """How long, too, and a picture; people have filled in their parts, and the facts are as they were written."""
    text = page.read_text(encoding="utf-8")
    for word in (*ANSWERS[page.stem], "it lasted", "Action item 1", f"]({page.stem}.svg)"):
        assert word in text, word
    assert OPEN not in text
    assert page.with_suffix(".svg").read_text(encoding="utf-8").startswith("<svg ")
    names = re.findall(r"^<!-- facts ([a-z]+) 1 ", text, re.MULTILINE)
    assert len(names) == 10
    assert [name for name in names if "as it is known now" in merge(text, [Block(name, name, "other")])] == []


def test_there_are_three_and_the_page_leads_to_them() -> None:
    """By guard, by a person, of data."""
    assert {page.stem for page in PAGES} == set(ANSWERS)
    index = (record_reports.PAGES / "incidents.md").read_text(encoding="utf-8")
    assert all(f"({page.name})" in index for page in PAGES)
