"""A twin of plain hosts: Caddy, Postgres, S3 and email; FM5 on Node there, by the code that runs on Workers."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backout.errors import BackoutError, ProviderRejected, UsageError
from backout.providers.child import find_free_ports, is_running
from backout.twin import lifecycle, remote
from backout.twin.hosts.stage import BUNDLE, HostsStage, find_node

from extent import rotated
from fm5_app import DEFECTS, ORDER, WELL, App
from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.rotating("nights on hosts", 3)


@pytest.fixture(scope="module")
def stage() -> Iterator[HostsStage]:
    """A host without a release; its folder has a short path, for Caddy's socket."""
    folder = Path(tempfile.mkdtemp(prefix="hosts-"))
    made = HostsStage(folder)
    try:
        made.set_up()
        yield made
    finally:
        made.tear_down()
        shutil.rmtree(folder)


@contextlib.contextmanager
def on_node(stage: HostsStage, variant: str, *words: str, **more: str) -> Iterator[App]:
    """Run a variant on Node with the services of the host, until the block ends."""
    app = App(find_free_ports(1)[0])
    environment = {**read_variables(stage), "PATH": os.defpath, "PORT": str(app.port), "RELEASE": "release-1", **more}
    command = (find_node(), str(stage.build(variant) / BUNDLE), *words)
    with (stage.directory / "output").open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        until(lambda: answers(app), 20, "Node answers")
        yield app
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0


def answers(app: App) -> bool:
    with contextlib.suppress(OSError):
        return app.get("/nowhere").status in {404, 500}  # some variants answer nothing else
    return False


