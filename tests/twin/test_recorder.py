"""The flight recorder in real workerd processes on a real twin: it counts what the twin's router counts."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from cli_shell import backout
from kept import furnish
from recorder_lab import SECRET, add_counter, add_recorder, call, counter, counter_url, recorder, store, token, upload

from backout.config.init import wrangler as wrangler_files
from backout.config.init.recorder import make_recorder
from backout.model.guard.signals import Counts, RouteCounts, get_bucket_floor_ms, merge_counts
from backout.twin import lifecycle, wrangler

from polling import PATIENCE_S, until
from private import write_private

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.config.init.bill import Sink
    from backout.twin.lifecycle import TwinStatus

pytestmark = pytest.mark.rotating("recorder", 3)

APP = """
export default {
  async fetch(request, env, ctx) {
    const url = new URL(request.url);
    if (url.pathname === "/boom") throw new Error("boom");
    await scheduler.wait(Number(url.searchParams.get("ms") ?? 0));
    return new Response("NAME", { status: url.pathname === "/bad" ? 503 : url.pathname === "/none" ? 404 : 200 });
  },
};
"""


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwinStatus]:
    directory = tmp_path_factory.mktemp("recorder") / "twin"
    yield lifecycle.start_twin(furnish(directory))
    lifecycle.stop_twin(directory)


def visit(twin: TwinStatus, script: str, path: str, **headers: str) -> int:
    headers = {name.replace("_", "-"): text for name, text in headers.items()}
    request = urllib.request.Request(f"{twin.ingress_url}{path}", headers={"Host": f"{script}.localhost", **headers})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def leave(twin: TwinStatus, script: str) -> None:
    """Ask for something slow, and go away before the answer."""
    connection = http.client.HTTPConnection(urlsplit(str(twin.ingress_url)).netloc, timeout=0.1)
    with contextlib.suppress(OSError):
        connection.request("GET", "/slow?ms=1500", headers={"Host": f"{script}.localhost"})
        connection.getresponse()
    connection.close()


def both(
    twin: TwinStatus, script: str, bucket: str, since: int, until_s: int, *, in_object: bool = False
) -> tuple[list[Counts], list[Counts]]:
    """Return what the router and what the recorder counted, once both are final.

    `bucket`: where the counts are, or with `in_object` the recorder's name.
    """

    def exact() -> list[Counts] | None:
        query = f"script={script}&since={since}&until={until_s}"
        headers = {"Authorization": f"Bearer {token(twin)}"}
        request = urllib.request.Request(f"{twin.ingress_url}/twin/v1/counts?{query}", headers=headers)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            page = json.load(response)
        rows = [_counts(row) for row in page["counts"] if row["requests"]]
        return rows if page["complete_until"] >= until_s else None

    with (counter if in_object else recorder)(twin, script, bucket) as reader:

        def recorded() -> list[Counts] | None:
            visit(twin, script, "/", x_backout_probe="1")  # a sign of life, as guard's own probes are
            page = reader.read(since, until_s)
            return list(page.counts) if page.complete_until >= until_s else None

        return until(exact, 10, "the router") or [], until(recorded, 30, "the recorder", every_s=0.2) or []


def _counts(row: dict[str, Any]) -> Counts:
    requests = row["requests"] - row["canceled"]
    routes = {
        name: RouteCounts(route["requests"], route["errors"], classes=route["classes"])
        for name, route in row["routes"].items()
        if route["requests"]
    }
    whole = (row["version"], row["second"], requests, row["errors"], row["canceled"], dict(row["latency"]))
    return Counts(*whole, routes, row["classes"])


def by_route(rows: list[Counts]) -> dict[tuple[str, str], tuple[int, int]]:
    """Return (requests, errors) by version and route."""
    sums: dict[tuple[str, str], tuple[int, int]] = {}
    for row in rows:
        for name, route in row.routes.items():
            requests, errors = sums.get((row.version, name), (0, 0))
            sums[row.version, name] = (requests + route.requests, errors + route.errors)
    return sums


def classes(rows: list[Counts]) -> tuple[dict[str, int], dict[str, int]]:
    """Return {class: answers} of all versions, of the whole and of all routes."""
    whole = merge_counts(row.classes for row in rows)
    parts = merge_counts(route.classes for row in rows for route in row.routes.values())
    return {str(name): n for name, n in whole.items()}, {str(name): n for name, n in parts.items()}


def by_version(rows: list[Counts]) -> dict[str, tuple[int, int, int]]:
    sums: dict[str, Counter[str]] = {}
    for row in rows:
        found = sums.setdefault(row.version, Counter())
        found.update(requests=row.requests, errors=row.errors, canceled=row.canceled)
    return {version: (c["requests"], c["errors"], c["canceled"]) for version, c in sums.items()}


def latencies(rows: list[Counts], version: str) -> list[int]:
    """Return the bucket of each answer, sorted."""
    return sorted(
        bucket for row in rows if row.version == version for bucket, n in row.latency.items() for _ in range(n)
    )


@pytest.mark.long
def test_the_recorder_counts_what_the_router_counts(twin: TwinStatus) -> None:
    """Two versions at once, errors by status, by exception and by a fault, people who leave, 4xx and our own probes."""
    bucket, script = "shop-backout-counts", "shop"
    add_recorder(twin, "shop-recorder", bucket, FLUSH_MS="700")
    upload(twin, script, APP.replace("NAME", "one"), tail_consumers=[{"service": "shop-recorder"}])
    upload(twin, script, APP.replace("NAME", "two"))
    items = call(twin, "GET", f"workers/scripts/{script}/versions")["items"]
    shares = [{"version_id": item["id"], "percentage": 50} for item in items[:2]]
    body = json.dumps({"strategy": "percentage", "versions": shares}).encode()
    call(twin, "POST", f"workers/scripts/{script}/deployments", body)
    begun = int(time.time())
    paths = ["/", "/", "/app/x?ms=30", "/app?ms=120", "/bad", "/boom", "/none", "/wp-admin", "/app?ms=5"]

    def crowd(number: int) -> None:
        for step in range(40):
            visit(twin, script, paths[(number * 7 + step) % len(paths)])
            if step % 10 == 0:
                visit(twin, script, "/bad", x_backout_probe="1")

    people = [threading.Thread(target=crowd, args=(number,)) for number in range(6)]
    people.append(threading.Thread(target=lambda: [leave(twin, script) for _ in range(3)]))
    for person in people:
        person.start()
    for person in people:
        person.join()
    exact, recorded = both(twin, script, bucket, begun, int(time.time()) + 3)
    known = ["/", "/app/x?ms", "/app?ms", "/bad", "/boom", "/wp-admin"]
    counted = by_version(exact)
    assert counted == by_version(recorded)
    assert by_route(exact) == by_route(recorded)
    assert {name for _, name in by_route(exact)} == {f"GET {path}" for path in known} | {"other"}
    assert [dict(part) for part in classes(exact)] == [dict(part) for part in classes(recorded)]
    assert len(counted) == 2
    assert sum(requests for requests, _, _ in counted.values()) == 240
    assert sum(canceled for _, _, canceled in counted.values()) == 3
    assert sum(sum(waits.values()) for row in recorded for waits in row.left.values()) == 3
    assert all(errors > 5 for _, errors, _ in counted.values())
    for version in counted:
        for of_router, of_recorder in zip(latencies(exact, version), latencies(recorded, version), strict=True):
            # a tail event tells whole milliseconds: the buckets are neighbours, or less than one millisecond apart
            low, high = sorted((of_router, of_recorder))
            assert high - low <= 1 or get_bucket_floor_ms(high) - get_bucket_floor_ms(low + 1) < 1.0
    shifted = Counter({row.second: row.requests for row in exact})
    shifted.subtract({row.second: row.requests for row in recorded})
    # Only at the edge of a second; a busy machine lays more answers there.
    assert sum(abs(number) for number in shifted.values()) <= 0.1 * 240 * 2


@pytest.mark.long
def test_only_what_is_counted_leaves_the_worker(twin: TwinStatus) -> None:
    """No header, no value of a query, no id of a path; guard, not the Worker, knows which routes are guesses."""
    add_recorder(twin, "bare-recorder", "bare-backout-counts", FLUSH_MS="100")
    version = upload(twin, "bare", APP, tail_consumers=[{"service": "bare-recorder"}])
    begun = int(time.time())
    visit(twin, "bare", "/orders/4711?token=hunter2", Authorization="Bearer hunter2", Cookie="a=hunter2")
    visit(twin, "bare", "/none?of=that")
    visit(twin, "bare", "/12345")
    both(twin, "bare", "bare-backout-counts", begun, int(time.time()) + 1)
    texts, rows = [], []
    with store(twin) as bucket:
        for listed in bucket.list_objects("bare-backout-counts"):
            with bucket.get("bare-backout-counts", listed.key) as body:
                texts.append(body.read().decode())
    for text in texts:
        rows += [row for batch in json.loads(text.split("\n", 1)[1])["batches"] for row in batch["rows"]]
    assert not any(word in text for text in texts for word in ("hunter2", "4711", "of=that", "12345"))
    assert {row["version"] for row in rows} == {version}
    visitors = [row for row in rows if row["requests"]]
    assert {row["route"] for row in visitors} == {"GET /orders/{id}?token", "GET /{id}", "GET /none?of"}
    assert {status for row in visitors for status in row["statuses"]} == {"200", "404"}


@pytest.mark.long
def test_the_object_counts_what_the_router_counts(twin: TwinStatus) -> None:
    """In its own Durable Object, read through its own signed route; whoever cannot sign learns nothing."""
    add_counter(twin, "sum-recorder", FLUSH_MS="200")
    upload(twin, "sum", APP, tail_consumers=[{"service": "sum-recorder"}])
    begun = int(time.time())
    for path in ("/", "/bad", "/boom", "/none", "/orders/4711?token=hunter2"):
        visit(twin, "sum", path)
    exact, recorded = both(twin, "sum", "sum-recorder", begun, int(time.time()) + 1, in_object=True)
    assert by_version(exact) == by_version(recorded)
    assert by_route(exact) == by_route(recorded)
    assert sum(row.requests for row in recorded) == 5
    assert visit(twin, "sum-recorder", "/backout/sum?since=0&after=0") == 404
    forged = f"Backout {int(time.time())},{'A' * 43}="
    assert visit(twin, "sum-recorder", "/backout/sum?since=0&after=0", Authorization=forged) == 401


@pytest.mark.long
def test_a_recorder_that_is_away_costs_no_count(twin: TwinStatus) -> None:
    """While its bucket is out of order nothing is stored; what was counted comes later, once."""
    add_recorder(twin, "late-recorder", "late-backout-counts", FLUSH_MS="100")
    upload(twin, "late", APP, tail_consumers=[{"service": "late-recorder"}])
    begun = int(time.time())
    fault = {"kind": "storage-denied", "target": "late-backout-counts"}
    with contextlib.closing(_Fault(twin, fault)):
        for _ in range(10):
            visit(twin, "late", "/bad")
    exact, recorded = both(twin, "late", "late-backout-counts", begun, int(time.time()) + 1)
    assert by_version(exact) == by_version(recorded)
    assert sum(row.errors for row in recorded) == 10


class _Fault:
    """A fault of the twin until it is closed."""

    def __init__(self, twin: TwinStatus, fault: dict[str, Any]) -> None:
        self._twin = twin
        self._ask("PUT", fault)

    def close(self) -> None:
        self._ask("DELETE", None)

    def _ask(self, method: str, body: object) -> None:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token(self._twin)}", "Content-Type": "application/json"}
        url = f"{self._twin.ingress_url}/twin/v1/faults"
        with urllib.request.urlopen(
            urllib.request.Request(url, data, headers, method=method), timeout=PATIENCE_S
        ) as answer:
            answer.read()


@pytest.mark.long
@pytest.mark.parametrize("sink", ["object", "r2"])
def test_what_init_writes_is_what_wrangler_deploys(twin: TwinStatus, tmp_path: Path, sink: Sink) -> None:
    """The steps of backout-recorder/wrangler.jsonc with the real wrangler; guard's source then sees the visitors."""
    app = f"store-{sink}"
    (tmp_path / "index.js").write_text(APP)
    config: dict[str, object] = {"name": app, "main": "index.js", "compatibility_date": "2026-10-01"}
    (tmp_path / "wrangler.jsonc").write_text(json.dumps(config))
    assert backout(tmp_path, "init", f"--recorder={sink}").code == 0
    made = make_recorder(app, wrangler_files.read(tmp_path / "wrangler.jsonc").workers, sink)
    home = tmp_path / "home"
    tool = wrangler.find(tmp_path, str(twin.api_base_url), str(twin.account_id), Path(str(twin.api_token_file)), home)

    def run(*args: str, stdin: str = "") -> None:
        done = tool.run(*args, stdin=stdin)
        assert done.returncode == 0, done.stdout + done.stderr

    if sink == "r2":
        run("r2", "bucket", "create", made.bucket)
    run("deploy", "-c", "backout-recorder/wrangler.jsonc")
    run("secret", "put", "SECRET", "-c", "backout-recorder/wrangler.jsonc", stdin=SECRET)
    run("deploy")
    (tmp_path / "wrangler.jsonc").write_text(json.dumps({**config, "tail_consumers": [{"service": made.name}]}))
    run("deploy")
    begun = int(time.time())
    for path in ("/", "/bad", "/boom"):
        visit(twin, app, path)
    where = made.bucket if sink == "r2" else made.name
    exact, recorded = both(twin, app, where, begun, int(time.time()) + 1, in_object=sink == "object")
    assert by_version(exact) == by_version(recorded)
    assert sum(row.requests for row in recorded) == 3
    access, secret = tmp_path / "recorder.json", tmp_path / "recorder-secret"
    write_private(access, Path(str(twin.s3_credentials_file)).read_bytes())
    write_private(secret, SECRET)
    table = f'bucket = "{made.bucket}", credentials_env = "KEY"'
    if sink == "object":
        table = f'url = "{counter_url(twin, made.name)}"'
    (tmp_path / "backout.toml").write_text(
        f"""[app]
name = "store"
[environments.production]
[environments.production.traffic]
provider = "recorder"
recorder = {{ {table}, secret_env = "SECRET" }}
[environments.production.platform]
provider = "cloudflare"
script = "{app}"
account_id = "{twin.account_id}"
api_base_url = "{twin.api_base_url}"
token_file = "{twin.api_token_file}"
"""
    )
    variables = {"KEY_FILE": str(access), "SECRET_FILE": str(secret)}
    code, shown = status(tmp_path, variables)
    assert code == 1  # two of three failed
    assert (shown["traffic"]["requests"], shown["traffic"]["errors"]) == (3, 2)
    wrongs = [({**variables, "SECRET": "x"}, "whsec_")]
    if sink == "r2":
        wrongs.append(({"SECRET": SECRET, "KEY": "{}"}, "is no JSON object"))
    for wrong, what in wrongs:
        code, shown = status(tmp_path, wrong)  # whoever rolls back has to count nothing; guard does not begin
        assert code == 0
        assert what in shown["traffic"]["problem"]


def status(folder: Path, variables: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """Run `backout status` in a process of its own, as guard's machine would."""
    argv = [sys.executable, "-m", "backout", "status", "-e", "production", "--json"]
    done = subprocess.run(
        argv, cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    return done.returncode, json.loads(done.stdout)


def test_a_tail_worker_that_does_not_exist_is_refused(twin: TwinStatus) -> None:
    """As the edge does: 10007 for an upload, 10203 for a change of the settings."""
    with pytest.raises(urllib.error.HTTPError) as upload_refused:
        upload(twin, "alone", APP, tail_consumers=[{"service": "nobody"}])
    upload(twin, "alone", APP)
    body = json.dumps({"tail_consumers": [{"service": "nobody"}]}).encode()
    with pytest.raises(urllib.error.HTTPError) as change_refused:
        call(twin, "PATCH", "workers/scripts/alone/script-settings", body)
    codes = []
    for refused in (upload_refused, change_refused):
        with refused.value as answer:
            codes.append(json.load(answer)["errors"][0]["code"])
    assert codes == [10007, 10203]
