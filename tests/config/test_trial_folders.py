"""The folder of a trial names its process, and stays for as long as that runs."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from backout.wiring.certify import folders

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_folder_whose_process_has_ended_is_removed_also_before_its_parent_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders.tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert ended.stdout is not None
    ended.stdout.read()  # until it has ended; nobody waited for it, so it is a zombie
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    pids = {"ended": ended.pid, "running": os.getppid(), "none": 10**30}
    for pid in pids.values():
        (tmp_path / f"trial-{pid}-x").mkdir()
    made = folders.make_folder("trial-")
    left = {each.name for each in tmp_path.iterdir()}
    ended.wait()
    ended.stdout.close()
    assert left == {made.name, f"trial-{os.getppid()}-x"}
