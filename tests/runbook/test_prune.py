"""Which releases are removed: never what is live, what was live before it, or what a rollback would return to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from values import replace

from backout.errors import Unmeasured
from backout.model.guard.policy import Mode
from backout.model.release import Release
from backout.model.version import Mark, VersionId, VersionMark
from backout.providers.caddy.jobs import WithheldJobs
from backout.runbook.guard import guard
from backout.runbook.release import prune_releases

from line import Story, equip

if TYPE_CHECKING:
    from pathlib import Path


class Folder:
    """As much of the port Releases as removing them needs."""

    def __init__(self, known: tuple[Release, ...]) -> None:
        self._known = known
        self.removed: list[str] = []
        self.left: tuple[str, ...] = ()

    def list(self) -> tuple[Release, ...]:
        """Return what was told."""
        return self._known

    def remove(self, release: str) -> None:
        """Note it."""
        self.removed.append(release)

    def clear(self, *, dry_run: bool) -> tuple[SimpleNamespace, ...]:
        """Return what was told, as removed where it is."""
        return tuple(SimpleNamespace(where=each, is_gone=not dry_run and each != "stuck") for each in self.left)


def test_what_was_live_before_the_live_release_is_never_pruned(tmp_path: Path) -> None:
    """Also where the live one was made live again since; one that is older, and not stable, goes."""
    story = Story(tmp_path / "journal.sqlite")
    world = story.world
    older, last = (world.upload(name) for name in ("older", "last"))
    for version in (older, story.bad, last, last):
        world.deploy(version)
    known = (story.good, older, story.bad, last)
    folder: Any = Folder(tuple(Release(each.id, each.number, 1.0, "hash", "127.0.0.1:1") for each in known))
    gone = prune_releases(story.tools(), folder, 0, dry_run=False)
    assert [each.id for each in gone] == folder.removed == [older.id]


def test_a_release_whose_job_workers_may_run_is_never_pruned(tmp_path: Path) -> None:
    """With `--no-commands` nobody knows which do: nothing is removed then."""
    story = Story(tmp_path / "journal.sqlite")
    older = story.world.upload("older")
    folder: Any = Folder((Release(older.id, older.number, 1.0, "hash", "127.0.0.1:1"),))
    with pytest.raises(Unmeasured, match=r"so nothing is removed: .*--no-commands"):
        prune_releases(equip(story.tools(), jobs=WithheldJobs()), folder, 0, dry_run=False)
    story.world.jobs = {older.id: 0}
    working = equip(story.tools(), jobs=story.world.job_workers)
    assert prune_releases(working, folder, 0, dry_run=False) == ()
    assert folder.removed == []
    story.world.jobs = {}
    assert prune_releases(working, folder, 0, dry_run=False)[0].id == folder.removed[0] == older.id


def test_what_a_watch_would_return_to_is_never_pruned(tmp_path: Path) -> None:
    """Also where something else was deployed meanwhile: until the watch has ended."""
    story = Story(tmp_path / "journal.sqlite")
    world = story.world
    older, hotfix = (world.upload(name) for name in ("older", "hotfix"))
    for version in (older, story.bad):
        world.deploy(version)
    tools = story.tools()
    run = tools.journal.submit(guard.plan(tools, mode=Mode.ACT, for_s=60.0), actor="ops@host", reason="why")
    world.deploy(hotfix)
    folder: Any = Folder((Release(older.id, older.number, 1.0, "hash", "127.0.0.1:1"),))
    assert prune_releases(story.tools(), folder, 0, dry_run=True) == ()
    tools.runs.ask(run, "abort", actor="ops@host", reason="why")
    assert len(prune_releases(story.tools(), folder, 0, dry_run=True)) == 1


def test_of_all_stable_releases_the_last_three_stay(tmp_path: Path) -> None:
    """Each healthy one is stable for ever: were all of them kept, the ports would run out after some."""
    story = Story(tmp_path / "journal.sqlite")
    tools, world = story.tools(), story.world
    known = [world.upload(f"release {number}") for number in range(6)]
    for version in known:
        world.deploy(version)
        mark = VersionMark(
            Mark.STABLE, VersionId(version.id), version.code_hash, world.clock.now(), "", "healthy", None
        )
        tools.marks.mark(tools.environment, mark, actor="ops@host")
    bad = VersionMark(Mark.QUARANTINED, VersionId(known[3].id), None, world.clock.now(), "", "it fails", None)
    tools.marks.mark(tools.environment, bad, actor="ops@host")
    folder: Any = Folder(tuple(Release(each.id, each.number, 1.0, "hash", "127.0.0.1:1") for each in known))
    gone = prune_releases(story.tools(), folder, 0, dry_run=False)
    assert [each.id for each in gone] == [known[0].id, known[3].id]  # 5 is live; 4, 2 and 1 are what is returned to


@pytest.mark.parametrize("dry_run", [False, True])
def test_what_was_left_by_killed_pushes_is_removed_and_said(tmp_path: Path, dry_run: bool) -> None:
    """Also what could not be: it may hold secrets."""
    said: list[str] = []
    folder: Any = Folder(())
    folder.left = ("web1:/srv/.incoming-1", "stuck")
    tools = replace(Story(tmp_path / "journal.sqlite").tools(), say=said.append)
    assert prune_releases(tools, folder, 0, dry_run=dry_run) == ()
    what = "what a push or a removal that was killed had left"
    done = ("would be removed", "would be removed") if dry_run else ("was removed", "could not be removed")
    assert said == [f"{what} {done[0]}: web1:/srv/.incoming-1", f"{what} {done[1]}: stuck"]
