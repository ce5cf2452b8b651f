"""Every request that backout makes of Cloudflare's API, and that wrangler was seen to make, against what is documented.

What the official description does not know is listed here by name, with the source that it rests on instead.
"""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from scripted_telemetry import TelemetryApi, invoked

from backout.analysis.conformance import find_shape
from backout.analysis.diagnosis.templates import Templates
from backout.errors import BackoutError
from backout.model.attached import AttachedKind
from backout.model.bundle import Bundle, BundleModule
from backout.model.deployment import Cohort, Share
from backout.model.platform import CacheState
from backout.model.secrets import SecretValues
from backout.model.triggers import TriggerKind
from backout.model.version import Version, VersionId
from backout.providers import cloudflare
from backout.providers.clock import SystemClock
from backout.providers.cloudflare.analytics import AnalyticsTraffic
from backout.providers.cloudflare.attached import CloudflareAttachments
from backout.providers.cloudflare.bucket_lock import read_r2_lock
from backout.providers.cloudflare.bundles import CloudflareBundles
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.conformance import FirstContact
from backout.providers.cloudflare.d1 import D1History
from backout.providers.cloudflare.deployment_times import CloudflareDeploymentTimes
from backout.providers.cloudflare.deployments import CloudflareDeployments
from backout.providers.cloudflare.identity import Beside, CloudflareIdentities
from backout.providers.cloudflare.logs import TelemetryLogs
from backout.providers.cloudflare.maintenance import CloudflareMaintenance
from backout.providers.cloudflare.queues import CloudflareQueues
from backout.providers.cloudflare.read_caches import CloudflareReadCaches
from backout.providers.cloudflare.secrets import CloudflareSecrets, CloudflareSecretWriter
from backout.providers.cloudflare.tail import TailTraffic
from backout.providers.cloudflare.telemetry import TelemetryTraffic
from backout.providers.cloudflare.token import CloudflareTokens
from backout.providers.cloudflare.triggers import CloudflareTriggers
from backout.providers.cloudflare.version_urls import CloudflareVersionUrls
from backout.providers.cloudflare.versions import CloudflareVersions
from backout.providers.exchange import Connection, Origin
from backout.providers.memory import WorldClock
from backout.providers.retry import Retry

from scripted_server import answer, scripted_server
from twin_harness import ACCOUNT, TOKEN, running_api

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from backout.providers.exchange import Answer, Limits

DATA = Path(__file__).parent / "data"
SCRIPT = "fm5"
WRANGLER = "wrangler 4.164, whose requests were recorded (data/wrangler_requests.jsonl)"
UNDOCUMENTED = {
    "POST /graphql": "the GraphQL analytics have a schema of their own, not an OpenAPI description",
    "GET /accounts/{}/builds/workers/{}/triggers": "documentation, Builds API reference, 2026-12",
    "GET /accounts/{}/workers/services/{}": WRANGLER,
    "GET /accounts/{}/workers/services/{}/environments/production/routes": "wrangler 4.164, `listRoutes`",
    "PATCH /accounts/{}/workers/workers/{}/versions/latest": WRANGLER,
    "POST /accounts/{}/workers/scripts/{}/deployments code_update_strategy": "wrangler 4.164, `createDeployment`",
    "POST /accounts/{}/workers/scripts/{}/deployments cohorts": "documentation, Cohort-based deployments, 2026-11",
    "POST /accounts/{}/workers/scripts/{}/tails filters": "wrangler 4.164, `tail`; documented as any object",
    "POST /accounts/{}/workers/scripts/{}/versions metadata.limits": "wrangler 4.164, `createWorkerUploadForm`",
    "POST /accounts/{}/workers/scripts/{}/versions metadata.observability": WRANGLER,
    "PUT /accounts/{}/workers/scripts/{} metadata.code_update_strategy": WRANGLER,
    "POST /accounts/{}/workers/scripts/{}/versions metadata.placement": "wrangler 4.164, `createWorkerUploadForm`",
    "PUT /accounts/{}/workers/scripts/{} ?excludeScript": WRANGLER,
}
"""What the description does not know, or calls a beta, and what it rests on: "METHOD path", or that and a name."""
MAPS = frozenset({"secrets", "manifest"})
"""Fields whose own fields are names of a user's."""


