"""A watch keeps the version before warm: the plan names what that takes, and nobody stops it meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.errors import ProviderUnavailable, Refused
from backout.model.guard.policy import Mode
from backout.model.release import ReleaseProcess
from backout.runbook.guard import guard
from backout.runbook.release import stop_release

from line import POLICY, Story, equip

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.release import Leftover, OtherRelease, Release, ReleaseNote


class Processes:
    """Ports Standby and Releases of two hosts."""

    def __init__(self, *found: ReleaseProcess) -> None:
        self.found = found
        self.stopped: list[str] = []

    def measure(self, version: str) -> tuple[ReleaseProcess, ...]:
        """Return what was told."""
        if not self.found:
            raise ProviderUnavailable("the host was not reached", where=version)
        return self.found

    def stop(self, release: str) -> None:
        """Note it."""
        self.stopped.append(release)

    def list(self) -> tuple[Release, ...]:
        """Return none."""
        return ()

    def list_others(self) -> tuple[OtherRelease, ...]:
        """Return none."""
        return ()

    def clear(self, *, dry_run: bool = False) -> tuple[Leftover, ...]:
        """Return none."""
        return ()

    def push(self, folder: Path, note: ReleaseNote) -> Release:
        """Not asked for."""
        raise NotImplementedError

    start = remove = stop  # type: ignore[assignment]


def list_notes(story: Story, processes: Processes) -> tuple[str, ...]:
    """Return the notes of a watch's plan."""
    tools = equip(story.tools(), standby=processes)
    return guard.plan(tools, mode=Mode.OBSERVE, for_s=60.0).notes


def test_the_plan_of_a_watch_names_the_memory_of_the_version_that_stays_warm(tmp_path: Path) -> None:
    """On each host; where it does not run, that a rollback takes longer."""
    story = Story(tmp_path / "journal.sqlite")
    good = story.good.id[:8]
    found = (ReleaseProcess("web1", True, 45_400_000), ReleaseProcess("web2", True), ReleaseProcess("web3", False))
    notes = list_notes(story, Processes(*found))
    warm = "45 MB of memory (web1), memory not measured (web2)"
    assert notes[-2:] == (
        f"version {good} stays warm for a rollback: {warm}",
        f"version {good} does not run (web3): a rollback starts it first",
    )


def test_what_cannot_be_measured_is_said_and_stops_no_watch(tmp_path: Path) -> None:
    """With the reason."""
    story = Story(tmp_path / "journal.sqlite")
    notes = list_notes(story, Processes())
    assert notes[-1] == f"whether version {story.good.id[:8]} still runs is not known: the host was not reached"


@pytest.mark.parametrize("holdback", [0.0, 10.0])
def test_nobody_stops_the_version_that_a_watch_would_return_to(tmp_path: Path, holdback: float) -> None:
    """Until the watch has ended; also where it begins with a step that gives that version a part of the traffic."""
    policy = replace(POLICY, guard=replace(POLICY.guard, holdback=holdback))
    story, processes = Story(tmp_path / "journal.sqlite", policy), Processes()
    tools = story.tools()
    run = tools.journal.submit(guard.plan(tools, mode=Mode.ACT, for_s=60.0), actor="ops@host", reason="why")
    with pytest.raises(Refused, match=f"run {run} watches the release after it"):
        stop_release(tools, processes, story.good.id)
    tools.runs.ask(run, "abort", actor="ops@host", reason="why")
    stop_release(story.tools(), processes, story.good.id)
    assert processes.stopped == [story.good.id]
