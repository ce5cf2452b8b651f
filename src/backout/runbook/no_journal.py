"""The journal's ports where there is no journal to be used: nothing is remembered, and nothing can be recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from backout.errors import BackoutError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.model.deployment import Mark, VersionMark
    from backout.model.incident import Event, Run
    from backout.model.plan import Json
    from backout.model.signals import Counts
    from backout.runbook.toolbox import Toolbox


class NoJournal:
    """Ports Journal, Runs, Marks, CountsStore and Checkpoints: reads find nothing, writes raise `why`.

    Args:
        why: what is wrong with the journal.
    """

    def __init__(self, why: BackoutError) -> None:
        self._why = why

    def _refuse(self, *_args: Any, **_named: Any) -> Any:
        raise self._why

    submit = drive = note = ask = mark = keep = prune = save_checkpoint = _refuse

    def events(self, **_filters: object) -> Iterator[Event]:
        """Yield nothing."""
        return iter(())

    def runs(self, environment: str | None = None) -> tuple[Run, ...]:  # noqa: ARG002 the port
        """Return none."""
        return ()

    def find(self, run: str) -> Run | None:  # noqa: ARG002 the port
        """Return None."""
        return None

    def result(self, run: str, action: str) -> Json:  # noqa: ARG002 the port
        """Return None."""
        return None

    def marks(self, environment: str) -> tuple[VersionMark, ...]:  # noqa: ARG002 the port
        """Return none."""
        return ()

    def marked(self, environment: str, version: str, mark: Mark) -> VersionMark | None:  # noqa: ARG002 the port
        """Return None."""
        return None

    def kept(self, environment: str, since: int, until: int) -> tuple[Counts, ...]:  # noqa: ARG002 the port
        """Return none."""
        return ()

    def load_checkpoint(self, run: str, name: str) -> Json:  # noqa: ARG002 the port
        """Return None."""
        return None


def without_journal(tools: Toolbox, why: BackoutError) -> Toolbox:
    """Return the ports with what the provider tells alone, for when the journal cannot be read."""
    none = NoJournal(why)
    return replace(tools, journal=none, runs=none, marks=none, counts=none, checkpoints=none, triggers=None)


def as_far_as_read(tools: Toolbox) -> Toolbox:
    """Return the ports as they are where the journal can be read, else with what the provider tells alone."""
    try:
        tools.runs.runs(tools.environment)
        tools.marks.marks(tools.environment)
    except BackoutError as error:
        return without_journal(tools, error)
    return tools
