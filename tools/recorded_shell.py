"""One line typed into a shell in a folder, for the pages that show the installed program's answers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def type_line(line: str, folder: Path, *, columns: int, programs: str = "") -> subprocess.CompletedProcess[str]:
    """Type a line into a shell whose home is the folder; what it says on stderr is in its stdout.

    Args:
        programs: a folder of programs that are found first.
    """
    path = [programs, str(Path(sys.executable).parent), os.environ["PATH"]]
    return subprocess.run(
        ["/bin/sh", "-c", line],
        cwd=folder,
        env={"PATH": ":".join(filter(None, path)), "HOME": str(folder), "LANG": "C.UTF-8", "COLUMNS": str(columns)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
