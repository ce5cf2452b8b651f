"""What a person accepts of a second check that keeps a recovery closed: he has looked, and it stays as it is.

It holds for what was shown alone: another difference keeps the run closed again.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

from backout.decoding import decode_values
from backout.errors import UsageError
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.plan import Json
    from backout.runbook.toolbox import Toolbox

DIFFERS: Final = "recover.differs"
"""The note of what a second check found, or that nothing keeps a run closed any more: {run, step, differs, failed}."""
ACCEPTED: Final = "recover.accepted"
"""The note that a person accepts that: {run, step, differs, failed, why}."""


class Found(Value, frozen=True):
    """What a second check found.

    Args:
        differs: what is not as it has to be, a sentence each.
        failed: why the check could not be made, or not all of it; "" where it was.
        step: the action of the step that made it; "" in a note of an earlier version.
    """

    differs: tuple[str, ...] = ()
    failed: str = ""
    step: str = ""

    @property
    def text(self) -> str:
        """The same for a person, "" for nothing."""
        told = [f"not everything was restored: {'; '.join(self.differs)}"] if self.differs else []
        told += [f"whether all was restored is not known: {self.failed}"] if self.failed else []
        return "; ".join(told)


def note_found(tools: Toolbox, run: str, found: Found) -> None:
    """Note what keeps a run closed; nothing does where nothing was found."""
    if found.text or read_shown(tools, run).text:
        _note(tools, DIFFERS, run, found, {})


def read_shown(tools: Toolbox, run: str) -> Found:
    """Return what keeps a run closed, by its last second check."""
    notes = _list_notes(tools, DIFFERS, run)
    return _read(notes[-1]) if notes else Found()


def find_shown(tools: Toolbox, run: str) -> Found:
    """Return the same. Raises UsageError: nothing that could be accepted."""
    found = read_shown(tools, run)
    if not found.text:
        raise UsageError(
            "no second check has found a difference in it, so there is nothing to accept",
            where=run,
            hint=f"backout runs resume {run}",
        )
    return found


def accept(tools: Toolbox, run: str, found: Found, why: str) -> None:
    """Note that a person accepts what was found."""
    _note(tools, ACCEPTED, run, found, {"why": why})


def find_acceptance(tools: Toolbox, run: str, found: Found) -> str:
    """Return who has accepted what was found by the same step, and why; "" where some of it is new.

    Of a check that cannot be made the reason may be another one each time.
    """
    left, names = set(found.differs), list[str]()
    accepts_failure = not found.failed
    for note in _list_notes(tools, ACCEPTED, run):
        known = _read(note)
        if known.step != found.step:
            continue
        left -= set(known.differs)
        accepts_failure = accepts_failure or bool(known.failed)
        names.append(f"accepted by {note['actor']} ({note['why']})")
    return "; ".join(dict.fromkeys(names)) if names and accepts_failure and not left else ""


def _note(tools: Toolbox, kind: str, run: str, found: Found, more: Mapping[str, Json]) -> None:
    data: dict[str, Json] = {"run": run, "step": found.step, "differs": [*found.differs], "failed": found.failed}
    data["actor"] = tools.actor
    digest = hashlib.sha256(json.dumps(data).encode()).hexdigest()[:8]
    key = f"{run}:{tools.clock.now():.6f}:{digest}"
    tools.journal.note(tools.environment, kind, key, {**data, **more}, actor=tools.actor)


def _list_notes(tools: Toolbox, kind: str, run: str) -> list[Mapping[str, Json]]:
    notes = tools.journal.events(environment=tools.environment, kind=kind)
    return [note.data for note in notes if note.data.get("run") == run]


def _read(note: Mapping[str, Json]) -> Found:
    return Found(decode_values(note["differs"], tuple[str, ...]), str(note["failed"]), str(note.get("step", "")))