class Recording:
    """Carries requests to an origin and keeps what each one said."""

    def __init__(self, url: str) -> None:
        self._inner = Connection(Origin.of(url))
        self.origin = self._inner.origin
        self.limits: Limits = self._inner.limits
        self.said: list[tuple[str, str, bytes]] = []

    def exchange(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        within_s: float | None = None,
    ) -> Answer:
        self.said.append((method, target, body or b""))
        return self._inner.exchange(method, target, headers=headers, body=body, within_s=within_s)

    def close(self) -> None:
        self._inner.close()


def test_no_request_of_ours_is_unknown_to_the_official_description(tmp_path: Path) -> None:
    """Method, path, parameters of the query and fields of the body; what is listed as undocumented is really used."""
    said = [*record_ports(tmp_path), *record_telemetry(), *record_first_contact()]
    unknown = {name for request in said for name in list_unknown(*request)}
    assert unknown <= UNDOCUMENTED.keys(), sorted(unknown - UNDOCUMENTED.keys())
    of_wrangler = {name for request in read_wrangler() for name in list_unknown(*request)}
    assert of_wrangler <= UNDOCUMENTED.keys(), sorted(of_wrangler - UNDOCUMENTED.keys())
    assert UNDOCUMENTED.keys() == unknown | of_wrangler, "what is documented now, or no longer asked"


def test_code_that_is_uploaded_again_has_every_secret_or_is_refused(tmp_path: Path) -> None:
    """Without the word "strict" the API leaves out silently what an upload cannot inherit."""
    uploads = [target for method, target, body in record_ports(tmp_path) if b'name="metadata"' in body]
    assert [urlsplit(target).query for target in uploads] == ["bindings_inherit=strict"] * 2


def test_every_module_that_names_a_path_of_the_api_was_asked(tmp_path: Path) -> None:
    """A new client is not left out of the comparison above."""
    sources = {path.stem: path.read_text() for path in Path(cloudflare.__path__[0]).glob("*.py")}
    callers = {name for name, text in sources.items() if re.search(r'f"(accounts/|{self\._)|"user/|graphql\(', text)}
    here = Path(__file__).read_text()
    for name in callers - {"client", "lines"}:  # which make none, or print them for a person
        assert f"cloudflare.{name} import" in here or name in ("telemetry_query", "observability"), name
    paths = {name_call(method, target) for method, target, _ in record_ports(tmp_path)}
    assert len(paths) >= 20


@pytest.mark.parametrize(
    ("method", "target", "body", "unknown"),
    [
        ("GET", "/client/v4/accounts/a/workers/scripts/x/deployments?page=2", {}, []),
        ("GET", "/client/v4/accounts/a/workers/scripts/x/deployments?pages=2", {}, ["?pages"]),
        ("GET", "/client/v4/accounts/a/workers/scripts/x/deploys", {}, [""]),
        ("PUT", "/client/v4/accounts/a/workers/scripts/x/deployments", {}, [""]),
        ("POST", "/client/v4/accounts/a/workers/scripts/x/deployments", {"annotation": {}}, ["annotation"]),
        ("POST", "/client/v4/accounts/a/workers/scripts/x/deployments", {"versions": [{"id": 1}]}, ["versions.id"]),
    ],
)
def test_what_the_description_does_not_know_is_found(
    method: str, target: str, body: object, unknown: list[str]
) -> None:
    found = list_unknown(method, target, json.dumps(body).encode())
    assert [name.partition(" /")[2].partition(" ")[2] for name in found] == unknown


