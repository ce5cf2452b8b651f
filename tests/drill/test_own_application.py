"""The page "your application on the twin", carried out as it stands there: its files, and each line that it types."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backout.config import Environment, find_mistakes, list_warnings, load
from backout.twin import lifecycle

from polling import PATIENCE_S

if TYPE_CHECKING:
    from drillbook import Drillbook

pytestmark = pytest.mark.rotating("drills", 5)

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "your-app-on-the-twin.md").read_text(encoding="utf-8")
_FILE = re.compile(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.DOTALL | re.MULTILINE)
FILES = dict(_FILE.findall(PAGE))
LINES = [line.removeprefix("$ ") for block in _BLOCK.findall(PAGE) for line in block.splitlines()]
TOLD = re.compile(r"^=== (\d+) (\d+)$", re.MULTILINE)


def test_the_page_has_an_application_and_lines_to_type() -> None:
    """What the long test below carries out."""
    assert set(FILES) == {"wrangler.jsonc", "index.js"}
    assert [line.split(" ")[0] for line in LINES].count("backout") > 12
    assert 'eval "$(backout twin env)"' in LINES


@pytest.mark.long
@pytest.mark.calm
def test_an_environment_for_the_twin_is_one_that_loads(drillbook: Drillbook, tmp_path: Path) -> None:
    """Behind what `init` wrote, without a mistake; and a shell is told all but the token."""
    twin = drillbook.stage.directory / "twin"
    made = drillbook.run("twin", "config", "fm5-production", "--migrations", "prisma", "--dir", str(twin))
    assert made.code == 0, made.err
    first = '[app]\nname = "fm5"\n\n[environments.production]\nplatform = { provider = "cloudflare", script = "fm5" }\n'
    file = tmp_path / "backout.toml"
    file.write_text(first + made.out, encoding="utf-8")
    assert find_mistakes(file.read_text(encoding="utf-8"), file) == ()
    config = load(Environment({}), start=tmp_path, environment="twin")
    assert list(list_warnings(config))
    assert config.environment.health is not None
    assert str(config.environment.health.url) == f"http://fm5-production.localhost:{_port(drillbook)}/health"
    token = (twin / "api-token").read_text(encoding="utf-8").strip()
    assert config.token().reveal() == token
    told = drillbook.run("twin", "env", "--dir", str(twin))
    assert told.code == 0, told.err
    assert token not in told.out
    shell = subprocess.run(
        [
            "/bin/sh",
            "-c",
            f'{told.out}\nprintf "%s " "$CLOUDFLARE_API_TOKEN" "$CLOUDFLARE_ACCOUNT_ID" "$TWIN_DATABASE_URL"',
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stdout.split() == [token, drillbook.stage.twin.account_id, drillbook.stage.twin.postgres_dsn]
    down = drillbook.run("twin", "env", "--dir", str(tmp_path / "none"))
    assert down.code == 2
    assert "the twin is down" in down.err


def _port(drillbook: Drillbook) -> str:
    return str(drillbook.stage.twin.ingress_url).rpartition(":")[2]


@pytest.mark.long
def test_each_line_of_the_page_does_what_the_page_says(tmp_path: Path) -> None:
    """In an empty folder, in one shell: deployed, proven, a bad deployment rolled back, faults told, all ended."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")  # a project that has wrangler
    steps = (f"{line}\n" if line.endswith("&") else f'{line}\necho "=== {n} $?"\n' for n, line in enumerate(LINES))
    script = "".join(steps)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "COLUMNS": "100",
        "CI": "1",
        "WRANGLER_SEND_METRICS": "false",
        "WRANGLER_HIDE_BANNER": "true",
    }
    told = tmp_path / "told"
    with (
        told.open("wb") as writing,
        subprocess.Popen(
            ["/bin/bash", "-c", script],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as shell,
    ):
        try:
            shell.wait(10 * PATIENCE_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)  # the visitors go on for ever
            lifecycle.stop_twin(tmp_path / ".backout" / "twin")
    out = told.read_text(encoding="utf-8")
    codes = {LINES[int(n)]: int(code) for n, code in TOLD.findall(out)}
    expected = {"wait %2": 1, "backout doctor -e twin": 1}
    wrong = {line: code for line, code in codes.items() if line not in expected and code not in (0, 1, 7)}
    assert not wrong, out
    assert codes["wait %2"] == 1, out
    assert "healthy: 0 of" in out, out
    assert "regressed" in out
    ended = r"^(Verified: |NOT verified: not met: response time normal$)"  # how long answers take is the machine's
    assert re.search(ended, out, re.MULTILINE), out
    assert "not measured: the API answered 503" in out
    assert "the code throws" in out.lower()
    assert "twin is down" in out.rpartition("===")[0]
