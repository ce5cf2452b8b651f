"""Routes without parameters in a project's source, which guard could request; names only, nothing is run.

Source code is text here: a route looks like `"GET /path"`, `.get("/path"` or `@app.get("/path")`. Routes that end a
session or act when requested are left out, whatever their method.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 8
"""How many paths guard requests at most."""
_FOLDERS = ("src", "app", "server", "routes", "worker", "functions", "api")
_KINDS = frozenset({".js", ".mjs", ".cjs", ".ts", ".mts", ".jsx", ".tsx", ".py"})
_NOT_OURS = frozenset({"node_modules", ".git", ".venv", "dist", "build", "test", "tests", "__tests__"})
_MOST_FILES, _MOST_BYTES = 2000, 256 * 1024
_PATH = r"/(?:[A-Za-z0-9_.~-]+(?:/[A-Za-z0-9_.~-]+)*)?"
_ROUTE = re.compile(rf"""["'`]GET ({_PATH})["'`]|\.get\(\s*["'`]({_PATH})["'`]""")
_ACTS = re.compile(r"log-?out|sign-?out|sign-?off|delete|remove|unsubscribe|reset|confirm|verify|callback|cron|admin")
_HEALTH = re.compile(r"^/(?:api/)?(?:health|healthz|livez|readyz|status|ping|up)$")


def find_routes(folder: Path) -> tuple[str, ...]:
    """Return the paths of GET routes without parameters, the shortest first, the health endpoint's left out."""
    found: set[str] = set()
    for number, file in enumerate(_list_files(folder)):
        if number >= _MOST_FILES:
            break
        found |= extract_routes(read_text(file, _MOST_BYTES))
    return tuple(sorted(found, key=lambda path: (path.count("/"), len(path), path))[:MOST])


def extract_routes(text: str) -> set[str]:
    """Return the routes in a source text.

    >>> code = '{"GET /": home, "GET /a/:id": one, "POST /b": two}; app.get("/c", c); app.get("/logout", d)'
    >>> sorted(extract_routes(code))
    ['/', '/c']
    """
    paths = {str(match[1] or match[2]) for match in _ROUTE.finditer(text)}
    return {path for path in paths if not _ACTS.search(path.lower()) and not _HEALTH.match(path)}


def _list_files(folder: Path) -> Iterator[Path]:
    for name in _FOLDERS:
        for at, folders, files in os.walk(folder / name):
            folders[:] = sorted(each for each in folders if each not in _NOT_OURS)
            yield from (file for each in sorted(files) if (file := Path(at, each)).suffix in _KINDS)


def read_text(file: Path, most_bytes: int) -> str:
    """Return the beginning of a file, "" when it cannot be read."""
    try:
        with file.open("rb") as opened:
            return opened.read(most_bytes).decode(errors="replace")
    except OSError:
        return ""


def format_proposal(routes: tuple[str, ...]) -> str:
    """Return the line of a first backout.toml that proposes routes which have not been requested yet."""
    listed = ", ".join(f'"{path}"' for path in routes)
    return f"# paths = [{listed}] # not asked: uncomment those that answer well, or: backout init --ask-routes"


def format_accepted(routes: tuple[str, ...]) -> str:
    """Return the line with those that answered 2xx, which replaces the proposal."""
    listed = ", ".join(f'"{path}"' for path in routes)
    return f"paths = [{listed}] # each answered 2xx"
