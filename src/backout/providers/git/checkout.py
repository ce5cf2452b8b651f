"""Port Checkout on git: whether a commit is part of the working copy that the configuration was read from.

git runs as a child process that takes no lock, opens no pager, fetches nothing, and has a short time limit. A working
copy may be untrusted, and its `.git/config` can name programs for almost anything: each such key is overridden here.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from backout.model.version import is_commit

if TYPE_CHECKING:
    from pathlib import Path

_TIMEOUT_S: Final = 5.0
_YES, _NO = 0, 1
RUNS_NOTHING: Final = {
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "core.sshCommand": "false",
    "core.gitProxy": "",
    "core.askPass": "",
    "core.pager": "cat",
    "credential.helper": "",
    "protocol.allow": "never",
    "safe.bareRepository": "explicit",
}
"""What could run a program, or reach another machine, from a repository's own configuration."""
_OPTIONS: Final = (
    *("--no-optional-locks", "--no-pager"),
    *(word for key, value in RUNS_NOTHING.items() for word in ("-c", f"{key}={value}")),
)
_VARIABLES: Final = {
    "GIT_NO_LAZY_FETCH": "1",  # since git 2.44; before it, no protocol is allowed either
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_TERMINAL_PROMPT": "0",
}


class GitCheckout:
    """Port Checkout of the folder in which backout.toml lies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def contains(self, git_sha: str) -> bool | None:
        """Whether HEAD is that commit or descends from it; None when there is no git, no working copy, or no telling.

        A commit that a whole clone does not know is not part of it; one that a shallow clone does not know may be.
        """
        if not is_commit(git_sha) or self._ask("rev-parse", "--verify", "--quiet", "HEAD^{commit}") != _YES:
            return None
        if self._ask("rev-parse", "--verify", "--quiet", f"{git_sha}^{{commit}}") != _YES:
            return None if self._is_shallow() else False
        answer = self._ask("merge-base", "--is-ancestor", git_sha, "HEAD")
        if answer == _NO and self._is_shallow():
            return None
        return {_YES: True, _NO: False}.get(answer)

    def find_commit_time(self, git_sha: str) -> float | None:
        """Return when a commit was made (Unix seconds), None where there is no git or it does not know the commit."""
        if not is_commit(git_sha):
            return None
        code, said = self._run("show", "--no-patch", "--no-show-signature", "--format=%ct", f"{git_sha}^{{commit}}")
        return float(said) if code == _YES and said.isascii() and said.isdecimal() else None

    def find_head(self) -> str:
        """Return the commit that is checked out, "" when there is no git, no working copy, or no telling."""
        code, said = self._run("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        return said if code == _YES and is_commit(said) else ""

    def _is_shallow(self) -> bool:
        """Whether history is cut off, or may be."""
        return self._run("rev-parse", "--is-shallow-repository")[1] != "false"

    def _ask(self, *words: str) -> int:
        return self._run(*words)[0]

    def _run(self, *words: str) -> tuple[int, str]:
        """Return git's exit code (-1: none) and what it said."""
        import subprocess

        from backout.providers.child_environment import make_bare_environment

        git = shutil.which("git")
        if git is None:
            return -1, ""
        try:
            done = subprocess.run(
                [git, *_OPTIONS, "-C", str(self._folder), *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT_S,
                check=False,
                env=make_bare_environment(_VARIABLES),
            )
        except (OSError, subprocess.TimeoutExpired):
            return -1, ""
        return done.returncode, done.stdout.decode(errors="replace").strip()
