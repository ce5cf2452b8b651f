"""pgBackRest as a peer: a stanza on one server, its backups, and a restore to a position, each timed.

The configuration is what its user guide recommends for speed on two cores: lz4, two processes, bundled small files,
block incremental. Source: pgBackRest 2.55 user guide and command reference.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from backout.providers.child import find_unprivileged_prefix
from backout.providers.postgres.server.template import make_tool_environment

if TYPE_CHECKING:
    from pathlib import Path

STANZA = "bench"


def program() -> str:
    """Return where pgBackRest is; the benchmark ends without it: a missing peer is an error."""
    found = shutil.which("pgbackrest")
    if found is None:
        sys.exit("database: pgBackRest is not installed (Debian: apt-get install pgbackrest)")
    return found


class PgBackRest:
    """One repository in `folder` for the server with this data directory.

    Args:
        socket: where the server's unix socket is. port: its port.
    """

    def __init__(self, folder: Path, data_directory: Path) -> None:
        self._folder = folder
        self._data = data_directory
        self.config = folder / "pgbackrest.conf"
        (folder / "repo").mkdir(parents=True)
        self._write("/nowhere", 5432)

    def archive_command(self) -> str:
        """Return the server's `archive_command`."""
        return f"{program()} --config={self.config} --stanza={STANZA} archive-push %p"

    def attach(self, socket: Path, port: int) -> None:
        """Tell it where the server answers, and make the stanza."""
        self._write(str(socket), port)
        self._run("stanza-create")

    def backup(self, kind: str) -> tuple[float, int]:
        """Take a `full` or `incr` backup; return its seconds and the bytes that it added to the repository."""
        began = time.monotonic()
        self._run("backup", f"--type={kind}")
        took = time.monotonic() - began
        info = json.loads(self._run("info", "--output=json"))
        return took, int(info[0]["backup"][-1]["info"]["repository"]["delta"])

    def restore(self, into: Path, lsn: str) -> float:
        """Lay a data directory out that replays to `lsn` and pauses; return the seconds without the replay."""
        into.mkdir(mode=0o700)
        began = time.monotonic()
        self._run(
            f"--pg1-path={into}", "restore", "--type=lsn", f"--target={lsn}", "--target-exclusive",
            "--target-action=pause", "--archive-mode=off",
        )  # fmt: skip
        return time.monotonic() - began

    def _write(self, socket: str, port: int) -> None:
        self.config.write_text(
            "[global]\n"
            f"repo1-path={self._folder / 'repo'}\nlog-path={self._folder}\nlock-path={self._folder / 'lock'}\n"
            f"spool-path={self._folder / 'spool'}\nlog-level-file=off\nlog-level-console=warn\n"
            "repo1-retention-full=9\nrepo1-bundle=y\nrepo1-block=y\ncompress-type=lz4\nprocess-max=2\nstart-fast=y\n"
            f"[{STANZA}]\npg1-path={self._data}\npg1-socket-path={socket}\npg1-port={port}\npg1-user=postgres\n",
            encoding="utf-8",
        )

    def _run(self, *arguments: str) -> str:
        argv = (*find_unprivileged_prefix(), program(), f"--config={self.config}", f"--stanza={STANZA}", *arguments)
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=600, check=False, env=make_tool_environment()
        )
        if done.returncode != 0:
            sys.exit(f"{' '.join(arguments)}: exit {done.returncode}: {done.stdout[-1500:]}{done.stderr[-1500:]}")
        return done.stdout
