"""What a person accepted stands in a report that is there already, and nothing that people wrote is lost."""

from __future__ import annotations

import pytest

from backout.escaping import fold_blanks, shorten
from backout.model.guard.shift import ACCEPTED, Acceptance
from backout.model.incident.incident import Event
from backout.report.guard.acceptances import add_acceptance, parse_acceptance

HOSTILE = "moved to /up\n## Forged\n<img src=x> [a](javascript:x) `id` @everyone | **b**"
FOUND = Acceptance(
    1_795_865_191.0, "guard-1", "55f42e23-1ac1-463c", "endpoint:health", fold_blanks(HOSTILE), "ops@host"
)
PAGE = """\
# Incident Report: 2026-11-28 production: x

## Summary

We rang the team.

## Timeline

- 11:26:02 - Deployment initiated
- written by hand

## Resolution

Nothing was changed by backout.

## Prevention

A test.

<!-- opened 2026-11-28T11:26:02.000Z -->

<!-- backout run guard-1 -->
"""


def test_it_goes_to_the_timeline_and_the_resolution_and_all_else_stays() -> None:
    """Every line of the page is kept in its order; the marks that programs read stay at the end."""
    page = add_acceptance(PAGE, FOUND)
    assert [line for line in page.splitlines() if line in PAGE.splitlines() or not line] != []
    kept = iter(page.splitlines())
    assert all(line in kept for line in PAGE.splitlines())  # `in` moves on: the order as well
    timeline, resolution = (page.split(f"## {name}\n")[1].split("\n## ")[0] for name in ("Timeline", "Resolution"))
    assert "- 11:26:31 - `ops@host` accepted the shift `endpoint:health` of version 55f42e23 as intended: " in timeline
    assert timeline.index("written by hand") < timeline.index("accepted the shift")
    assert (
        "Accepted as intended:\n\n- `endpoint:health` of version `55f42e23-1ac1-463c`, by `ops@host` at " in resolution
    )
    assert page.endswith("<!-- backout run guard-1 -->\n")
    assert add_acceptance(page, FOUND) == page


def test_a_reason_makes_no_heading_picture_link_or_mention() -> None:
    """It is escaped for Markdown, and stands on one line."""
    page = add_acceptance(PAGE, FOUND)
    assert [line for line in page.splitlines() if line.startswith("#")] == [
        line for line in PAGE.splitlines() if line.startswith("#")
    ]
    assert "<img" not in page.replace("\\<img", "")
    assert "](javascript" not in page.replace("`\\[a\\](javascript:x)`", "").replace("`[a](javascript:x)`", "")
    assert " @everyone" not in page


def test_a_page_without_the_sections_gets_it_at_its_end() -> None:
    """Somebody rewrote the report; the run's mark still ends it, or it would not be found any more."""
    page = add_acceptance("# Mine\n\nAll is well.\n\n<!-- backout run guard-1 -->\n", FOUND)
    assert page.startswith("# Mine\n\nAll is well.\n- 11:26:31")
    assert page.count("endpoint:health") == 2
    assert page.endswith("\n<!-- backout run guard-1 -->\n")


def test_a_second_one_joins_the_first() -> None:
    """One heading for both."""
    other = Acceptance(FOUND.at + 60, "guard-1", FOUND.version, "GET /old:404", "retired", "dev@host")
    page = add_acceptance(add_acceptance(PAGE, FOUND), other)
    assert page.count("Accepted as intended:") == 1
    assert "- `GET /old:404` of version `55f42e23-1ac1-463c`, by `dev@host` at 2026-11-28 11:27:31 UTC: retired" in page


def test_an_event_of_an_older_version_is_read() -> None:
    """What it does not say is empty; other events are none."""
    assert parse_acceptance(Event(1, 5.0, "production", "", None, "mark")) is None
    found = parse_acceptance(Event(1, 5.0, "production", "", None, ACCEPTED, {"shift": "x"}, "ops@host"))
    assert found == Acceptance(5.0, "", "", "x", "", "ops@host")


@pytest.mark.parametrize("text", ["", "short", "a b " * 400, "x" * 2000, "line\nline\r\n\tline"])
def test_what_is_shown_is_one_line_and_bounded(text: str) -> None:
    """Whatever a person pasted."""
    shown = shorten(text)
    assert len(shown) <= 240
    assert "\n" not in shown
    assert shown == fold_blanks(text) or shown.endswith("…")
