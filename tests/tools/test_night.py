"""The transcript of a night in docs: every task of the script that makes it, and nothing that went wrong."""

from __future__ import annotations

import re
from pathlib import Path

import record_night

PAGE = (Path(__file__).parents[2] / "docs" / "examples" / "night.md").read_text(encoding="utf-8")
SOURCE = Path(record_night.__file__).read_text(encoding="utf-8")


def test_the_transcript_has_every_task_of_the_script() -> None:
    """A task that was added is recorded, too; one that was taken out is gone."""
    told = re.findall(r"^## (.+)\n\n```console$", PAGE, re.MULTILINE)  # a report's own headings stand within an answer
    asked = re.findall(r"night\.do\(\s*f?\"([^\"]+)\"", SOURCE)
    assert len(asked) > 12
    assert [re.sub(r"\d\d:\d\d:\d\d", "{moment}", task) for task in told] == asked


def test_nothing_in_it_is_a_mistake_of_ours() -> None:
    """No traceback, no path of a machine, and only the exit codes that a task of a night ends with."""
    assert "Traceback" not in PAGE
    assert "mistake in backout" not in PAGE
    assert set(re.findall(r"\[exit code (\d+)\]", PAGE)) <= {"1", "7"}
    assert "~/shop" in PAGE
