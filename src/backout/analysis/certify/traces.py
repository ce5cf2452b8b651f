"""What a trial in staging leaves in the provider's list of deployments, as long as it is not put back; pure.

Guard may watch staging meanwhile and mark what it sees, so the newest deployment alone does not tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.analysis.history.marks import read_marks
from backout.analysis.history.remarks import drop_remarks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.model.deployment import Deployment

OURS: Final = "trial by backout: "
"""How the messages of a trial's deployments begin."""
BACK: Final = "put back what was live"


def is_trial(deployment: Deployment) -> bool:
    """Whether a trial made it, other than to put back what was live."""
    return deployment.message.startswith(OURS) and not deployment.message.endswith(BACK)


def find_trial(history: Sequence[Deployment]) -> Deployment | None:
    """Return the deployment of a trial that decides what is live, None where none does.

    Args:
        history: as the provider lists it, newest first.
    """
    live = next(iter(_drop_marks(history)), None)
    return live if live is not None and is_trial(live) else None


def find_before(history: Sequence[Deployment]) -> Deployment | None:
    """Return the deployment that was live before the trial, None where the provider does not list it any more."""
    return next((each for each in _drop_marks(history) if not is_trial(each)), None)


def _drop_marks(history: Sequence[Deployment]) -> tuple[Deployment, ...]:
    return drop_remarks(read_marks(history))
