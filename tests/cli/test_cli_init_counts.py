"""`backout init` chooses the source of counts: Workers Logs, where they keep every answer of the Worker."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest
from cli_shell import backout
from scripted_telemetry import TelemetryApi

from scripted_server import answer, scripted_server, token_answers

if TYPE_CHECKING:
    import socket
    import threading
    from pathlib import Path

    from scripted_server import ScriptedServer, Step

COUNTS = {"provider": "telemetry"}
ON = {"enabled": True}


def write(folder: Path, *observability: object) -> None:
    """Write a Worker with one environment; `observability`: at the top, and of the environment."""
    top, env = ({} if each is None else {"observability": each} for each in (*observability, None, None)[:2])
    worker = {"name": "shop", "account_id": "0123", **top, "env": {"production": env}}
    (folder / "wrangler.json").write_text(json.dumps(worker), encoding="utf-8")


def traffic(folder: Path) -> object:
    found = tomllib.loads((folder / "backout.toml").read_text(encoding="utf-8"))
    return found["environments"]["production"].get("traffic")


@pytest.mark.parametrize(
    ("observability", "counts"),
    [
        ((None,), None),
        ((ON,), COUNTS),
        (({**ON, "head_sampling_rate": 1},), COUNTS),
        (({**ON, "head_sampling_rate": 0.1},), None),
        (({**ON, "logs": {"head_sampling_rate": 0.1}},), None),
        (({"logs": {"enabled": True}},), COUNTS),
        (({"logs": {"enabled": True, "invocation_logs": False}},), None),
        (({"enabled": False},), None),
        ((ON, {"enabled": False}), None),
        (({"enabled": False}, ON), COUNTS),
        (("yes",), None),
    ],
)
def test_the_wrangler_file_says_whether_every_answer_is_kept(
    tmp_path: Path, observability: tuple[object, ...], counts: object
) -> None:
    """The key is inherited; without it nothing is known, and the line is there as a comment."""
    write(tmp_path, *observability)
    assert backout(tmp_path, "init").code == 0
    assert traffic(tmp_path) == counts
    text = (tmp_path / "backout.toml").read_text(encoding="utf-8")
    assert '{ provider = "telemetry" }' in text
    assert ("Workers Observability Write" in text) is (counts is not None)


def api(server: ScriptedServer, cloud: TelemetryApi, *, may_read: bool = True) -> Step:
    """Return what answers as the API of an account with this Worker, whose telemetry may be read or not."""
    told = cloud.answers(server)

    def step(connection: socket.socket, ended: threading.Event) -> bool:
        target = server.asked[-1].target
        if "/telemetry/" in target and not may_read:
            refused = {"success": False, "errors": [{"code": 10000, "message": "Authentication error"}]}
            return answer({**refused, "messages": [], "result": None}, 403)(connection, ended)
        if "/telemetry/" in target or "/workers/workers/" in target:
            return told(connection, ended)
        return answer({"success": False, "errors": [], "messages": [], "result": None}, 404)(connection, ended)

    return step


@pytest.mark.parametrize(
    ("rate", "may_read", "counts", "said"),
    [
        (1, True, COUNTS, "production: Workers Logs keep every answer, and guard counts by them"),
        (1, False, COUNTS, "add the permission Workers Observability Write"),
        (0.25, True, None, 'Workers Logs keep 25 % of them; with "observability": { "enabled": true'),
    ],
)
def test_the_worker_itself_knows_better(tmp_path: Path, rate: float, may_read: bool, counts: object, said: str) -> None:
    """With a token its settings are read, which the dashboard may have changed, and the telemetry is asked once."""
    write(tmp_path, None if counts else ON)
    with scripted_server() as server:
        cloud = TelemetryApi(observability={"enabled": True, "head_sampling_rate": rate})
        server.will(api(server, cloud, may_read=may_read))
        variables = {"CLOUDFLARE_API_BASE_URL": server.url, "CLOUDFLARE_API_TOKEN": "t" * 40}
        done = backout(tmp_path, "init", variables=variables)
    assert done.code == 0
    assert traffic(tmp_path) == counts
    assert said in done.err
    assert backout(tmp_path, "config", "check").code == 0


def test_what_the_api_does_not_tell_is_not_known(tmp_path: Path) -> None:
    """The call is a beta: refused, it leaves the line as the wrangler file has it, and says so."""
    write(tmp_path, ON)
    with scripted_server() as server:
        server.will(answer({"success": False, "errors": [], "messages": [], "result": None}, 404))
        variables = {"CLOUDFLARE_API_BASE_URL": server.url, "CLOUDFLARE_API_TOKEN": "t" * 40}
        done = backout(tmp_path, "init", variables=variables)
    assert done.code == 0
    assert traffic(tmp_path) == COUNTS
    assert "production: it is not known whether Workers Logs keep every answer" in done.err


@pytest.mark.parametrize(
    ("scopes", "said"),
    [
        (["Workers Scripts Write", "Workers Observability Write"], ""),
        (["Workers Scripts Write"], 'production: the token lacks "Workers Observability Write" (`traffic.provider'),
        (None, ""),
    ],
)
def test_init_says_what_the_token_needs(tmp_path: Path, scopes: list[str] | None, said: str) -> None:
    """By what is set up; and which of it the token lacks, where it may read its own permissions."""
    write(tmp_path, ON)
    with scripted_server() as server:
        server.will(token_answers(server, scopes))
        variables = {"CLOUDFLARE_API_BASE_URL": server.url, "CLOUDFLARE_API_TOKEN": "t" * 40}
        done = backout(tmp_path, "init", variables=variables)
    told = " ".join(done.err.split())
    assert "production: the API token needs Workers Scripts Read what is live" in told
    counts = 'Workers Observability Write `traffic.provider = "telemetry"`: the counts of Workers Logs'
    assert f'{counts} (not in the template "Edit Cloudflare Workers")' in told
    assert max(map(len, done.err.splitlines())) < 250
    assert ("the token lacks" in told) is bool(said)
    assert said in told
