"""The message of a deployment, signed if marks are, with the head of the journal."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.errors import BackoutError
from backout.model.remark import RemarkKind

if TYPE_CHECKING:
    from backout.model.deployment import Deployment
    from backout.model.remark import Remark
    from backout.runbook.toolbox import Toolbox


def make_message(tools: Toolbox, remark: Remark, on: Deployment | None) -> str:
    """Return a remark as the message of the next deployment, signed if marks are, with the head of the journal.

    Args:
        on: the newest deployment as just read, on top of which it will be.
    """
    if remark.kind is not RemarkKind.MAINTENANCE:  # its version is found again by its message, which stays the same
        with suppress(BackoutError):  # a deployment does not wait for a journal that cannot be read
            remark = replace(remark, witness=tools.journal.read_witness())
    return str(remark if tools.seal is None or on is None else tools.seal.sign(remark, on.id))
