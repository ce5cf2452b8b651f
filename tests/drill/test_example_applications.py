"""The applications of the quickstart, each carried out as it stands there: six lines to a guarded deployment."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from cli_shell import backout

from backout.config import find_mistakes
from backout.twin import lifecycle

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.twin.lifecycle import TwinStatus

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
PAGE = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"<!-- recorded: examples/(\w+), [^\n]* -->\n```console\n(.*?)^```", re.DOTALL | re.MULTILINE)
PRINTED = dict(_BLOCK.findall(PAGE))
LINES = {
    name: [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
    for name, block in PRINTED.items()
}
MOST_LINES = 6
MADE = (".backout", ".wrangler", "dist", "node_modules", "backout.toml", "backout-recorder", "visits")
TOLD = re.compile(r"^=== (\d+) (\d+)$", re.MULTILINE)


def copy_application(name: str, folder: Path) -> Path:
    """Return a copy of an application without what was made there by hand, in a folder that has wrangler."""
    copied = shutil.copytree(EXAMPLES / name, folder / name, ignore=shutil.ignore_patterns(*MADE))
    (copied / "node_modules").symlink_to(ROOT / "node_modules")
    return copied


def test_each_application_is_on_the_page_with_six_lines() -> None:
    """What the long test below carries out."""
    assert set(LINES) == set(USES) == {file.parent.name for file in EXAMPLES.glob("*/wrangler.jsonc")} - {"fm5"}
    assert {name for name, lines in LINES.items() if len(lines) > MOST_LINES} == set()


@pytest.mark.parametrize("name", sorted(LINES))
def test_init_reads_each_application_without_a_doubt(tmp_path: Path, name: str) -> None:
    """One production, under the name of the application, with its counts; and nothing that it warns of."""
    folder = copy_application(name, tmp_path)
    made = backout(folder, "init")
    assert made.code == 0, made.err
    assert not re.search(r"^! ", made.out + made.err, re.MULTILINE)
    text = (folder / "backout.toml").read_text(encoding="utf-8")
    assert find_mistakes(text, folder / "backout.toml") == ()
    environments = tomllib.loads(text)["environments"]
    assert list(environments) == ["production"]
    assert environments["production"]["platform"] == {"provider": "cloudflare", "script": name}
    assert environments["production"]["traffic"] == {"provider": "telemetry"}
    assert environments["production"]["deploy"] == {"command": "npm run deploy"}
    assert environments["production"].get("database") == (D1 if name == "d1" else None)


@pytest.mark.long
@pytest.mark.rotating("example applications", 3)
@pytest.mark.parametrize("name", sorted(LINES))
def test_six_lines_lead_to_a_guarded_deployment(tmp_path: Path, name: str) -> None:
    """Each line ends well, guard finds the deployment healthy by its visitors' answers, and the application works."""
    folder = copy_application(name, tmp_path)
    lines = LINES[name]
    path, use = USES[name]
    visitors = f'curl -s -o visits --rate 50/s -H "Host: {name}.localhost" "$TWIN_INGRESS_URL{path}?visit=[1-100000]" &'
    steps = [f'{line}\necho "=== {number} $?"' for number, line in enumerate(lines)]
    script = "\n".join((*steps[:-1], visitors, steps[-1]))
    told = folder / "told"
    try:
        _run(script, folder, told)
        out = told.read_text(encoding="utf-8")
        codes = [(lines[int(number)], int(code)) for number, code in TOLD.findall(out)]
        assert codes == [(line, 0) for line in lines], out
        assert re.search(r"^healthy: 0 of [\d,]+ requests failed", out, re.MULTILINE), out
        assert "WARNING" not in out
        twin = lifecycle.read_status(folder / ".backout" / "twin")
        assert twin.unknown_routes == ()
        assert list_told(PRINTED[name]) <= list_told(out.replace(str(folder), f"~/{name}"))
        environments = tomllib.loads((folder / "backout.toml").read_text(encoding="utf-8"))["environments"]
        assert environments["twin"].get("database") == (D1 if name == "d1" else None)
        use(twin, f"{name}.localhost")
    finally:
        lifecycle.stop_twin(folder / ".backout" / "twin")


