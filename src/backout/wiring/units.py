"""Whether systemd would load a unit: asked of `systemd-analyze`, which runs nothing of it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from backout.providers.child_environment import make_bare_environment

_WITHIN_S: Final = 20.0


def check_unit(text: str, name: str, path: str | None = None) -> tuple[str, ...] | None:
    """Return what `systemd-analyze --user verify` finds in a unit, None where it is not there or gives no answer.

    Args:
        text: the unit.
        name: its file's.
        path: where programs are looked for, as PATH; None: that of this process.
    """
    program = shutil.which("systemd-analyze", path=path)
    if program is None:
        return None
    with tempfile.TemporaryDirectory(prefix="backout-unit-") as folder:
        file = Path(folder) / name
        file.write_text(text, encoding="utf-8")
        try:
            done = subprocess.run(
                (program, "--user", "verify", str(file)),
                capture_output=True,
                text=True,
                stdin=subprocess.DEVNULL,
                timeout=_WITHIN_S,
                check=False,
                env=make_bare_environment({"XDG_RUNTIME_DIR": folder}),  # without one it verifies nothing
            )
        except (OSError, subprocess.SubprocessError):
            return None
        findings = [line.replace(f"{folder}/", "") for line in done.stderr.splitlines() if line.strip()]
    if done.returncode != 0 and not findings:
        findings = [f"it ended with exit code {done.returncode}"]
    return tuple(findings)
