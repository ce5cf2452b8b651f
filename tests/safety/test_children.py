"""What our children get: no token, no connection string that is not for them, no core file, no module of the folder."""

from __future__ import annotations

import ast
import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from backup_lab import PASSWORD, Lab, running_lab
from kept import template

from backout.providers.postgres.server.binaries import find_binaries

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).parents[2] / "src" / "backout"
STARTING = {
    *("subprocess.run", "subprocess.Popen", "subprocess.call", "subprocess.check_call", "subprocess.check_output"),
    *("asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell"),
}
FORBIDDEN = {
    *("os.system", "os.popen", "os.fork", "os.forkpty", "pty.fork", "pty.spawn", "multiprocessing.Process"),
    *("multiprocessing.get_context", "multiprocessing.Pool", "ProcessPoolExecutor", "subprocess.getoutput"),
}
MAKERS = {
    *("make_bare_environment", "make_sealed_environment", "make_team_environment", "make_tool_environment"),
    *("make_program_environment", "build_environment"),
}
WORDS = (
    *("subprocess", "multiprocessing", "ProcessPool", "os.exec", "os.spawn", "os.system", "os.popen", "os.fork"),
    *("posix_spawn", "pty.", "ChildEnvironment"),
)
CANARIES = {
    name: f"canary-of-a-child-{number}"
    for number, name in enumerate(
        ("CLOUDFLARE_API_TOKEN", "DATABASE_URL", "GITHUB_TOKEN", "BACKOUT_SLACK", "AWS_SECRET_ACCESS_KEY", "ANY_OTHER")
    )
}
CANARY = "canary-of-a-child"
KEY = base64.b64encode(b"canary-key-of-a-test-32-bytes-00").decode()


# --- nobody goes around ----------------------------------------------------------------------------------------------


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _typed(function: ast.AST) -> set[str]:
    """Return the names that a function declares as a ChildEnvironment: mypy looks that they are one."""
    declared = set()
    for node in ast.walk(function):
        if isinstance(node, ast.arg) and node.annotation and "ChildEnvironment" in ast.unparse(node.annotation):
            declared.add(node.arg)
        if isinstance(node, ast.AnnAssign) and "ChildEnvironment" in ast.unparse(node.annotation):
            declared.add(_name(node.target))
        if isinstance(node, ast.withitem) and ast.unparse(node.context_expr).startswith("open_program_environment("):
            declared |= {_name(node.optional_vars)} if node.optional_vars is not None else set()
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _name(node.value.func) in MAKERS:
            declared |= {_name(target) for target in node.targets}
    return declared


def gone_around(source: str) -> list[str]:
    """Return each call in a module that starts a program without an environment made for it."""
    if not any(word in source for word in WORDS):
        return []  # most, and parsing takes a while
    tree = ast.parse(source)
    found = []
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = _name(call.func)
        if name in FORBIDDEN or name.startswith(("os.exec", "os.spawn", "os.posix_spawn")):
            found.append(f"{call.lineno}: {name}")
        if name == "ChildEnvironment":
            found.append(f"{call.lineno}: an environment made by hand")
        if name not in STARTING:
            continue
        given = next((word.value for word in call.keywords if word.arg == "env"), None)
        around = [each for each in functions if each.lineno <= call.lineno <= (each.end_lineno or 0)]
        typed = set().union(*map(_typed, around))
        made = isinstance(given, ast.Call) and _name(given.func) in MAKERS
        if not made and (given is None or _name(given) not in typed):
            found.append(f"{call.lineno}: {name}")
    return found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import subprocess\nsubprocess.run(['x'])", ["2: subprocess.run"]),
        ("import subprocess\nsubprocess.run(['x'], env=dict(os.environ))", ["2: subprocess.run"]),
        ("import subprocess\ndef f(env: dict):\n  subprocess.Popen(['x'], env=env)", ["3: subprocess.Popen"]),
        ("import subprocess\nsubprocess.run(['x'], env=make_bare_environment())", []),
        ("def f(env: ChildEnvironment):\n  subprocess.Popen(['x'], env=env)", []),
        ("import os\nos.execv('x', ['x'])", ["2: os.execv"]),
        ("env = ChildEnvironment(dict(os.environ))", ["1: an environment made by hand"]),
    ],
)
def test_the_search_finds_who_goes_around(source: str, found: list[str]) -> None:
    assert gone_around(source) == found