def list_told(text: str) -> set[str]:
    """Return the lines of a transcript before guard's, which tell what it measured, without ids and numbers."""
    until_guard = text.partition("$ backout guard")[0].partition("watch version")[0]
    told = (line.rstrip() for line in until_guard.splitlines() if not line.startswith(("$ ", "[…]", "the token")))
    return {re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+", "#", line) for line in told if line}


def _run(script: str, folder: Path, told: Path) -> None:
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "COLUMNS": "80",
        "CI": "1",
        "WRANGLER_HIDE_BANNER": "true",
    }
    with (
        told.open("wb") as writing,
        subprocess.Popen(
            ["/bin/bash", "-c", script],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as shell,
    ):
        try:
            shell.wait(3 * PATIENCE_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)  # the visitors go on for ever


def ask(twin: TwinStatus, host: str, path: str, body: str | None = None) -> tuple[int, str]:
    """Return status and text of an answer of the application."""
    connection = http.client.HTTPConnection(urlsplit(str(twin.ingress_url)).netloc, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request("GET" if body is None else "POST", path, body, {"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def check_health(twin: TwinStatus, host: str) -> None:
    """See that /health is well and names the version."""
    status, text = ask(twin, host, "/health")
    told: dict[str, Any] = json.loads(text)
    assert (status, told["status"]) == (200, "ok")
    assert re.fullmatch(r"[0-9a-f-]{36}", told["version"]["id"])


def use_chat(twin: TwinStatus, host: str) -> None:
    """Say something by HTTP and by a WebSocket, and read both in the room's order."""

    async def talk() -> list[str]:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{twin.ingress_url}/rooms/kitchen", headers={"Host": host}) as socket,
        ):
            before = await socket.receive_json(timeout=PATIENCE_S)
            await socket.send_str("tea?")
            return [before["text"], (await socket.receive_json(timeout=PATIENCE_S))["text"]]

    check_health(twin, host)
    assert ask(twin, host, "/rooms/kitchen", "")[0] == 400
    assert ask(twin, host, "/rooms/kitchen", "hello")[0] == 201
    assert asyncio.run(talk()) == ["hello", "tea?"]
    assert [each["text"] for each in json.loads(ask(twin, host, "/rooms/kitchen")[1])] == ["hello", "tea?"]
    assert ask(twin, host, "/nowhere")[0] == 404


def use_framework(twin: TwinStatus, host: str) -> None:
    """Find the static files that a page names, under names with a hash."""
    check_health(twin, host)
    status, page = ask(twin, host, "/about")
    files = re.findall(r'"(/assets/\w+-[0-9a-f]{8}\.\w+)"', page)
    assert (status, len(files)) == (200, 2)
    assert [ask(twin, host, file)[0] for file in files] == [200, 200]
    assert ask(twin, host, "/nowhere")[0] == 404


D1 = {"provider": "d1", "database_id": "00000000-0000-4000-8000-000000000001", "migrations": "d1"}


def use_notes(twin: TwinStatus, host: str) -> None:
    """Keep a note and find it; what the table refuses is no note."""
    check_health(twin, host)
    status, text = ask(twin, host, "/notes", "hello")
    note: dict[str, Any] = json.loads(text)
    assert (status, note["text"]) == (201, "hello")
    assert json.loads(ask(twin, host, "/notes")[1]) == [note]
    assert json.loads(ask(twin, host, f"/notes/{note['id']}")[1]) == note
    assert [ask(twin, host, "/notes", "")[0], ask(twin, host, "/notes/999")[0]] == [400, 404]
    seen = backout(Path(twin.directory).parents[1], "status", "-e", "twin", "--json")
    assert "0001_notes.sql" in seen.out, seen.err


USES: dict[str, tuple[str, Callable[[TwinStatus, str], None]]] = {
    "chat": ("/rooms/lobby", use_chat),
    "framework": ("/", use_framework),
    "d1": ("/notes", use_notes),
}
"""Where an application has visitors, and what is tried of it in the end."""
