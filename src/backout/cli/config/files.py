"""The first backout.toml on the disk: whole or not at all, and never over one that is there unasked."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from backout.errors import DecisionNeeded

if TYPE_CHECKING:
    from pathlib import Path


def write_new_configuration(file: Path, text: str, *, force: bool) -> None:
    """Write the file whole or not at all; an existing one stays, unless forced.

    Raises:
        DecisionNeeded: it is there.
    """
    if file.exists() and not force:
        raise DecisionNeeded(
            "backout.toml is there already; nothing was changed",
            where=str(file),
            hint="backout init --dry-run shows the new one, backout init --force overwrites",
        )
    temporary = file.with_suffix(".new")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, file)  # noqa: PTH105 - the atomic one, named as such
