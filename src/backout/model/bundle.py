"""The code of a version as it was uploaded, so that it can be uploaded again (safety rule 7)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backout.model.deployment import Version


@dataclass(frozen=True, slots=True)
class BundleModule:
    """One uploaded file: its name, its content type, its bytes."""

    name: str
    content_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bundle:
    """Everything of a version that an upload needs, except the values of its secrets.

    Args:
        version: the noun. metadata: the upload's metadata as JSON bytes (main module, compatibility, bindings); a
            binding that holds a secret stands there as `inherit`, never with a value. modules: the files.
    """

    version: Version
    metadata: bytes
    modules: tuple[BundleModule, ...]
