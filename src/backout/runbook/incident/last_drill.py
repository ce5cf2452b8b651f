"""The last drill of an environment, as far as the journal knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backout.model.checkup import Drill
    from backout.ports import Journal


def find_last_drill(journal: Journal, environment: str) -> Drill | None:
    """Return the newest drill of a rollback or a recovery, None where none is recorded."""
    return None
