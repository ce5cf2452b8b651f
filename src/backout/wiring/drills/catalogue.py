"""The drills that there are: ours, and a team's own beside them."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

from backout.config.drills import read_drills
from backout.errors import UsageError
from backout.twin.npm import CHECKOUT, SHIPPED

if TYPE_CHECKING:
    from backout.config.drills import Drill

OWN_FOLDER: Final = "drills"
"""Where a team's own drills lie, beside backout.toml."""


def load_drills(folder: Path, named: Path | None = None) -> tuple[Drill, ...]:
    """Return our drills, and those of a team's own folder; one of the same name replaces ours.

    Args:
        folder: in which `drills` is looked for.
        named: another folder in its place.

    Raises:
        ConfigError: what is wrong in the files.
        UsageError: `named` is no folder.
    """
    own = folder / OWN_FOLDER if named is None else named
    if named is not None and not own.is_dir():
        raise UsageError(
            "no such folder of drills",
            where=str(own),
            hint="it is to hold TOML files, as `backout drill list` shows them",
        )
    ours = Path(str(resources.files("backout"))) / "catalogue" / "drills"
    return read_drills((ours, own), list_variants())


def list_variants() -> tuple[str, ...]:
    """Return the variants of the sample application, as `bad/answers-404`; none where it is not installed."""
    application = SHIPPED / "fm5" if SHIPPED.is_dir() else CHECKOUT / "examples" / "fm5"
    folder = application / "src" / "variants"
    return tuple(sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.js")))
