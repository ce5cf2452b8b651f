"""What the suite keeps for all its tests, and what it says that they cost."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from cpu_by_file import cpu_s

from conftest import clear
from streamed import await_line

TESTS = Path(__file__).parents[1]
OWN = {"contract/test_postgres_launcher.py", "drill/test_server_versions.py", "suite/test_costs.py"}
"""Their subject is how a data directory is made, or an installation that nobody else uses."""
_MADE = re.compile(r"(?:server|running)\.create\((?!cache_directory=)|mktemp\(\"template\"\)")


def test_what_a_child_costs_is_counted_once_while_it_runs_and_afterwards() -> None:
    """A server that is waited for in the end only is charged to the tests that it worked for."""
    before = cpu_s()
    work = "import time\nwhile time.process_time() < 0.5: pass\nprint('done', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", work], stdout=subprocess.PIPE, text=True) as child:
        await_line(child, "done")
        running = cpu_s()
        child.kill()
    assert running - before > 0.4
    assert abs(cpu_s() - running) < 0.3


def test_nobody_makes_a_data_directory_from_the_beginning() -> None:
    """Initdb takes ten times as long as a copy of what it made for another test."""
    files = {path.relative_to(TESTS).as_posix(): path.read_text(encoding="utf-8") for path in TESTS.rglob("*.py")}
    assert [name for name, text in files.items() if name not in OWN and _MADE.search(text)] == []
    assert _MADE.search("server.create()")


def test_what_a_module_left_is_removed_and_the_lock_of_the_run_stays(tmp_path: Path) -> None:
    """Else the next run of pytest on this machine removes the folder beneath this one."""
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "file").write_text("", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "cluster")
    (tmp_path / ".lock").write_text("1", encoding="ascii")
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