def record_ports(directory: Path) -> list[tuple[str, str, bytes]]:
    """Return what each port sends to the twin; an answer that is an error is one, too."""
    with running_api(directory) as api:
        base = f"{api.url}/client/v4"
        one = api.upload(SCRIPT, compatibility_date="2026-10-01").result["deployment_id"]
        recording = Recording(base)
        client = ApiClient(base, lambda: TOKEN, connection=recording, retry=Retry(attempts=1))
        here = client, ACCOUNT, SCRIPT
        deployments, bundles = CloudflareDeployments(*here), CloudflareBundles(*here)
        version = deployments.history()[0].main
        code = BundleModule("index.js", "application/javascript+module", b"export default {}")
        metadata = {"main_module": "index.js", "compatibility_flags": [], "limits": {"cpu_ms": 50}, "placement": {}}
        shares = (Share(VersionId(version), 100.0),)
        values = SecretValues({"TOKEN": "value-of-a-secret"})
        calls: tuple[Callable[[], object], ...] = (
            lambda: deployments.deploy(shares, message="x", cohorts=(Cohort("staff", shares),)),
            lambda: deployments.activate(version, message="x", force=True, immediate=True),
            CloudflareDeploymentTimes(client, ACCOUNT).read,
            CloudflareVersions(*here).recent,
            lambda: CloudflareVersions(*here).detail(version),
            CloudflareSecrets(*here).names,
            lambda: CloudflareSecretWriter(*here).put(values),
            lambda: bundles.fetch(version),
            lambda: bundles.upload(
                Bundle(Version(VersionId(version), 1, 0.0, tag="v1"), json.dumps(metadata).encode(), (code,)),
                message="again",
                secrets=values,
            ),
            lambda: CloudflareTriggers(*here).read(tuple(TriggerKind)),
            lambda: CloudflareTriggers(*here).set_schedules(("0 3 * * *",)),
            CloudflareTokens({"all": client}, ACCOUNT).look,
            lambda: CloudflareIdentities(*here, Beside(bucket="b", bucket_is_ours=True)).read(),
            lambda: AnalyticsTraffic(*here).read(1_000_000, 1_000_010),
            lambda: TelemetryLogs(*here, Templates()).read(1_000_000.0, 1_000_010.0),
            D1History(client, ACCOUNT, "d1-database").read,
            lambda: use_tail(TailTraffic(*here)),
            lambda: CloudflareAttachments(*here, find_tag=lambda: "1a2b3c4d" * 4).read(tuple(AttachedKind)),
            lambda: CloudflareVersionUrls(*here).find(version),
            lambda: read_r2_lock(client, ACCOUNT, "history", "backout/production/"),
            CloudflareQueues(*here).list_consumed,
            lambda: CloudflareQueues(*here).pause("mail"),
            CloudflareReadCaches(*here).read,
            lambda: CloudflareReadCaches(*here).turn_off("c1"),
            lambda: CloudflareReadCaches(*here).restore(
                CacheState("c1", "db", is_on=True, max_age_s=30.0, stale_s=5.0)
            ),
            lambda: CloudflareMaintenance(deployments, CloudflareVersions(*here), bundles, SCRIPT).show("x"),
        )
        home = f"/client/v4/accounts/{ACCOUNT}/queues"
        queue = api.call("POST", home, {"queue_name": "mail"}).result["queue_id"]
        api.call("POST", f"{home}/{queue}/consumers", {"type": "worker", "script_name": SCRIPT})
        api.call("POST", f"{SCRIPT}/subdomain", {"enabled": True, "previews_enabled": True})
        for call in calls:
            before = len(recording.said)
            with contextlib.suppress(BackoutError):
                call()
            assert len(recording.said) > before, call
        client.close()
        assert one
        return recording.said


def use_tail(tail: TailTraffic) -> None:
    """Open a tail that cannot be followed, and close it."""
    try:
        tail.read(0, 1)
    finally:
        tail.close()


def record_telemetry() -> list[tuple[str, str, bytes]]:
    """Return what a watch with telemetry asks: with every filter, and where the filters do something else."""
    said = []
    now = int(SystemClock().now())
    rows = invoked(now - 70, ("v1", "ok", 200, "fetch", "GET /a", 3), ("v1", "exception", None, "fetch", "GET /a", 1))
    rows += invoked(now - 70, ("v1", "ok", None, "scheduled", "0 3 * * *", 1), model="durableObject", probe="1")
    for drops in (frozenset[str](), frozenset({"neq", "is_null"})):
        with scripted_server() as server:
            told = TelemetryApi(rows, drops=drops)
            server.will(told.answers(server))
            recording = Recording(server.url)
            client = ApiClient(f"{server.url}/client/v4", lambda: TOKEN, connection=recording)
            TelemetryTraffic(client, ACCOUNT, SCRIPT).read(now - 80, now)
            client.close()
            said += recording.said
    assert len(said) > 10
    return said


