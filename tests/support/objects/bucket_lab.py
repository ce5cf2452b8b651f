"""A damaged bucket in memory with a real journal, and the tools that bring it back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backout.journal.sqlite import SqliteJournal
from backout.model.incident.incident import RunState
from backout.model.objects.checks import BucketFacts, PermissionLook
from backout.providers.files.object_notes import FileChangeNotes
from backout.providers.memory import World
from backout.providers.memory.objects import Content, MemoryBucket
from backout.runbook.objects.restore import ObjectActions, prepare
from backout.runbook.objects.tools import ObjectTools

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.model.incident.incident import Run


@dataclass
class MemoryLook:
    """What a bucket says of itself, as a test has it."""

    facts: BucketFacts = field(default_factory=lambda: BucketFacts("enabled", None, 0.0))
    permissions: PermissionLook = field(default_factory=lambda: PermissionLook(True, True, True, True, 0.0))

    def read(self) -> BucketFacts:
        return self.facts

    def try_permissions(self) -> PermissionLook:
        return self.permissions


@dataclass
class DamagedBucket:
    """Nine objects, of which a third was changed and a third deleted; and one that was created since."""

    folder: Path
    world: World = field(default_factory=World)
    look: MemoryLook = field(default_factory=MemoryLook)
    then: dict[str, Content] = field(init=False)
    kept: dict[tuple[str, str], Content] = field(init=False)
    to: float = field(init=False)

    def __post_init__(self) -> None:
        clock = self.world.clock
        self.bucket = MemoryBucket(clock.now, self.world.call)
        for number in range(9):
            self.bucket.put(f"k{number}", b"good %d" % number, {"owner": f"u{number}"})
            clock.sleep(1)
        self.then = self.bucket.live()
        clock.sleep(60)
        self.to = clock.now()
        clock.sleep(60)
        for number in range(3):
            self.bucket.put(f"k{number}", b"bad")
            self.bucket.delete(f"k{number + 3}")
        self.bucket.put("new", b"since")
        clock.sleep(60)
        self.kept = self.bucket.contents()

    def tools(self, crash_point: Callable[[str], None] | None = None) -> ObjectTools:
        """Return fresh tools: a new process, as far as the journal can tell."""
        journal = SqliteJournal(self.folder / "journal.sqlite", self.world.clock, crash_point=crash_point)
        return ObjectTools(
            environment="production",
            actor="ops@host",
            bucket="models",
            prefix="",
            clock=self.world.clock,
            journal=journal,
            runs=journal,
            look=self.look,
            versions=lambda _prefix, _moment: self.bucket,
            notes=FileChangeNotes(self.folder / "notes"),
        )

    def ago(self) -> str:
        """Return the moment as a person types it."""
        return f"{self.world.clock.now() - self.to:.0f}s ago"


def restore(tools: ObjectTools, to: str) -> Run:
    """Restore, or go on with what was interrupted, as the command does."""
    unfinished = next((run for run in tools.runs.runs("production/objects")[:1] if not run.state.is_over), None)
    if unfinished is None:
        run = tools.journal.submit(prepare(tools, to, None, ""), actor="ops@host", reason="damage")
    else:
        run = unfinished.id
    return tools.journal.drive(run, ObjectActions(tools), actor="ops@host")


def is_done(run: Run) -> bool:
    """Whether a run came to its end."""
    return run.state is RunState.DONE
