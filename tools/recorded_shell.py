"""Lines typed into a shell in a folder, for the pages that show the installed program's answers."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_END = re.compile(r"^=== (?P<number>\d+) (?P<code>\d+)\n", re.MULTILINE)


def type_line(line: str, folder: Path, *, columns: int, programs: str = "") -> subprocess.CompletedProcess[str]:
    """Type a line into a shell whose home is the folder; what it says on stderr is in its stdout.

    Args:
        programs: a folder of programs that are found first.
    """
    return subprocess.run(
        ["/bin/sh", "-c", line],
        cwd=folder,
        env=_make_environment(folder, columns, programs),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def type_lines(lines: Sequence[str], folder: Path, *, columns: int, beside: str) -> list[tuple[int, str]]:
    """Type lines into one shell, and return the exit code and the answer of each.

    Args:
        beside: a line that goes on in the background while the last one runs.
    """
    typed = [f'{line}\necho "=== {number} $?"' for number, line in enumerate(lines)]
    told = folder / ".told"
    with (
        told.open("wb") as writing,
        subprocess.Popen(
            ["/bin/bash", "-c", "\n".join((*typed[:-1], f"{beside} &", typed[-1]))],
            cwd=folder,
            env=_make_environment(folder, columns) | {"CI": "1", "WRANGLER_HIDE_BANNER": "true"},
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as shell,
    ):
        try:
            shell.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)  # what runs beside goes on for ever
    answers, begin = [], 0
    text = told.read_text(encoding="utf-8")
    for end in _END.finditer(text):
        answers.append((int(end["code"]), text[begin : end.start()]))
        begin = end.end()
    return answers


def _make_environment(folder: Path, columns: int, programs: str = "") -> dict[str, str]:
    path = [programs, str(Path(sys.executable).parent), os.environ["PATH"]]
    return {"PATH": ":".join(filter(None, path)), "HOME": str(folder), "LANG": "C.UTF-8", "COLUMNS": str(columns)}
