"""What a diagnosis needs, from the configuration: the catalogue of signatures, ours and the team's."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from backout.analysis.signatures import Classifier
from backout.errors import UsageError
from backout.providers.files.signatures import read_catalogue

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.diagnosis import Catalogue


def catalogue(folder: Path | None = None) -> Catalogue:
    """Return our signatures, and those of a team's own folder beside them.

    Raises:
        ConfigError: what is wrong in the files. UsageError: there is no such folder.
    """
    ours = resources.files("backout") / "catalogue" / "signatures"
    if folder is None:
        return read_catalogue([ours])
    if not folder.is_dir():
        hint = "diagnose.signatures of backout.toml, or --signatures, names a folder of TOML files"
        raise UsageError("no such folder of signatures", where=str(folder), hint=hint)
    return read_catalogue([ours, folder])


def classifier(folder: Path | None = None) -> Classifier:
    """Return the catalogue, ready to be asked; errors as `catalogue`."""
    return Classifier(catalogue(folder))
