"""The secrets of a recovery: which are set with the code, and their values, which are never recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.runbook.secrets.push import read_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.plan import Json
    from backout.model.secrets import SecretValues
    from backout.runbook.toolbox import Toolbox


def read_secrets(tools: Toolbox, planned: Mapping[str, str], source: Mapping[str, Json]) -> SecretValues | None:
    """Return the planned values, read from their source; None where none are set.

    Args:
        planned: fingerprints by name.
        source: as a plan names it.

    Raises:
        Refused: the source lacks one, or holds another value than when this was planned.
    """
    again = f"backout recover --dry-run -e {tools.environment}"
    return read_values(tools, planned, source, again=again) if planned else None
