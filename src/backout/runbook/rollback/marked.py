"""The message of a deployment, signed if marks are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backout.model.deployment import Deployment
    from backout.model.remark import Remark
    from backout.runbook.toolbox import Toolbox


def make_message(tools: Toolbox, remark: Remark, on: Deployment | None) -> str:
    """Return a remark as the message of the next deployment, signed if marks are.

    Args:
        on: the newest deployment as just read, on top of which it will be.
    """
    return str(remark if tools.seal is None or on is None else tools.seal.sign(remark, on.id))
