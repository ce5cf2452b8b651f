"""The roles of `report.text.Paint` as the tones of a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backout.cli.support.style import Style
    from backout.report.text import Paint


def paint_for(style: Style) -> Paint:
    """Return the paint of this stream."""
    return style.paint
