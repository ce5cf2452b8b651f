"""A copy of the repository with an interpreter of its own, so that programs that tests start run the copy's code."""
# ruff: noqa: S607 - beside scripts, in no package

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_LEFT_OUT = (".git", ".venv", "node_modules", ".backout", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis")


class WorkingCopy:
    """A copy of the repository whose code may be changed.

    Args:
        folder: an empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "backout"
        shutil.copytree(ROOT, self.folder, ignore=shutil.ignore_patterns(*_LEFT_OUT, "__pycache__"))
        (self.folder / "node_modules").symlink_to(ROOT / "node_modules")
        self._python = self._interpreter()

    def _interpreter(self) -> Path:
        """Make an environment that finds the copy's code first and the real environment's packages behind it."""
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", ".venv"], cwd=self.folder, check=True)
        home = self.folder / ".venv"
        packages = next(home.glob("lib/python*/site-packages"))
        paths = [str(self.folder / "src"), sysconfig.get_path("purelib")]
        (packages / "backout.pth").write_text("\n".join(paths) + "\n", encoding="utf-8")
        python = home / "bin" / "python"
        program = home / "bin" / "backout"
        start = "import sys\nfrom backout.__main__ import main\nsys.exit(main())\n"
        program.write_text(f"#!{python}\n{start}", encoding="utf-8")
        program.chmod(0o755)
        return python

    def put_source_of(self, commit: str) -> None:
        """Replace src/ by that of a commit; the tests stay as they are.

        Raises:
            CalledProcessError: there is no such commit.
        """
        shutil.rmtree(self.folder / "src")
        self.put(commit, "src")

    def put(self, commit: str, *paths: str) -> None:
        """Put these files and folders there as a commit has them.

        Raises:
            CalledProcessError: there is no such commit, or it has none of them.
        """
        archived = subprocess.run(["git", "archive", commit, *paths], cwd=ROOT, check=True, capture_output=True)
        subprocess.run(["tar", "-x"], cwd=self.folder, check=True, input=archived.stdout)

    @property
    def python(self) -> Path:
        """The interpreter that runs the copy's code."""
        return self._python

    def run_tests(self, *arguments: str, timeout_s: float = 900.0) -> subprocess.CompletedProcess[str]:
        """Run pytest in the copy, in the order of the files."""
        command = [str(self._python), "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", *arguments]
        tools = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        env = {"PATH": tools, "HOME": str(self.folder), "LANG": "C.UTF-8"}  # the parts of the twin are found there
        env["PYTHONDONTWRITEBYTECODE"] = "1"
        return subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, check=False, timeout=timeout_s
        )
