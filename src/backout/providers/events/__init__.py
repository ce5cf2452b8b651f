"""Events of Workers and logs of any shape, from files, standard input or live sources, to counts and templates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import UsageError
from backout.providers.events.reader import EventReader
from backout.providers.events.tally import EventTally, merged
from backout.providers.events.work import divided, in_processes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from backout.model.events import EventCounts
    from backout.providers.events.blocks import Stream
    from backout.providers.events.tally import KeyOf

__all__ = ["EventReader", "EventTally", "merged", "read_events", "read_stream"]


def read_stream(stream: Stream, name: str, key_of: KeyOf) -> EventCounts:
    """Return what a pipe, or anything else that can be read once, holds; `name` is what places are called by."""
    tally = EventTally(key_of)
    EventReader(tally, name).read(stream)
    return tally.result()


def read_events(paths: Sequence[Path], key_of: KeyOf, *, jobs: int = 1) -> EventCounts:
    """Return what files hold, all of them together.

    Args:
        key_of: gives a text's template key; with several processes each gets a copy of it.
        jobs: so many processes share the work; a large file of events is divided among them as well.

    Raises:
        UsageError: a file is missing, a folder, or not readable; nothing was read then.
    """
    for path in paths:
        try:
            with path.open("rb", buffering=0):
                pass
        except OSError as error:
            raise UsageError(f"it cannot be read: {error.strerror or error}", where=str(path)) from error
    if jobs > 1:
        return merged(in_processes(divided(paths, jobs), key_of, jobs), key_of)
    tally = EventTally(key_of)
    for path in paths:
        with path.open("rb", buffering=0) as stream:
            EventReader(tally, path.name).read(stream)
    return tally.result()
