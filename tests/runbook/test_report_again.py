"""A report that is written again: what people wrote into it meanwhile stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.runbook.incident.report import write_report

from line import Story, watch

if TYPE_CHECKING:
    from pathlib import Path


def test_a_report_that_is_written_again_keeps_what_people_wrote(quick_path: Path) -> None:
    """Into the open parts, over a fact, under a heading of their own: the next facts replace ours alone."""
    story = Story(quick_path / "journal.sqlite")
    ended = watch(story.tools())
    pages = story.world.reports.texts
    ((path, page),) = pages.items()
    edited = page.replace("## Prevention\n", "## Prevention\n\nAda was awake.\n")
    edited = edited.replace("Service restored", "Service restored (we think)") + "\n## Ours\n\nThe end.\n"
    pages[path] = edited
    write_report(story.tools(), ended.id)
    assert [line for line in edited.splitlines() if line not in pages[path].splitlines()] == []
    assert list(pages) == [path]
