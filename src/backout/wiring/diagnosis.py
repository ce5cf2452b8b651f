"""The inputs of a diagnosis: the catalogue of signatures, ours and the team's, and events in files."""

from __future__ import annotations

import functools
from importlib import resources
from typing import TYPE_CHECKING, Final

from backout.analysis.diagnosis.signatures import Classifier
from backout.analysis.diagnosis.templates import Templates
from backout.errors import BackoutError, UsageError
from backout.providers.child_environment import make_team_environment
from backout.providers.events.reader import EventReader
from backout.providers.events.tally import EventTally
from backout.providers.files.signatures import read_catalogue

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from backout.model.incident.diagnosis import Catalogue
    from backout.model.incident.events import EventCounts
    from backout.providers.child_environment import ChildEnvironment
    from backout.providers.events.blocks import Stream


_OURS: Final = resources.files("backout") / "catalogue" / "signatures"


def load_catalogue(folder: Path | None = None) -> Catalogue:
    """Return our signatures, and those of a team's own folder beside them.

    Raises:
        ConfigError: what is wrong in the files.
        UsageError: there is no such folder.
    """
    if folder is None:
        return _read_own_catalogue()
    if not folder.is_dir():
        hint = "diagnose.signatures of backout.toml, or --signatures, names a folder of TOML files"
        raise UsageError("no such folder of signatures", where=str(folder), hint=hint)
    return read_catalogue([_OURS, folder])


@functools.cache
def _read_own_catalogue() -> Catalogue:
    """Read our signatures once a process: it takes a third of a second."""
    return read_catalogue([_OURS])


def build_environment(variables: Mapping[str, str]) -> ChildEnvironment:
    """Return the environment of a build that a person runs here: all of this shell's variables."""
    return make_team_environment(variables)


def make_classifier(folder: Path | None = None) -> Classifier:
    """Return the catalogue, ready to be asked; errors as `load_catalogue`."""
    return Classifier(load_catalogue(folder))


def count_events(paths: Sequence[Path], stdin: Stream | None = None, *, jobs: int = 1) -> EventCounts:
    """Return what these files, and standard input where it is given, hold, counted.

    Raises:
        UsageError: a file does not exist.
        BackoutError: one cannot be read.
    """
    templates = Templates()
    tally = EventTally(templates)
    try:
        for path in paths:
            with path.open("rb"):
                pass  # each is there before the first is read
        if jobs > 1 and paths:
            from backout.providers.events.work import count_in_processes, divide_files

            for part in count_in_processes(divide_files(paths, jobs), templates, jobs):
                tally.merge(part)
        else:
            for path in paths:
                with path.open("rb", buffering=0) as file:
                    EventReader(tally, path.name).read(file)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UsageError("no such file", where=str(error.filename)) from error
    except OSError as error:
        raise BackoutError(f"cannot be read: {error.strerror}", where=str(error.filename)) from error
    if stdin is not None:
        EventReader(tally, "standard input").read(stdin)
    return tally.result()
