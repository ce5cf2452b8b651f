"""The wheel installed outside the tree: it runs for root and for others, in odd folders, on each Python here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backout.cli.demo import DIRECTORY
from backout.twin import npm
from backout.twin.lifecycle import read_status

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
NOBODY = 65534
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CLASSIFIED = [found[1] for line in PROJECT["classifiers"] if (found := re.fullmatch(r".* :: Python :: (3\.\d+)", line))]
RESOLVED = ("3.11", "3.12", "3.13", "3.14")
"""Versions for which every dependency has a wheel."""
FAILED = {"outcome": "ok", "status": 500, "latency_ms": 5.0, "route": "/"}
REPLAYED = "".join(
    f"{json.dumps(line)}\n"
    for line in (
        {"type": "start", "deploy_ts": 100.0, "old": "v1", "new": "v2", "split": 1.0, "watch_s": 900},
        *({"ts": 100 + n / 100, "version": "v2", **FAILED} for n in range(200)),
        {"type": "tick", "ts": 103.0},
    )
)


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


def pythons() -> dict[str, str]:
    """Return the programs of the versions that are here and run, by version; a system's own one comes first."""
    found = {}
    for version in RESOLVED:
        places = ["/usr/bin", "/usr/local/bin", *os.environ.get("PATH", "").split(os.pathsep)]
        for place in (Path(folder) / f"python{version}" for folder in places):
            if place.is_file() and subprocess.run([place, "-c", ""], check=False, capture_output=True).returncode == 0:
                found.setdefault(version, str(place))
    running = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return {running: sys._base_executable, **found}  # type: ignore[attr-defined] # a bare one, whatever runs the tests


def clean(home: Path, **more: str) -> dict[str, str]:
    """Return variables as a login gives them, and a cache of packages that other installations filled."""
    return {"PATH": os.defpath, "HOME": str(home), "LANG": "C.UTF-8", **more}


