"""Releases of other tools in the same folder, laid out as Capistrano does: they are read, and never changed.

Source: release notes of Capistrano 3.19 (2024-06-24): a file REVISION in each release (with the commit); its
`release_name` is the time in UTC, `%Y%m%d%H%M%S`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from backout.decoding import Undecodable, parse_moment
from backout.model.release import OtherRelease
from backout.model.version import is_commit
from backout.providers.caddy.agent import read

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

REVISION: Final = "REVISION"
_TIME: Final = re.compile(r"([0-9]{4})" + 5 * r"([0-9]{2})")
MOST_BYTES: Final = 200
"""How much of a file REVISION is read."""


def describe_others(found: Mapping[str, bytes], host: str) -> tuple[OtherRelease, ...]:
    """Return the releases of another tool, newest first.

    Args:
        found: what is in the file REVISION of each folder that is no release of ours, b"" where it cannot be read.

    >>> (other,) = describe_others({"20261201093000": b"9fceb02d0ae598e9"}, "web1")
    >>> other.name, other.git_sha, other.created_at
    ('20261201093000', '9fceb02d0ae598e9', 1796117400.0)
    """
    made = [
        OtherRelease(name, host, parse_revision(content), _parse_time(name)) for name, content in sorted(found.items())
    ]
    return tuple(reversed(made))


def read_revision(folder: Path) -> str:
    """Return the commit in the file REVISION of a folder of this machine, "" where there is none."""
    path = folder / REVISION
    try:
        return parse_revision(read(str(path), MOST_BYTES).encode("latin-1")) if path.is_file() else ""
    except OSError:
        return ""


def parse_revision(content: bytes) -> str:
    """Return the commit that a file REVISION names, "" where that is none."""
    text = content[:MOST_BYTES].decode("ascii", errors="replace").strip()
    return text if is_commit(text) else ""


def _parse_time(name: str) -> float | None:
    if not (found := _TIME.fullmatch(name)):
        return None
    try:
        return parse_moment("{}-{}-{}T{}:{}:{}Z".format(*found.groups()))
    except Undecodable:
        return None
