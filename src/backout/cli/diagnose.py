"""`backout diagnose`: which scenario it is, and why; each way of asking has a module of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.cli.db import TableGroup

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "events": ("backout.cli.diagnose_events:events", "Diagnose events in files, or from a pipe."),
    "classify": ("backout.cli.diagnose_classify:classify", "Label texts of errors, one JSON object a line."),
}
"""Name: where it is ("module:attribute"), and its line in the help."""


class _Diagnose(TableGroup):
    table: Mapping[str, tuple[str, str]] = COMMANDS


diagnose = _Diagnose(
    "diagnose", help="Which scenario is it, what caused it, which lines prove it.", no_args_is_help=True
)
