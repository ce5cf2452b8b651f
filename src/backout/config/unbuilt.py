"""Keys of backout.toml that were announced and that nothing reads yet: refused, so that no one relies on them."""

from __future__ import annotations

from typing import Final

NOT_BUILT: Final = {
    "deploy.build": "`backout diagnose build -- COMMAND` runs a build and says why it fails",
}
"""Each key below its environment, with what there is in its place."""


def explain_unbuilt(path: tuple[str | int, ...]) -> str | None:
    """Return what is wrong with a key that is not built, None for any other.

    >>> explain_unbuilt(("environments", "production", "deploy", "build"))[:15]
    'not built yet: '
    """
    words = NOT_BUILT.get(".".join(map(str, path[2:]))) if path[:1] == ("environments",) else None
    return None if words is None else f"not built yet: {words}; take it out"
