"""The code of a version as it was uploaded, so that it can be uploaded again (safety rule 7)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backout.model.version import Version


SOURCE_MAP: Final = "application/source-map"


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


def hash_modules(modules: Iterable[BundleModule]) -> str:
    """Return the hash of the code: of the names and bytes of its modules, in the order of their names.

    Source maps are left out: they hold paths of the machine that built it.
    """
    found = hashlib.sha256()
    own = (module for module in modules if not module.content_type.startswith(SOURCE_MAP))
    for module in sorted(own, key=lambda module: module.name):
        found.update(f"{module.name}\0{len(module.content)}\0".encode() + module.content)
    return f"code:{found.hexdigest()[:32]}"
