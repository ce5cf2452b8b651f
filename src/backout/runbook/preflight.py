"""Before a watch: whether guard could act at all when it has to (safety rules 1 and 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.runbook.identity import check_identity

if TYPE_CHECKING:
    from backout.runbook.toolbox import Toolbox


def preflight(tools: Toolbox, for_s: float) -> None:  # noqa: ARG001 the token's time
    """Return when a watch of that many seconds may begin. Raises Refused or AuthError."""
    check_identity(tools)