def read_variables(stage: HostsStage) -> dict[str, str]:
    lines = (stage.directory / "secrets.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def services(app: App) -> dict[str, str]:
    return {name: service["status"] for name, service in app.get("/health").json["services"].items()}


def test_the_same_application_works_on_node(stage: HostsStage) -> None:
    """Pages, catalogue, files, orders with their email, sessions, health: as on Workers, on the same services."""
    with on_node(stage, "good") as app:
        health = app.get("/health")
        assert (health.status, health.json["version"]["id"], services(app)) == (200, "release-1", WELL)
        assert app.get("/").headers["x-fm5-version"] == "release-1"
        head = app.ask("HEAD", "/about")
        assert (head.status, head.body) == (200, b"")
        assert app.get("/api/models").json["models"][0]["name"] == "Bracket, 40 mm"
        made = app.ask("POST", "/api/models", {"name": "Hook", "price_cents": 120})
        assert app.get(made.headers["location"]).json["model"]["price_cents"] == 120
        key = "/api/files/drawing%20%C3%A4%27.txt"
        assert app.ask("PUT", key, b"lines", **{"content-type": "text/plain"}).status == 201
        stored = app.get(key)
        assert (stored.status, stored.body, stored.headers["content-type"]) == (200, b"lines", "text/plain")
        assert app.get("/api/files/nothing").status == 404
        assert app.ask("PUT", "/api/files/large", b"", **{"content-length": "99999999"}).status == 413
        order = app.ask("POST", "/api/orders", {**ORDER, "email": "node@example.com"})
        assert (order.status, order.json["order"]["confirmation"]) == (201, "sent")
        messages = [json.loads(path.read_bytes()) for path in Path(str(stage.twin.outbox)).glob("*.json")]
        assert ["node@example.com"] in [message["to"] for message in messages]
        token = app.get("/api/session").json["token"]
        assert app.get("/api/session", Authorization=f"Bearer {token}").status == 200
        assert (app.ask("DELETE", "/").status, app.ask("OPTIONS", "/api/orders").status) == (405, 204)
        assert app.ask("TRACE", "/").status == 400


def test_faults_of_services_reach_node_and_others_are_refused(stage: HostsStage) -> None:
    """An order counts although its email waits; what Cloudflare alone has cannot break here, and is called so."""
    with on_node(stage, "good") as app:
        remote.set_fault(stage.twin, {"kind": "service-down", "target": "email"})
        assert lifecycle.read_status(Path(stage.twin.directory)).faults == ("service-down email",)
        assert services(app) == {**WELL, "email": "degraded"}
        waits = app.ask("POST", "/api/orders", {**ORDER, "email": "late@example.com"}).json["order"]
        assert waits["confirmation"] == "pending"
        remote.clear_faults(stage.twin)
        assert services(app) == WELL
    with pytest.raises(ProviderRejected, match="there is no api-down here; this twin has service-down and storage-den"):
        remote.set_fault(stage.twin, {"kind": "api-down"})


def test_the_schedule_runs_once_and_ends(stage: HostsStage) -> None:
    """`scheduled` sends the confirmations that waited, as Cloudflare's schedule does."""
    stage.query("INSERT INTO orders (model_id, quantity, email, total_cents, created_at)"
                " VALUES (1, 1, 'waited@example.com', 450, now() - interval '5 minutes')")  # fmt: skip
    environment = {**read_variables(stage), "PATH": os.defpath}
    command = (find_node(), str(stage.build("good") / BUNDLE), "scheduled")
    subprocess.run(command, env=environment, check=True, timeout=PATIENCE_S)
    assert stage.query("SELECT confirmed_at IS NOT NULL FROM orders WHERE email = 'waited@example.com'") == ((True,),)


@pytest.mark.long
@pytest.mark.parametrize("fault", ["service-down database", "service-down storage", "storage-denied"])
def test_node_gets_over_an_outage(stage: HostsStage, fault: str) -> None:
    """503 while it lasts, 200 when it is over, with no restart: lost connections of the pool are not used again."""
    kind, _, target = fault.partition(" ")
    broken = "database" if target == "database" else "storage"
    with on_node(stage, "good") as app:
        assert app.get("/api/models").status == 200
        remote.set_fault(stage.twin, {"kind": kind, "target": target or None})
        try:
            until(lambda: services(app) == {**WELL, broken: "error"}, 20, f"{broken} is down")
            assert app.get("/health").status == 503
        finally:
            remote.clear_faults(stage.twin)
        until(lambda: services(app) == WELL, 20, f"{broken} is back")
        assert app.get("/api/models").status == 200


@pytest.mark.long
@pytest.mark.rotating("sample application", 3)
@pytest.mark.parametrize("variant", rotated(list(DEFECTS), 3))
def test_each_variant_shows_its_defect_on_node(stage: HostsStage, variant: str) -> None:
    """What a visitor gets is what a visitor of the Worker gets."""
    with on_node(stage, variant) as app:
        for method, path, status in DEFECTS[variant]:
            reply = app.ask(method, path, ORDER if method == "POST" else None)
            assert (path, reply.status) == (path, status)
        assert app.get("/health").json["status"] == ("degraded" if variant == "health-email-down" else "ok")


@pytest.mark.long
def test_a_release_that_does_not_start_is_not_live(stage: HostsStage) -> None:
    """Pushed, it ends at once: the command says so, and what was live still is; no process is left."""
    live = stage.deploy("good")
    with pytest.raises(BackoutError, match="does not start"):
        stage.deploy("broken-start")
    seen = App(int(str(stage.twin.ingress_url).rpartition(":")[2])).get("/health").json["version"]["id"]
    assert seen == live
    pids = lifecycle.read_status(Path(stage.twin.directory)).pids
    assert [name for name in pids if name.startswith("release-")] == [f"release-{live}"]


@pytest.mark.long
def test_a_killed_twin_comes_back_the_same_and_leaves_no_release(tmp_path: Path) -> None:
    """After kill -9 the next `up` ends what was left, at the same addresses; a folder stays of its kind."""
    folder = Path(tempfile.mkdtemp(prefix="hosts-"))
    stage = HostsStage(folder)
    try:
        first = stage.set_up()
        stage.deploy("good")
        pids = lifecycle.read_status(folder / "twin").pids
        (release,) = (pid for name, pid in pids.items() if name.startswith("release-"))
        os.kill(pids["twin"], signal.SIGKILL)
        until(lambda: not is_running(pids["caddy"]), 20, "Caddy ends with its twin")
        assert is_running(release)
        again = lifecycle.start_twin(folder / "twin")
        assert not is_running(release)
        assert (again.home, again.ingress_url, again.ports) == ("hosts", first.ingress_url, first.ports)
        with pytest.raises(UsageError, match="a twin of the home hosts is kept here"):
            lifecycle.start_twin(folder / "twin", kind="cloudflare")
        assert lifecycle.stop_twin(folder / "twin").running is False
        assert not any(is_running(pid) for pid in again.pids.values())
    finally:
        stage.tear_down()
        shutil.rmtree(folder)


@pytest.mark.long
def test_a_path_that_is_too_long_for_a_socket_is_named(tmp_path: Path) -> None:
    """With what to type instead."""
    with pytest.raises(BackoutError, match="longer than the 107 bytes"):
        lifecycle.start_twin(tmp_path / ("long" * 25), kind="hosts")
