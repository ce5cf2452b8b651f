"""Commit files of a working copy: these alone, whatever else is staged, and without running hooks."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError
from backout.providers.child_environment import make_bare_environment
from backout.providers.git.checkout import RUNS_NOTHING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_TIMEOUT_S: Final = 30.0
_OPTIONS: Final = (
    "--no-pager",
    *(word for key, value in RUNS_NOTHING.items() for word in ("-c", f"{key}={value}")),
    *("-c", "commit.gpgSign=false"),  # a key may ask for a password, or run a program of the repository
)


def commit_files(folder: Path, files: Sequence[Path], message: str) -> str:
    """Commit files and return the commit's hash, "" where they are committed as they are.

    Raises:
        BackoutError: there is no git or no working copy, git ignores the files, or it knows no author.
    """
    names = [str(file) for file in files]
    if not _run(folder, "status", "--porcelain", "--ignored", "--", *names):
        return ""
    _run(folder, "add", "--", *names)
    _run(folder, "commit", "--quiet", "--only", "-m", message, "--", *names)
    return _run(folder, "rev-parse", "HEAD")


def _run(folder: Path, *words: str) -> str:
    git = shutil.which("git")
    if git is None:
        raise BackoutError("the report cannot be committed: there is no git", hint="install git")
    try:
        done = subprocess.run(
            [git, *_OPTIONS, "-C", str(folder), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
            env=make_bare_environment({"GIT_TERMINAL_PROMPT": "0"}),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        what = f"the report cannot be committed: git {words[0]}: {type(error).__name__}"
        raise BackoutError(what, where=str(folder)) from error
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())[:300] or f"exit {done.returncode}"
        raise BackoutError(f"the report cannot be committed: {said}", where=str(folder), hint="git status")
    return done.stdout.decode(errors="replace").strip()