def run(words: list[str | Path], cwd: Path, variables: Mapping[str, str], stdin: str = "", code: int = 0) -> str:
    done = subprocess.run(
        words, cwd=cwd, env=variables, input=stdin, capture_output=True, text=True, check=False, timeout=3 * PATIENCE_S
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def install(dist: Path, place: Path, python: str, what: str) -> Path:
    """Install into a fresh environment below `place`; return its program."""
    cached = run([UV, "cache", "dir"], place, os.environ).strip()
    variables = clean(place, UV_CACHE_DIR=cached, **kept_of_uv())
    run([UV, "venv", "--quiet", "--python", python, place / "an environment"], place, variables)
    into = place / "an environment" / "bin" / "python"
    run([UV, "pip", "install", "--quiet", "--python", into, f"{one(dist, what)}[twin]"], place, variables)
    return into.with_name("backout")


def kept_of_uv() -> dict[str, str]:
    """Return what a machine says about where packages come from, and whom it trusts."""
    return {name: value for name, value in os.environ.items() if name.startswith(("UV_", "SSL_CERT", "PIP_CERT"))}


def works(backout: Path, cwd: Path, variables: Mapping[str, str], prefix: tuple[str, ...] = ()) -> None:
    """Ask a program what needs no configuration."""
    begun: list[str | Path] = [*prefix, backout]
    assert run([*begun, "--version"], cwd, variables) == f"backout {PROJECT['version']}\n"
    assert tomllib.loads(run([*begun, "config", "example"], cwd, variables))["app"]["name"] == "fm5"
    told = [json.loads(line) for line in run([*begun, "guard", "replay", "-"], cwd, variables, REPLAYED).splitlines()]
    assert [each["verdict"] for each in told] == ["rollback"], told


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder that every user may look into, with a space in its path."""
    with tempfile.TemporaryDirectory(prefix="backout a wheel ") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.long
def test_the_wheel_runs_outside_the_tree(dist: Path, open_folder: Path) -> None:
    """For each Python that is here, in a clean environment, for who installed it and for another user."""
    for version, python in pythons().items():
        place = open_folder / version
        elsewhere = place / "in here"
        elsewhere.mkdir(parents=True)
        backout = install(dist, place, python, "*.whl")
        works(backout, elsewhere, clean(elsewhere))
        prefix = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--")
        if os.geteuid() == 0 and shutil.which("setpriv") and python.startswith("/usr/"):
            works(backout, elsewhere, clean(elsewhere), prefix)


@pytest.mark.rotating("installs", 4)
@pytest.mark.long
def test_the_sdist_installs(dist: Path, open_folder: Path) -> None:
    """As `pip install` of a source does it, with what a build needs fetched by itself."""
    works(install(dist, open_folder, sys.executable, "*.tar.gz"), open_folder, clean(open_folder))


@pytest.mark.long
def test_uv_installs_it_as_a_tool(open_folder: Path) -> None:
    """`uv tool install .`, of the tree."""
    tools = {"UV_TOOL_DIR": str(open_folder / "tools"), "UV_TOOL_BIN_DIR": str(open_folder / "bin")}
    cached = run([UV, "cache", "dir"], open_folder, os.environ).strip()
    variables = clean(open_folder, UV_CACHE_DIR=cached, **kept_of_uv(), **tools)
    python = sys._base_executable  # type: ignore[attr-defined] # a bare one, whatever runs the tests
    run([UV, "tool", "install", "--quiet", "--python", python, ROOT], open_folder, variables)
    works(open_folder / "bin" / "backout", open_folder, clean(open_folder))


@pytest.mark.rotating("tables of everything", 2)
@pytest.mark.long
@pytest.mark.parametrize("version", RESOLVED)
def test_every_dependency_has_a_wheel_for(version: str, tmp_path: Path) -> None:
    """Of all extras; nothing has to be compiled."""
    words = ["pip", "compile", "--quiet", "--all-extras", "--only-binary", ":all:", "--python-version", version]
    run([UV, *words, ROOT / "pyproject.toml", "-o", tmp_path / "pins.txt"], tmp_path, os.environ)
    assert "aiohttp==" in (tmp_path / "pins.txt").read_text(encoding="utf-8")


def test_the_classifiers_name_versions_that_are_tried() -> None:
    """Python 3.11 on, as `requires-python` says, and no version of which not even the dependencies were looked at."""
    assert PROJECT["requires-python"] == f">={CLASSIFIED[0]}"
    assert set(CLASSIFIED) <= set(RESOLVED)


@pytest.mark.rotating("installs", 4)
@pytest.mark.long
@pytest.mark.proof
def test_the_demo_runs_from_the_wheel(dist: Path, open_folder: Path) -> None:
    """In an empty folder: npm parts into a cache, with progress, once; for an ordinary user where root runs this.

    The record is the one that `backout.demo/1` promises, the twin has stopped, and the report is there.
    """
    backout = install(dist, open_folder, "/usr/bin/python3", "*.whl")
    place = open_folder / "somebody's home"
    place.mkdir()
    prefix: list[str | Path] = []
    if os.geteuid() == 0 and shutil.which("setpriv"):
        os.chown(place, NOBODY, NOBODY)
        prefix = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
    variables = clean(place, **{name: os.environ[name] for name in npm.list_passed_variables()})
    done = subprocess.run(
        [*prefix, backout, "demo", "--json"],
        cwd=place, env=variables, capture_output=True, text=True, check=False, timeout=5 * PATIENCE_S,
    )  # fmt: skip
    record = json.loads(done.stdout)  # whether a busy machine has verified it within 30 s is no question here
    assert done.returncode == (0 if record["verified"] else 1), done.stderr
    assert record["schema"] == "backout.demo/1"
    assert record["live_version"] == record["deployed_good_version"] != record["deployed_bad_version"]
    assert 0 < record["detected_after_s"] <= record["rolled_back_after_s"]
    assert 0 < record["bad_requests_served"] <= record["requests_seen_by_bad_version"]
    assert record["criteria"]
    assert record["run_id"]
    report = Path(record["report_path"])
    assert report.is_absolute()
    assert report.is_file()
    assert not read_status(place / DIRECTORY / "twin").running
    assert re.search(r"installing wrangler and workerd, once, .* into .*/\.cache/backout/npm-", done.stderr)
    assert re.search(r"installed after \d+ s", done.stderr)
    again = run([*prefix, backout, "twin", "up", "--json"], place, variables)
    run([*prefix, backout, "twin", "down"], place, variables)
    assert json.loads(again)["running"] is True
    assert [path.name for path in (place / ".cache" / "backout").iterdir() if path.name.endswith(".new")] == []
