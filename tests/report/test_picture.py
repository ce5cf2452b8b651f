"""The picture of an incident: what it shows, for those who see it and those who do not, on white and on black."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from typing import TYPE_CHECKING

from backout.model.guard.signals import Counts
from backout.report.incident.picture import Mark, Picture, describe_picture, draw, make_picture

if TYPE_CHECKING:
    from collections.abc import Iterator

T = 1_795_600_800
BAD, GOOD = "bbbb2222-bad", "aaaa1111-good"


def rows() -> Iterator[Counts]:
    for second in range(T - 60, T + 60):
        is_bad = T <= second < T + 20
        latency = {140: 27, 160: 3} if is_bad else {100: 30}
        yield Counts(BAD if is_bad else GOOD, second, 30, 12 if is_bad else 0, latency=latency)


def picture(bad: str = BAD) -> Picture:
    marks = (Mark(T, "deployment"), Mark(T + 12, "detected"), Mark(T + 20, "switched"), Mark(T + 45, "verified"))
    made = make_picture("production", rows(), bad, marks)
    assert made is not None
    return made


def test_it_says_in_words_what_it_shows() -> None:
    """The same as title and description of the picture: nobody needs to see it."""
    said = describe_picture(picture())
    assert said == (
        "Failed requests and slow answers of production by version, 09:59:00 to 10:01:00 UTC. Version bbbb2222 failed "
        "up to 40 % of its requests, and its p95 reached 1,025 ms. Version aaaa1111 failed up to 0 % of its requests, "
        "and its p95 reached 77 ms. Marked: deployment 10:00:00, detected 10:00:12, switched 10:00:20, "
        "verified 10:00:45."
    )
    root = ET.fromstring(draw(picture()))  # noqa: S314 our own
    assert root.get("role") == "img"
    assert [each.text for each in root if each.tag.endswith("desc")] == [said]


def test_each_version_and_each_mark_is_told_apart_without_colour() -> None:
    """By strokes and numbers; a gap in a version's traffic is no line."""
    drawn = draw(picture())
    lines = re.findall(r'<path d="(M[^"]*)" fill="none" stroke="(#\w+)"[^>]*?(stroke-dasharray="[^"]+")?/>', drawn)
    assert {(colour, bool(dashes)) for _, colour, dashes in lines} == {("#d93a2b", False), ("#2a78c8", True)}
    good = [path for path, colour, _ in lines if colour == "#2a78c8"]
    assert [path.count("M") for path in good] == [2, 2]
    for text in ("bbbb2222 (bad)", "10:00:00 deployment", "10:00:45 verified"):
        assert f">{text}</text>" in drawn


def test_its_colours_can_be_read_on_white_and_on_black() -> None:
    """Each has a contrast of at least 4.3 to both; there is no background and no style of the page's."""

    def luminance(colour: str) -> float:
        parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    many = [Counts(f"v{number}", T + number, 9, number) for number in range(6)]
    made = make_picture("production", [*rows(), *many], BAD, ())
    assert made is not None
    colours = set(re.findall(r"#[0-9a-f]{6}", draw(made)))
    assert len(colours) == 5
    for colour in colours:
        light = luminance(colour)
        assert min(1.05 / (light + 0.05), (light + 0.05) / 0.05) >= 4.3, colour
    assert "<style" not in draw(made)


def test_the_numbers_of_marks_stand_side_by_side_within_the_picture() -> None:
    """Those at its right edge too, where a verification usually is; none lies upon another."""
    marks = [Mark(T + 55 + number, "verified") for number in range(5)]
    made = make_picture("production", rows(), BAD, marks)
    assert made is not None
    places = [float(each) for each in re.findall(r'<circle cx="([\d.]+)" cy="18"', draw(made))]
    assert len(places) == 5
    assert all(after - before >= 25 for before, after in pairwise(places))
    assert places[-1] + 13 <= 600


def test_what_others_named_runs_nothing() -> None:
    """Names of versions and environments are text."""
    evil = make_picture("<script>", [Counts("<a&\"'>", T, 1, 0)], "", (Mark(T, "</text>"),))
    assert evil is not None
    root = ET.fromstring(draw(evil))  # noqa: S314 our own
    assert {each.tag.rpartition("}")[2] for each in root} == {"title", "desc", "text", "path", "circle"}


def test_a_long_incident_is_drawn_in_stretches() -> None:
    """Two hours in 120 points a version; without any request there is no picture."""
    long = make_picture("production", (Counts(BAD, T + second, 3, 1) for second in range(7_200)), BAD, ())
    assert long is not None
    assert {len(points) for points in long.series.values()} == {120}
    assert make_picture("production", [Counts(BAD, T, 0, 0)], BAD, ()) is None
