"""`backout twin` on a real twin: up, look, break, mend, down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTRACT = {
    "schema", "running", "api_base_url", "account_id", "api_token_file", "ingress_url", "workers", "postgres_dsn",
    "s3_endpoint", "s3_credentials_file", "buckets", "outbox", "unknown_routes", "pids",
}  # fmt: skip


SERVES = f"{sys.executable} -m http.server --bind 127.0.0.1 {{port}}"


def call(folder: Path, *arguments: str) -> tuple[int, dict[str, object]]:
    """Run `backout twin ... --json` in a process of its own and return exit code and answer."""
    return run(folder, "twin", *arguments)


def run(folder: Path, *arguments: str) -> tuple[int, dict[str, object]]:
    """Run a command with `--json` in a process of its own and return exit code and answer."""
    command = [sys.executable, "-m", "backout", *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    (line,) = done.stdout.splitlines()
    value = json.loads(line)
    assert isinstance(value, dict)
    return done.returncode, value


@pytest.fixture
def folder(quick_path: Path) -> Iterator[Path]:
    """Return a folder whose path is short, unlike a test's own beside others: a host's socket is below it."""
    yield quick_path
    call(quick_path, "down")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_up_status_faults_and_down(folder: Path) -> None:
    """The contract's keys, the loopback password in clear, faults that come and go, and no process left."""
    code, down = call(folder, "status")
    assert (code, down["running"], down["schema"]) == (1, False, "backout.twin/1")
    assert call(folder, "fault", "list")[1]["hint"] == "backout twin up"

    code, up = call(folder, "up")
    assert (code, up["running"]) == (0, True)
    assert set(up) >= CONTRACT
    assert str(up["api_base_url"]).endswith("/client/v4")
    assert "***" not in str(up["postgres_dsn"])
    assert (folder / ".backout" / "twin").is_dir()
    again = call(folder, "up")[1]
    assert again["pids"] == up["pids"]

    code, made = call(folder, "fault", "set", "service-down", "database", "--for", "5m")
    assert (code, made["fault"]["kind"], made["fault"]["target"]) == (0, "service-down", "database")  # type: ignore[index]
    assert call(folder, "fault", "set", "errors", "--share", "0.2", "--status", "502")[0] == 0
    assert len(call(folder, "fault", "list")[1]["faults"]) == 2  # type: ignore[arg-type]
    assert len(call(folder, "status")[1]["faults"]) == 2  # type: ignore[arg-type]
    code, refused = call(folder, "fault", "set", "service-down", "nothing")
    assert (code, refused["error"]) == (1, "ProviderRejected")
    code, cleared = call(folder, "fault", "clear", "errors")
    assert [fault["status"] for fault in cleared["faults"]] == [502]  # type: ignore[attr-defined]
    assert len(call(folder, "fault", "clear")[1]["faults"]) == 1  # type: ignore[arg-type]

    code, down = call(folder, "down")
    assert (code, down["running"]) == (0, False)
    pids = up["pids"]
    assert isinstance(pids, dict)
    until(lambda: not any(is_alive(pid) for pid in pids.values()), 10, "the twin's processes have ended")


@pytest.mark.parametrize(
    "arguments", [("fault", "set", "flood"), ("fault", "set", "errors", "--for", "a while"), ("up", "--port", "70000")]
)
def test_a_wrong_call_changes_nothing(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Exit 2 before anything is started."""
    code, answer = call(tmp_path, *arguments)
    assert (code, answer["schema"]) == (2, "backout.error/1")
    assert not (tmp_path / ".backout").exists()


@pytest.mark.long
def test_a_host_comes_up_describes_itself_and_goes(folder: Path) -> None:
    """`up --home hosts`: its own keys, its section of backout.toml, a release on it; what it has not is an error."""
    assert call(folder, "up", "--home", "hosts", "--port", "9999")[1]["where"] == "--port"
    code, up = call(folder, "up", "--home", "hosts")
    assert (code, up["running"], up["home"], up["workers"]) == (0, True, "hosts", {})
    assert set(up) >= CONTRACT
    assert call(folder, "up")[1]["pids"] == up["pids"], "a folder stays what it is"
    assert "kept here" in str(call(folder, "up", "--home", "cloudflare")[1]["what"])
    variables = call(folder, "env")[1]["variables"]
    assert variables == {"TWIN_DATABASE_URL": up["postgres_dsn"], "TWIN_INGRESS_URL": up["ingress_url"]}
    assert call(folder, "config", "shop")[1]["hint"] == "backout twin config"
    text = str(call(folder, "config", "--migrations", "prisma")[1]["text"]).replace("node server.js", SERVES)
    (folder / "backout.toml").write_text(f'[app]\nname = "shop"\n{text}\n')
    (folder / "build").mkdir()
    (folder / "build" / "health").write_text('{"status": "ok"}')
    named = run(folder, "release", "push", "build", "-e", "twin", "--commit", "release-12")
    assert (named[0], named[1]["what"]) == (2, "a commit is 7 to 64 hexadecimal digits")
    pushed = run(folder, "release", "push", "build", "-e", "twin", "--env-file", str(up["env_file"]))
    assert pushed[0] == 0, pushed
    release = str(pushed[1]["live"])
    assert f"release-{release}" in call(folder, "status")[1]["pids"]  # type: ignore[operator]
    for words, said in (
        (("cron", "shop"), "no schedules"),
        (("fault", "set", "errors"), "this twin has service-down and storage-denied"),
    ):
        assert said in str(call(folder, *words)[1]["what"])
    assert call(folder, "fault", "set", "service-down", "email")[0] == 0
    assert call(folder, "status")[1]["faults"] == ["service-down email"]
    code, down = call(folder, "down")
    assert (code, down["running"], down["home"]) == (0, False, "hosts")
    pids = {**up["pids"]}  # type: ignore[dict-item]
    until(lambda: not any(is_alive(pid) for pid in pids.values()), 10, "the twin's processes have ended")
    assert call(folder, "up")[1]["ingress_url"] == up["ingress_url"]
    started = run(folder, "release", "start", release[:8], "-e", "twin")
    assert started[1]["release"]["runs"] is True  # type: ignore[index]


def test_a_demo_of_a_variant_that_there_is_not_ends_at_once(folder: Path) -> None:
    """It had started a twin, deployed the good version, and waited a minute for a deployment that never came."""
    command = [sys.executable, "-m", "backout", "demo", "--bad", "perfect", "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    told = json.loads(done.stdout)
    assert (done.returncode, told["what"], told["where"]) == (2, "there is no such variant", "perfect")
    assert "live:" not in done.stderr
