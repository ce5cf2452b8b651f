"""What a person accepted stands in the report, and makes nothing of its page."""

from __future__ import annotations

import pytest
from values import replace

from backout.escaping import fold_blanks, shorten
from backout.model.guard.shift import ACCEPTED, Acceptance
from backout.model.incident.incident import Event, Incident
from backout.report.guard.acceptances import make_accepted_entry, parse_acceptance
from backout.report.incident.incident import render

HOSTILE = "moved to /up\n## Forged\n<img src=x> [a](javascript:x) `id` @everyone | **b**"
FOUND = Acceptance(
    1_795_865_191.0, "guard-1", "55f42e23-1ac1-463c", "endpoint:health", fold_blanks(HOSTILE), "ops@host"
)


def page(*found: Acceptance) -> str:
    """Return the report of a watch, with what was accepted of its version."""
    entries = tuple(map(make_accepted_entry, found))
    incident = Incident("guard-1", "production", "x", FOUND.at, *(None,) * 3, FOUND.version, "", None, None, entries)
    return render(replace(incident, accepted=found))


def test_it_stands_in_the_timeline_and_in_the_resolution() -> None:
    """Who accepted what, and why."""
    timeline, resolution = (
        page(FOUND).split(f"## {name}\n")[1].split("\n## ")[0] for name in ("Timeline", "Resolution")
    )
    assert "- 11:26:31 - `ops@host` accepted the shift `endpoint:health` of version 55f42e23 as intended: " in timeline
    assert (
        "Accepted as intended:\n\n- `endpoint:health` of version `55f42e23-1ac1-463c`, by `ops@host` at " in resolution
    )


def test_a_reason_makes_no_heading_picture_link_or_mention() -> None:
    """It is escaped for Markdown, and stands on one line."""
    shown = page(FOUND)
    assert [line for line in shown.splitlines() if line.startswith("#")] == [
        line for line in page().splitlines() if line.startswith("#")
    ]
    assert "<img" not in shown.replace("\\<img", "")
    assert "](javascript" not in shown.replace("`\\[a\\](javascript:x)`", "").replace("`[a](javascript:x)`", "")
    assert " @everyone" not in shown


def test_two_stand_under_one_heading() -> None:
    """In their order."""
    shown = page(FOUND, Acceptance(FOUND.at + 60, "guard-1", FOUND.version, "GET /old:404", "retired", "dev@host"))
    assert shown.count("Accepted as intended:") == 1
    assert (
        "- `GET /old:404` of version `55f42e23-1ac1-463c`, by `dev@host` at 2026-11-28 11:27:31 UTC: retired" in shown
    )


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
