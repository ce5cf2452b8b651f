"""A Worker whose answers come from a Durable Object: a rollback takes the object's code back too, and verifies that."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from backout.model.bundle import BundleModule
from backout.providers.cloudflare.bundles import upload_form

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drillbook import Drillbook, Trial

SCRIPT = "rooms"
HOST = f"{SCRIPT}.localhost"
SOURCE = """
import { DurableObject } from "cloudflare:workers";
export class Counter extends DurableObject {
  async next() {
    if (BROKEN) throw new TypeError("the counter is broken");
    const count = ((await this.ctx.storage.get("count")) ?? 0) + 1;
    await this.ctx.storage.put("count", count);
    return count;
  }
}
export default {
  async fetch(request, env) {
    const { pathname } = new URL(request.url);
    if (pathname === "/health") return Response.json({ status: "ok", version: { id: env.CF_VERSION.id } });
    if (pathname === "/page") return Response.json({ count: 0 });
    return Response.json({ count: await env.COUNTER.get(env.COUNTER.idFromName("all")).next() });
  },
};
"""
UPDATE = {"mode": "immediate"}
BINDINGS = (
    {"name": "COUNTER", "type": "durable_object_namespace", "class_name": "Counter"},
    {"name": "CF_VERSION", "type": "version_metadata"},
)
BESIDE = (
    (r"(?m)^services = .*$", "services = {}"),
    (r"(?m)^database = .*\n", ""),
    (r'script = "[^"]*"', f'script = "{SCRIPT}"'),
    (r"http://[\w.-]*\.localhost:", f"http://{HOST}:"),
    (r'watch = "\d+s"', 'watch = "10s"'),
)


def call(book: Drillbook, method: str, path: str, data: bytes | None = None, content_type: str = "") -> Any:
    """Call the twin's API about this Worker."""
    twin = book.stage.twin
    token = Path(str(twin.api_token_file)).read_text(encoding="ascii").strip()
    url = f"{twin.api_base_url}/accounts/{twin.account_id}/workers/scripts/{SCRIPT}{path}"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": content_type}
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return json.load(answer)["result"]


def deploy(book: Drillbook, *, broken: bool) -> str:
    """Deploy the application as a push does, and return the version; its objects change at once."""
    metadata = {
        "main_module": "index.js",
        "compatibility_date": "2026-10-01",
        "bindings": BINDINGS,
        "code_update_strategy": UPDATE,
    }
    code = f"const BROKEN = {json.dumps(broken)};\n{SOURCE}"
    form = upload_form(metadata, (BundleModule("index.js", "application/javascript+module", code.encode()),))
    call(book, "PUT", "", bytes(form.data), form.content_type)
    return str(call(book, "GET", "/deployments")["deployments"][0]["versions"][0]["version_id"])


def visit(book: Drillbook, path: str = "/") -> tuple[int, int]:
    """Return the status of an answer, and the count in it, 0 without one."""
    ingress = urlsplit(str(book.stage.twin.ingress_url))
    connection = http.client.HTTPConnection(str(ingress.hostname), ingress.port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Host": HOST})
        answer = connection.getresponse()
        told = answer.read()
        return answer.status, json.loads(told)["count"] if answer.status == HTTPStatus.OK else 0


@contextlib.contextmanager
def visitors(book: Drillbook) -> Iterator[None]:
    """Have visitors come until the block ends."""
    ended = threading.Event()

    def come() -> None:
        while not ended.wait(0.05):
            for path in ("/", "/page", "/page"):
                with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                    visit(book, path)

    thread = threading.Thread(target=come)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.fixture
def trial(drillbook: Drillbook) -> Iterator[Trial]:
    """Return a trial about this Worker, without marks; it is gone afterwards."""
    yield drillbook.trial().replace(*BESIDE).forget_marks()
    call(drillbook, "DELETE", "")


@pytest.mark.long
@pytest.mark.calm
def test_a_rollback_takes_the_code_of_objects_back_at_once(drillbook: Drillbook, trial: Trial) -> None:
    """Left alone the object goes on with the broken code for five minutes, as it does while the target is proven."""
    good = deploy(drillbook, broken=False)
    assert visit(drillbook) == (200, 1)
    deploy(drillbook, broken=True)
    assert visit(drillbook)[0] == 500
    call(drillbook, "POST", "/deployments", _to(good), "application/json")
    assert visit(drillbook)[0] == 500  # the Worker is the good one; its object is not
    bad = deploy(drillbook, broken=True)
    assert visit(drillbook)[0] == 500
    with visitors(drillbook):
        ended = trial.run("rollback", good, "-m", "it is broken", "--confirm", "production", "--json")
        assert ended.code == 0, ended.out + ended.err
    told = " ".join(ended.err.split())
    assert "--durable-objects-code-update-mode immediate" in told
    assert "objects that are live are reset" in told
    newest = call(drillbook, "GET", "/deployments")["deployments"][0]
    assert newest["code_update_strategy"] == UPDATE
    assert bad not in json.dumps(newest["versions"])
    status, count = visit(drillbook)
    assert status == 200
    assert count > 1  # what it counted is kept
    proof = trial.tools().runs.result(str(ended.json["run_id"]), "prove")
    assert isinstance(proof, dict)
    assert "whose code Durable Objects run until the switch" in str(proof["why"])


def _to(version: str) -> bytes:
    return json.dumps({"strategy": "percentage", "versions": [{"version_id": version, "percentage": 100}]}).encode()
