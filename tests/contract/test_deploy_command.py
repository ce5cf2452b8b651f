"""The team's own command as a real child process: what it is given, what is heard of it, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from backout.config import Environment, load
from backout.config.secret_names import list_own_keys
from backout.errors import BackoutError, Busy
from backout.model.deployment import CommandEnd
from backout.providers.child import is_running
from backout.providers.command.deploy import ShellDeployCommand
from backout.report.redact import Redactor

from polling import PATIENCE_S, until
from streamed import await_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "s3cr3t-of-the-deploy"
KEYS = """
[app]
name = "shop"
[marks]
key_env = "MARKS_KEY"
[notify.webhook]
url_env = "HOOK"
secret_env = "HOOK_SECRET"
[environments.production.platform]
provider = "cloudflare"
account_id = "0123456789abcdef0123456789abcdef"
script = "shop"
token_env = "TOKEN_OF_SHOP"
[environments.production.deploy]
command = "npm run deploy"
[environments.production.database]
provider = "postgres"
url_env = "DATABASE_URL"
[environments.production.database.backup]
key_env = "BACKUP_KEY"
"""


def command(folder: Path) -> ShellDeployCommand:
    redactor = Redactor()
    redactor.register(SECRET)
    return ShellDeployCommand(folder, folder / "state" / "deploy.lock", redactor.redact)


def unheard(_line: str) -> None:
    """Nobody listens."""


def test_what_it_writes_is_heard_in_order_and_masked(tmp_path: Path) -> None:
    """Both streams, the last line without an end too; what a progress bar wrote over is left out."""
    heard: list[str] = []
    line = f"echo one; echo 'token {SECRET}' >&2; printf '10%%\\r99%%\\n'; printf last"
    ended = command(tmp_path).run(line, heard.append)
    assert heard == ["one", "token ***", "99%", "last"]
    assert ended == CommandEnd(0, tuple(heard))


@pytest.mark.parametrize(("line", "code"), [("exit 7", 7), ("no-such-program-anywhere", 127), ("false || exit 3", 3)])
def test_its_exit_code_is_kept(tmp_path: Path, line: str, code: int) -> None:
    """Whatever it is: what it means is judged elsewhere."""
    assert command(tmp_path).run(line, unheard).code == code


def test_only_the_last_lines_are_kept(tmp_path: Path) -> None:
    """A build may write a lot."""
    heard: list[str] = []
    ended = command(tmp_path).run("i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; done", heard.append)
    assert len(heard) == 3000
    assert ended.tail == tuple(f"line {number}" for number in range(2981, 3001))


def test_it_runs_in_the_folder_with_the_variables_and_no_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token reaches it as a variable, never as an argument; a question gets no answer instead of waiting for one."""
    monkeypatch.setenv("DEPLOY_TOKEN_OF_TEST", SECRET)
    line = 'pwd; test "$DEPLOY_TOKEN_OF_TEST" && echo given; cat; tr "\\0" " " < /proc/$PPID/cmdline; echo'
    heard: list[str] = []
    unmasked = ShellDeployCommand(tmp_path, tmp_path / "deploy.lock", str)
    assert unmasked.run(line, heard.append).code == 0
    assert heard[:2] == [str(tmp_path.resolve()), "given"]
    assert SECRET not in " ".join(heard)


def test_a_key_of_backouts_own_does_not_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment needs the platform's token and the database; the keys of marks and backups it could only misuse."""
    (tmp_path / "backout.toml").write_text(KEYS, encoding="utf-8")
    for name in ("MARKS_KEY", "BACKUP_KEY", "HOOK_SECRET", "TOKEN_OF_SHOP", "DATABASE_URL"):
        monkeypatch.setenv(name, f"value-of-{name}-0123456789abcdef")
    config = load(Environment(dict(os.environ)), start=tmp_path)
    heard: list[str] = []
    kept = ShellDeployCommand(tmp_path, tmp_path / "deploy.lock", str, without=list_own_keys(config.settings))
    assert kept.run("env", heard.append).code == 0
    given = {line.partition("=")[0] for line in heard}
    assert given >= {"TOKEN_OF_SHOP", "DATABASE_URL"}
    assert given.isdisjoint({"MARKS_KEY", "BACKUP_KEY", "HOOK_SECRET"})


def test_a_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    """Not started is no exit code."""
    gone = ShellDeployCommand(tmp_path / "gone", tmp_path / "deploy.lock", str)
    with pytest.raises(BackoutError, match="cannot be started"):
        gone.run("true", unheard)


def test_what_it_leaves_behind_does_not_keep_the_lock(tmp_path: Path) -> None:
    """Build tools leave daemons; the next deployment must not wait for them."""
    made = command(tmp_path)
    ended = made.run("sleep 60 >/dev/null 2>&1 & echo $!", unheard)
    try:
        assert not made.still_runs()
        assert made.run("true", unheard).code == 0
    finally:
        os.kill(int(ended.tail[0]), signal.SIGKILL)


PARENT = """
    import sys
    from pathlib import Path
    from backout.providers.command.deploy import ShellDeployCommand
    folder = Path(sys.argv[1])
    print("begun", flush=True)
    ShellDeployCommand(folder, folder / "deploy.lock", str).run(
        "echo working; while [ ! -e go ]; do sleep 0.05; done; echo on; touch ended",
        lambda line: print(line, flush=True),
    )
"""


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of a deployment."""
    argv = [sys.executable, "-c", textwrap.dedent(PARENT), str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert [await_line(process, "") for _ in range(2)] == ["begun\n", "working\n"]
        yield process
        (tmp_path / "go").touch()
        process.kill()


def test_it_ends_by_itself_when_backout_is_killed(tmp_path: Path, parent: subprocess.Popen[str]) -> None:
    """A deployment cut in the middle is worse than one that nobody watches; until it has ended, that is known."""
    made = ShellDeployCommand(tmp_path, tmp_path / "deploy.lock", str)
    parent.kill()
    parent.wait()
    assert made.still_runs()
    with pytest.raises(Busy, match="already running"):
        made.run("true", unheard)
    (tmp_path / "go").touch()
    until(lambda: (tmp_path / "ended").exists() and not made.still_runs())


def test_ctrl_c_ends_it(tmp_path: Path, parent: subprocess.Popen[str]) -> None:
    """Of the two signals that a person sends the second gets here: nothing of it runs on."""
    parent.send_signal(signal.SIGINT)
    parent.wait(timeout=PATIENCE_S)
    made = ShellDeployCommand(tmp_path, tmp_path / "deploy.lock", str)
    until(lambda: not made.still_runs())
    assert not is_running(parent.pid)
    assert not (tmp_path / "ended").exists()