def test_every_program_is_started_with_an_environment_made_for_it() -> None:
    """What one module of ours makes, and no call without it; none inherits ours by default."""
    found = {
        str(path.relative_to(SOURCE)): calls
        for path in sorted(SOURCE.rglob("*.py"))
        if path.name != "child_environment.py" and (calls := gone_around(path.read_text(encoding="utf-8")))
    }
    # The agent runs on another host, with the variables that its user has there; processes.py starts what runs here.
    # What shows the pages begins itself anew, with fewer variables.
    assert found.keys() == {"providers/caddy/agent.py", "wiring/serve_process.py"}


# --- real children ---------------------------------------------------------------------------------------------------


def environment_of(pid: int) -> str:
    """Return a process's variables, and how large its core files may be."""
    folder = Path("/proc") / str(pid)
    limits = folder.joinpath("limits").read_text(encoding="ascii")
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    return folder.joinpath("environ").read_bytes().replace(b"\0", b"\n").decode() + core


def below(pid: int) -> list[int]:
    """Return the processes that a process started, and those that they did."""
    found: list[int] = []
    for task in (Path("/proc") / str(pid) / "task").glob("*/children"):
        for child in map(int, task.read_text(encoding="ascii").split()):
            found += [child, *below(child)]
    return found


def check(environment: str) -> None:
    assert CANARY not in environment
    assert environment.splitlines()[-1].split()[4:6] == ["0", "0"], "it may leave a core file"


