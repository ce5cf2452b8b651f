"""The code of a version as it was uploaded, so that it can be uploaded again (safety rule 7)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backout.model.value import Value

if TYPE_CHECKING:
    from backout.model.version import Version


@dataclass(frozen=True, slots=True)
class BundleModule:
    """One uploaded file: its name, its content type, its bytes."""

    name: str
    content_type: str
    content: bytes = field(repr=False)


class Bundle(Value, frozen=True):
    """Everything needed to upload a version, except the values of its secrets.

    Args:
        version: the noun.
        metadata: the upload's metadata as JSON bytes (main module, compatibility, bindings); a secret binding
            is written as `inherit`, never with a value.
        modules: the files.
    """

    version: Version
    metadata: bytes
    modules: tuple[BundleModule, ...]
