"""The wheel: what it holds, and where what it fetches is kept; tests/drill/test_installed.py runs it."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from backout.errors import UsageError
from backout.twin import npm

from polling import PATIENCE_S

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an sdist, and with the wheel that was built from that sdist alone."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [UV, "build", "--quiet", "--no-build-isolation", "--offline", "--python", sys.executable, "-o", folder, ROOT],
        capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def one(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def tracked(below: str) -> set[str]:
    """Return the files of the repository below a folder, relative to it; of a copy without one, all of them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", below],  # noqa: S607 - git is wherever it is
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    names = [name for name in listed.stdout.decode().split("\0") if name]
    names = names or [str(path.relative_to(ROOT)) for path in (ROOT / below).rglob("*") if path.is_file()]
    left_out = {"__pycache__", ".wrangler", "node_modules"}
    return {name.removeprefix(f"{below}/") for name in names if not left_out & set(Path(name).parts)}


def test_the_wheel_holds_the_code_the_application_and_the_lock_file(dist: Path) -> None:
    """All that is in the repository and nothing else; the sdist, of which it was made, has the tests too."""
    with zipfile.ZipFile(one(dist, "*.whl")) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        assert wheel.read("backout/shipped/package-lock.json") == (ROOT / "package-lock.json").read_bytes()
    shipped = {name.removeprefix("backout/shipped/") for name in names if name.startswith("backout/shipped/")}
    code = {name.removeprefix("backout/") for name in names if not name.startswith("backout/shipped/")}
    assert code - tracked("src/backout") == tracked("src/backout") - code == set()
    assert shipped == {f"fm5/{name}" for name in tracked("examples/fm5")} | set(npm.LISTS)
    with tarfile.open(one(dist, "*.tar.gz")) as source:
        assert any(name.endswith("/tests/suite/test_wheel.py") for name in source.getnames())


def test_the_lock_file_leaves_the_tests_own_parts_out() -> None:
    """A compiler, or what judges a page, that only the tests need is no part of what a user installs."""
    packages = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert [name for name, package in packages.items() if package.get("dev")] == [
        "node_modules/axe-core",
        "node_modules/drizzle-orm",
        "node_modules/typescript",
    ]


def test_a_cache_is_where_the_rule_of_such_folders_says(tmp_path: Path) -> None:
    """XDG_CACHE_HOME where it is absolute, else .cache; in a checkout the parts are its own."""
    assert npm.find_cache({"XDG_CACHE_HOME": "/x y", "HOME": "/h"}) == Path("/x y/backout")
    assert npm.find_cache({"XDG_CACHE_HOME": "x", "HOME": "/h"}) == Path("/h/.cache/backout")
    assert npm.find_home({"XDG_CACHE_HOME": str(tmp_path)}) == ROOT
    said: list[str] = []
    assert npm.ensure(said.append) == ROOT
    assert said == []


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_parts_that_others_could_have_written_are_not_run(tmp_path: Path, mode: int) -> None:
    """The folder says where, and what to do."""
    folder = tmp_path / "npm-x"
    (folder / npm.MODULES).mkdir(parents=True)
    npm.must_be_ours(folder)
    folder.chmod(mode)
    with pytest.raises(UsageError, match="others could have written") as caught:
        npm.must_be_ours(folder)
    assert "XDG_CACHE_HOME" in str(caught.value.hint)