def typed(folder: Path, *arguments: str, variables: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Type a command as a person does whose shell holds every token."""
    own = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", **CANARIES, **(variables or {})}
    program = str(Path(sys.executable).with_name("backout"))
    return subprocess.run(
        (program, *arguments), cwd=folder, env=own, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )


PROGRAMS = """
[app]
name = "shop"
[environments.lab]
platform = {{ provider = "cloudflare", account_id = "0123456789abcdef0123456789abcdef", script = "shop" }}
[environments.lab.database]
provider = "postgres"
url_env = "LAB_URL"
binaries = "{binaries}"
[environments.lab.database.backup]
key_env = "LAB_KEY"
wal = "stream"
"""
SCRIPT = """#!/bin/sh
{{ echo "$0"; env; ulimit -Sc; ulimit -Hc; }} > {notes}/$$.{name}
exec {program} "$@"
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A database, and Postgres' programs behind scripts that write down what they were given."""
    folder = tmp_path_factory.mktemp("children")
    with running_lab(folder, template(), {"max_slot_wal_keep_size": "64MB"}) as running:
        programs, notes = folder / "programs", folder / "notes"
        programs.mkdir()
        notes.mkdir(mode=0o777)
        for program in find_binaries().directory.iterdir():
            script = programs / program.name
            script.write_text(SCRIPT.format(notes=notes, name=program.name, program=program))
            script.chmod(0o755)
        (folder / "backout.toml").write_text(PROGRAMS.format(binaries=programs))
        running.variables = {"LAB_URL": running.dsn, "LAB_KEY": KEY}
        yield running


def noted(lab: Lab) -> dict[str, list[str]]:
    """Return {program: what it was given, each time} since the last look."""
    found: dict[str, list[str]] = {}
    for path in sorted((lab.folder / "notes").iterdir()):
        found.setdefault(path.suffix.removeprefix("."), []).append(path.read_text())
        path.unlink()
    return found


@pytest.mark.long
def test_programs_of_postgres_get_no_token(lab: Lab) -> None:
    """A dump and its proof, a backup and its check: each has at most the password of the database it reads."""
    for command in (("db", "dump"), ("db", "backup"), ("db", "wal", "start")):
        done = typed(lab.folder, *command, variables=lab.variables)
        assert done.returncode == 0, done.stderr
    try:
        receiver = int((lab.archive / "receiver.lock").read_text())
        own = environment_of(receiver)
        check(own)
        assert {"LAB_URL", "LAB_KEY"} <= {line.partition("=")[0] for line in own.splitlines()}
        for pid in below(receiver):
            check(environment_of(pid))
            assert KEY not in environment_of(pid)
    finally:
        assert typed(lab.folder, "db", "wal", "stop", variables=lab.variables).returncode == 0
    found = noted(lab)
    expected = {"pg_dump", "pg_restore", "postgres", "initdb", "pg_basebackup", "pg_verifybackup", "pg_receivewal"}
    assert expected <= found.keys()
    for name, times in found.items():
        for given in times:
            assert CANARY not in given, name
            assert KEY not in given, name
            assert given.splitlines()[-2:] == ["0", "0"], name
            if name in ("postgres", "initdb", "pg_verifybackup"):
                assert PASSWORD not in given, name


# --- what lies in the folder -----------------------------------------------------------------------------------------

HOSTILE = ("click.py", "msgspec.py", "json.py", "subprocess.py", "resource.py", "psycopg.py", "aiohttp.py", "site.py")


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A project's folder that brings modules of its own, which tell that they were loaded."""
    for name in HOSTILE:
        (tmp_path / name).write_text(f"open({str(tmp_path / 'loaded')!r}, 'a').write({name!r})\nraise SystemExit(99)\n")
    (tmp_path / "backout.toml").write_text(PROGRAMS.format(binaries="/nowhere"))
    return tmp_path


@pytest.mark.parametrize("path", [None, "", os.pathsep, "."])
def test_a_module_in_the_folder_is_not_loaded(hostile: Path, path: str | None) -> None:
    """Typed as `python -m backout`, and with a path that names the folder by accident."""
    own = {**os.environ, **({} if path is None else {"PYTHONPATH": path})}
    argv: tuple[str, ...] = (sys.executable, "-m", "backout", "config", "show", "--json")
    if path is not None:  # Python itself would load json.py of such a path
        argv = (str(Path(sys.executable).with_name("backout")), *argv[3:])
        for name in ("json.py", "subprocess.py", "resource.py", "site.py"):
            (hostile / name).unlink()
    done = subprocess.run(argv, cwd=hostile, env=own, capture_output=True, text=True, check=False)
    assert not (hostile / "loaded").exists(), (hostile / "loaded").read_text()
    assert done.returncode == 0, done.stderr


def test_nothing_of_ours_is_in_the_twin_and_nothing_of_the_folder(hostile: Path) -> None:
    """The daemon, Postgres and the parts of the object store have no token, and the daemon loads what is ours."""
    up = typed(hostile, "twin", "up", "--dir", ".", "--json")
    try:
        assert not (hostile / "loaded").exists(), (hostile / "loaded").read_text()
        assert up.returncode == 0, up.stderr
        pids = set(json.loads(up.stdout)["pids"].values())
        every = pids.union(*map(below, pids))
        names = {Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip() for pid in every}
        assert "postgres" in names
        for pid in every:
            check(environment_of(pid))
    finally:
        assert typed(hostile, "twin", "down", "--dir", ".").returncode == 0


def test_processes_that_read_along_load_no_module_of_the_folder(hostile: Path) -> None:
    """Two files, two processes."""
    line = json.dumps({"outcome": "ok", "eventTimestamp": 1, "logs": [], "exceptions": []}) + "\n"
    for number in range(2):
        (hostile / f"{number}.jsonl").write_text(line * 10)
    read = typed(hostile, "diagnose", "events", "0.jsonl", "1.jsonl", "--jobs", "2", "--json")
    assert not (hostile / "loaded").exists(), (hostile / "loaded").read_text()
    assert read.returncode == 0, read.stderr