def record_first_contact() -> list[tuple[str, str, bytes]]:
    """Return every call of `backout conformance`."""
    with scripted_server() as server:
        found = {
            "status": "active",
            "id": "one",
            "url": "wss://x",
            "deployments": [{"versions": [{"version_id": "v"}]}],
        }
        server.will(
            answer({"success": True, "result": found}),
            answer({"success": False, "errors": [{"code": 10007}]}, 404),
            answer({"success": True, "result": found}),
        )
        contact = FirstContact(
            base_url=f"{server.url}/client/v4",
            token=lambda: TOKEN,
            account_id=ACCOUNT,
            clock=WorldClock(0.0),
            script=SCRIPT,
            database=lambda: {"host": "db.example.com"},
            shape_of=find_shape,
        )
        contact.observe(lambda _seen: None)
        return [(asked.method, asked.target, asked.body) for asked in server.asked]


def read_wrangler() -> list[tuple[str, str, bytes]]:
    """Return what wrangler was recorded to send."""
    lines = [json.loads(line) for line in (DATA / "wrangler_requests.jsonl").read_text().splitlines()]
    return [
        (line["method"], f"{line['path']}?{'&'.join(f'{n}=1' for n in line['query'])}", body_of(line)) for line in lines
    ]


def body_of(line: dict[str, Any]) -> bytes:
    """Return the JSON that a recorded request bore, that of a form's first part for an upload."""
    body = line["body"]
    if isinstance(body, dict) and "parts" in body:
        body = {"metadata": body["metadata"]}
    return b"" if body is None or (isinstance(body, dict) and "raw" in body) else json.dumps(body).encode()


def list_unknown(method: str, target: str, body: bytes) -> list[str]:
    """Return what the description does not know of a request: "METHOD path", or that and a parameter or a field."""
    known = json.loads((DATA / "cloudflare_api.json").read_text())["calls"]
    call = name_call(method, target)
    if call not in known:
        return [call]
    names = {f"?{name}" for name, _ in parse_qsl(urlsplit(target).query)} - {f"?{n}" for n in known[call]["query"]}
    fields = {name for name in list_fields(parse_body(body)) if not is_known(name, set(known[call]["body"]))}
    fields -= {
        name for name in fields if any(name.startswith(f"{outer}.") for outer in fields)
    }  # what lies within says no more
    return [f"{call} {name}" for name in sorted(names | fields)]


def name_call(method: str, target: str) -> str:
    """Return "METHOD path" with {} for what varies: what follows a plural or the account's name for a thing."""
    path = urlsplit(target).path.removeprefix("/client/v4")
    path = re.sub(r"^/accounts/[^/]+", "/accounts/{}", path)
    path = re.sub(
        r"/(scripts|versions|tails|workers/workers|builds/workers|services|buckets|database|deployments"
        r"|queues|configs|consumers)/(?!latest)[^/]+",
        r"/\1/{}",
        path,
    )
    path = re.sub(r"/objects/.+", "/objects/{}", path)
    path = re.sub(r"/tokens/(?!verify)[^/]+", "/tokens/{}", path)
    return f"{method} {path}"


def parse_body(body: bytes) -> object:
    """Return the JSON of a body; of a form {"metadata": what its part of that name says}."""
    if not body.startswith(b"--"):
        return json.loads(body) if body else None
    if b'name="metadata"' not in body:  # files, each named by its hash
        return None
    form = re.search(rb'name="metadata"\r\n(?:[^\r\n]+\r\n)*\r\n(.*?)\r\n--', body, re.DOTALL)
    assert form is not None
    return {"metadata": json.loads(form[1])}


def list_fields(value: object, prefix: str = "") -> Iterator[str]:
    """Yield the fields of a body, "a.b" for b within a; lists stand for what they hold."""
    if isinstance(value, list):
        for item in value:
            yield from list_fields(item, prefix)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if prefix.rstrip(".") not in MAPS:
                yield f"{prefix}{name}"
            yield from list_fields(inner, prefix if prefix.rstrip(".") in MAPS else f"{prefix}{name}.")


def is_known(name: str, documented: set[str]) -> bool:
    """Whether a field is documented, or lies in one whose fields the extract does not have."""
    if name in documented:
        return True
    outer = name.rpartition(".")[0]
    while outer:
        if outer in documented:
            return not any(each.startswith(f"{outer}.") for each in documented)
        outer = outer.rpartition(".")[0]
    return False
