"""Port HealthCheck: the World and the probe over HTTP; then all that only a real endpoint can do to a probe."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from backout.errors import ConfigError, ProviderUnavailable
from backout.model.guard.fetched import MOST_HOPS, Fetched
from backout.model.guard.policy import SyntheticCheck
from backout.model.guard.signals import HealthReport, Reach, ServiceState
from backout.providers.exchange import Connection, ExchangeError, Failure, Limits, Origin
from backout.providers.health.probe import HealthProbe, is_allowed
from backout.providers.memory import World, WorldClock
from backout.providers.retry import Retry
from backout.providers.s3.client import S3Client
from backout.providers.s3.sigv4 import S3Credentials
from backout.providers.s3.transport import S3Settings

from scripted_server import answer, drip, hang, raw_answer, refused_url, reset, scripted_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backout.ports import HealthCheck

    from scripted_server import ScriptedServer, Step

OK, DOWN, UNKNOWN = ServiceState.OK, ServiceState.DOWN, ServiceState.UNKNOWN
VERSION = "fbcb7d21-5bbd-417c-9adf-0184c5655823"
OTHER = "99ff6b82-edb4-4bbd-a4a6-1cae653a4712"
GOOD = {"status": "ok", "services": {"database": {"status": "ok"}, "storage": {"status": "ok"}}}
SICK = {"status": "error", "services": {"database": {"status": "ok"}, "storage": {"status": "error"}}}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as running:
        yield running


def probe(server: ScriptedServer, path: str = "/health", **given: object) -> HealthProbe:
    settings: dict[str, object] = {"timeout_s": 0.5, "clock": WorldClock(1000.0), "script": "fm5", **given}
    return HealthProbe(server.url + path, **settings)  # type: ignore[arg-type]


# --- the contract ---------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "http"])
def telling(request: pytest.FixtureRequest, server: ScriptedServer) -> Callable[[dict[str, ServiceState]], HealthCheck]:
    """A health check of an application that tells these services, 503 when one is down."""

    def tell(services: dict[str, ServiceState]) -> HealthCheck:
        if request.param == "memory":
            world = World()
            world.deploy(world.upload())
            world.services = services
            return world.health
        status = 503 if DOWN in services.values() else 200
        words = {name: {"status": state.value, "latency_ms": 5} for name, state in services.items()}
        server.will(answer({"status": "down" if status == 503 else "ok", "services": words}, status))
        return probe(server)

    return tell


def test_a_healthy_application(telling: Callable[[dict[str, ServiceState]], HealthCheck]) -> None:
    """Answered, 200, ok, each service by name, nothing odd."""
    report = telling({"database": OK, "storage": OK}).look()
    assert (report.reach, report.status, report.overall) == (Reach.ANSWERED, 200, OK)
    assert [s.name for s in report.services] == ["database", "storage"]
    assert report.measured
    assert not report.is_down
    assert report.findings == ()
    assert report.latency_ms is not None
    assert report.latency_ms > 0


def test_a_sick_application_is_a_report(telling: Callable[[dict[str, ServiceState]], HealthCheck]) -> None:
    """Down, measured, and the service is named."""
    report = telling({"database": OK, "storage": DOWN}).look()
    assert (report.reach, report.status, report.overall) == (Reach.ANSWERED, 503, DOWN)
    assert report.is_down
    storage = report.service("storage")
    assert storage is not None
    assert storage.state is DOWN
    assert report.service("email") is None


# --- the real thing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [hang(), drip(b"HTTP/1.1 200 OK\r\n\r\n"), drip(b"HTTP/1.1 200 OK\r\nX: ")])
def test_an_endpoint_that_does_not_finish_times_out(server: ScriptedServer, step: Step) -> None:
    """In the time given, whether it says nothing or a byte now and then."""
    server.will(step)
    begun = time.monotonic()
    report = probe(server).look()
    assert time.monotonic() - begun < 20  # the server holds it for thirty
    assert report.reach is Reach.TIMED_OUT
    assert report.is_down
    assert not report.measured
    assert report.findings == ("The endpoint did not answer in full within 0.5 s.",)


@pytest.mark.parametrize("step", [reset(), raw_answer(b""), raw_answer(b"SSH-2.0-x\r\n"), raw_answer(b"HTTP/1.1 2")])
def test_an_endpoint_that_breaks_off_is_unreachable(server: ScriptedServer, step: Step) -> None:
    """Nothing of an answer came."""
    server.will(step)
    report = probe(server).look()
    assert (report.reach, report.status, report.is_down) == (Reach.UNREACHABLE, None, True)
    assert report.findings


def test_nobody_listening_is_unreachable() -> None:
    """As is a name that does not exist."""
    for url in (refused_url(), "http://no-such-name.invalid/"):
        report = HealthProbe(url, timeout_s=2.0).look()
        assert (report.reach, report.is_down) == (Reach.UNREACHABLE, True)
        assert report.findings[0].startswith("The endpoint cannot be reached: ")


UNREADABLE = {
    "HTML": (answer(b"<html>", 200, Content_Type="text/html; charset=utf-8"), 200, "with HTML"),
    "HTML that says it is JSON": (answer(b"  <!doctype html>", 503), 503, "with HTML"),
    "invalid JSON": (answer(b'{"status": "ok"', 200), 200, "not JSON"),
    "an empty body": (answer(b"", 503), 503, "not JSON"),
    "plain text": (answer(b"OK", 200, Content_Type="text/plain"), 200, "not JSON"),
    "invalid UTF-8": (answer(b'{"status": "\xff"}', 200), 200, "not JSON"),
    "deep JSON": (answer(b"[" * 20_000 + b"]" * 20_000, 500), 500, "not JSON"),
    "other JSON": (answer({"error": "not found"}, 404), 404, "not a health report"),
    "a page that is not there": (
        answer(b"<html>", 404),
        404,
        "(there is nothing at that path: is health.url",
    ),
    "a login": (answer({"error": "no"}, 403), 403, "(it is protected: put credentials into health.headers_env)"),
    "a challenge": (
        answer(b"<html>", 403, cf_mitigated="challenge"),
        403,
        "a firewall or bot rule of Cloudflare's asks who is there",
    ),
    "10 MB announced": (
        raw_answer(b"HTTP/1.1 502 X\r\nContent-Length: 10485760\r\n\r\n"),
        502,
        "more than 65536 bytes",
    ),
    "10 MB": (raw_answer(b"HTTP/1.1 200 X\r\n\r\n" + b"x" * 10_485_760), 200, "more than 65536 bytes"),
    "a truncated body": (raw_answer(b"HTTP/1.1 200 X\r\nContent-Length: 90\r\n\r\n{"), 200, "ended in the middle"),
}


@pytest.mark.parametrize(("step", "status", "finding"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_no_health_report_is_unmeasured(server: ScriptedServer, step: Step, status: int, finding: str) -> None:
    """It says nothing about services; its status still counts."""
    server.will(step)
    report = probe(server).look()
    assert (report.reach, report.status, report.measured) == (Reach.UNREADABLE, status, False)
    assert report.is_down == (status >= 500)
    assert finding in report.findings[0]


def test_cloudflare_access_before_the_endpoint_is_named(server: ScriptedServer) -> None:
    """With what lets backout in."""
    server.will(answer(b"", 302, Location="https://shop.cloudflareaccess.com/cdn-cgi/access/login/shop.example.com"))
    report = probe(server).look()
    assert (report.reach, report.is_down) == (Reach.UNREADABLE, False)
    assert "Cloudflare Access protects the endpoint" in report.findings[0]
    assert "CF-Access-Client-Id" in report.findings[0]
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "location", ["https://login.example.com/", "http://127.0.0.2/health", "//evil.example/x", "ftp://x/"]
)
def test_a_redirect_to_another_host_is_not_followed(server: ScriptedServer, location: str) -> None:
    """It is a login page or worse, never this application's health."""
    server.will(answer(b"", 302, Location=location))
    report = probe(server).look()
    assert (report.reach, report.status) == (Reach.UNREADABLE, 302)
    assert "redirects to" in report.findings[0]
    assert len(server.asked) == 1


def test_a_redirect_on_the_same_host_is_followed_once(server: ScriptedServer) -> None:
    """With the same headers, in the same time."""
    server.will(answer(b"", 308, Location="/api/health?full=1"), answer(GOOD))
    report = probe(server, headers={"X-Key": "canary"}).look()
    assert report.reach is Reach.ANSWERED
    assert [asked.target for asked in server.asked] == ["/health", "/api/health?full=1"]
    assert server.asked[1].headers["x-key"] == "canary"
    server.will(answer(b"", 302, Location="/health"))
    assert probe(server).look().findings == ("The endpoint redirects more than once.",)


def test_what_is_sent(server: ScriptedServer) -> None:
    """The probe's mark, so that the router does not count it as a visitor; the override for one version."""
    server.will(answer(GOOD))
    look = probe(server, headers={"X-Key": "canary"})
    look.look()
    look.look(VERSION)
    first, second = server.asked
    assert first.headers["x-backout-probe"] == "1"
    assert "cloudflare-workers-version-overrides" not in first.headers
    assert second.headers["cloudflare-workers-version-overrides"] == f'fm5="{VERSION}"'
    assert first.headers["x-key"] == "canary"
    assert server.connections == 1


def test_another_version_answering_is_a_finding(server: ScriptedServer) -> None:
    """An override for a version that is not deployed is ignored by the platform."""
    server.will(answer({**GOOD, "version": {"id": OTHER}}))
    report = probe(server).look(VERSION)
    assert report.version == OTHER
    assert report.findings == (f"Version {VERSION} was asked for, but version {OTHER} answered.",)
    assert probe(server).look().findings == ()


@pytest.mark.parametrize(("script", "version"), [("", VERSION), ("fm5", 'x", other="y'), ("Bad Name", VERSION)])
def test_a_version_that_cannot_be_asked_for_is_unmeasured(server: ScriptedServer, script: str, version: str) -> None:
    """Rather than asking the live one and calling it another."""
    report = probe(server, script=script).look(version)
    assert report.reach is Reach.UNREADABLE
    assert not report.is_down
    assert server.asked == []


def test_a_service_is_known_by_its_configured_name(server: ScriptedServer) -> None:
    """Where the application has another usual name for it; its own names win, and unknown ones stay."""
    body = {"status": "ok", "services": {"postgres": "ok", "s3": "down", "storage": "ok", "redis": "ok"}}
    server.will(answer(body))
    names = [s.name for s in probe(server, names=("database", "storage", "email")).look().services]
    assert names == ["database", "s3", "storage", "redis"]
    assert [s.name for s in probe(server).look().services] == ["postgres", "s3", "storage", "redis"]


def test_localhost_names_lead_to_this_machine(server: ScriptedServer) -> None:
    """Without asking a resolver, and with the name in the Host header."""
    server.will(answer(GOOD))
    port = server.url.rpartition(":")[2]
    assert HealthProbe(f"http://fm5-production.localhost:{port}/health").look().overall is OK
    assert server.asked[0].headers["host"] == f"fm5-production.localhost:{port}"


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1]/",
        "http://[fd00:ec2::254]/",
        "http://[::ffff:169.254.169.254]/",
        "http://metadata.google.internal/",
        "http://user:pass@example.com/health",
        "file:///etc/passwd",
        "example.com/health",
    ],
)
def test_an_address_that_is_never_asked_is_a_configuration_error(url: str) -> None:
    """Metadata services, link-local addresses, credentials in a URL, and what is no http URL."""
    with pytest.raises(ConfigError) as caught:
        HealthProbe(url)
    assert "pass" not in str(caught.value.mistakes).replace("passwd", "")


NEVER_ASKED = [
    "169.254.169.254", "169.254.1.1", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192",
    "fe80::1", "fe80::a9fe:a9fe%eth0", "fd00:ec2::254", "FD00:0EC2:0:0::0254", "fd00:ec2::23", "fd20:ce::254",
    "::ffff:169.254.169.254", "::169.254.169.254", "::ffff:0:169.254.169.254", "::a9fe:a9fe",
    "64:ff9b::a9fe:a9fe", "64:ff9b::168.63.129.16", "64:ff9b:1::a9fe:a9fe",
    "64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1:a9:fe:a9fe::", "64:ff9b:1:0:a9:fea9:fe00:0",
    "2002:a9fe:a9fe::", "2002:a9fe:a9fe::1", "2002:6464:64c8::1",
    "2001:0:a9fe:a9fe::", "2001:0:4136:e378:8000:63bf:5601:5601", "fd00::5efe:a9fe:a9fe", "2620::200:5efe:a9fe:a9fe",
    "nonsense", "", "169.254", "2852039166", "1.2.3.4.5",
]  # fmt: skip
ASKED = [
    "10.0.0.1", "127.0.0.1", "192.168.1.1", "1.1.1.1", "100.100.100.201", "168.63.129.17", "192.169.254.1",
    "::1", "::", "fd00:ec2::255", "2606:4700::1111", "::ffff:10.0.0.1", "64:ff9b::1.1.1.1", "64:ff9b:1::102:304",
    "2002:0101:0101::1", "2001:db8::a9fe:a9fe", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
]  # fmt: skip


@pytest.mark.parametrize("address", NEVER_ASKED)
def test_a_metadata_service_is_never_asked_however_its_address_is_written(address: str) -> None:
    """Directly, and carried by IPv6: compatible, mapped, translated, NAT64, 6to4, Teredo, ISATAP; nonsense neither."""
    assert not is_allowed(address)


@pytest.mark.parametrize("address", ASKED)
def test_other_addresses_are_asked(address: str) -> None:
    """Loopback, private networks, the internet; the same spellings with an ordinary address in them."""
    assert is_allowed(address)


def test_every_client_of_ours_keeps_away() -> None:
    """One function connects for all of them, and looks first: nothing is sent there, whoever named it."""
    connection = Connection(Origin.of("https://169.254.169.254"), Limits(1, 1, 1))
    with pytest.raises(ExchangeError) as caught:
        connection.exchange("GET", "/", headers={})
    assert caught.value.failure is Failure.NOT_ALLOWED
    settings = S3Settings("https://169.254.169.254", S3Credentials("a", "b"), timeout_s=1.0, retry=Retry(attempts=1))
    with pytest.raises(ProviderUnavailable, match="never asked"):
        S3Client(settings, WorldClock(0.0)).list_buckets()


@pytest.mark.parametrize("headers", [{"X": "a\r\nY: b"}, {"X Y": "a"}, {"X": "schlüssel-canary"}])
def test_a_header_that_cannot_be_sent_is_a_configuration_error(headers: dict[str, str]) -> None:
    """Named, its value untold."""
    with pytest.raises(ConfigError) as caught:
        HealthProbe("http://example.com/", headers=headers)
    assert "canary" not in str(caught.value.mistakes)


def test_a_probe_recovers(server: ScriptedServer) -> None:
    """After every kind of trouble the next look is a fresh one."""
    look = probe(server)
    reports: list[HealthReport] = []
    for step in (
        hang(),
        reset(),
        raw_answer(b"HTTP/1.1 200 X\r\n\r\n" + b"x" * 100_000),
        answer(GOOD),
        answer(SICK, 503),
    ):
        server.will(step)
        reports.append(look.look())
    assert [r.reach.value for r in reports] == ["timed_out", "unreachable", "unreadable", "answered", "answered"]
    assert [r.is_down for r in reports] == [True, True, False, False, True]


def test_the_time_is_the_clocks(server: ScriptedServer) -> None:
    """When the look began."""
    server.will(answer(json.loads(json.dumps(GOOD))))
    assert probe(server, clock=WorldClock(1234.5)).look().at == 1234.5


# --- other paths of the same host -----------------------------------------------------------------------------------


def test_a_path_is_asked_of_one_version_by_its_status(server: ScriptedServer) -> None:
    """With the override and the mark of a probe; a body that is too long to read has a status all the same."""
    server.will(answer(b"x", 404), answer(b"x" * 100_000, 200), answer(b"", 503))
    statuses = [probe(server).fetch("/api/things?a=b", VERSION).status for _ in range(3)]
    assert statuses == [404, 200, 503]
    asked = server.asked[0]
    assert (asked.method, asked.target) == ("GET", "/api/things?a=b")
    headers = {name.lower(): value for name, value in asked.headers.items()}
    assert headers["cloudflare-workers-version-overrides"] == f'fm5="{VERSION}"'
    assert headers["x-backout-probe"] == "1"


def test_a_path_is_asked_of_whatever_is_live(server: ScriptedServer) -> None:
    """Without an override, marked as a probe, never another host than the endpoint's, and no redirect is followed."""
    server.will(answer(b"", 302, Location="http://elsewhere.example/"), answer(b"x", 200))
    assert [probe(server).fetch(path).status for path in ("/", "//elsewhere.example/")] == [302, 200]
    for asked in server.asked:
        headers = {name.lower(): value for name, value in asked.headers.items()}
        assert "cloudflare-workers-version-overrides" not in headers
        assert headers["x-backout-probe"] == "1"
        assert headers["user-agent"].startswith("backout/")


def test_a_path_without_an_answer_has_no_status(server: ScriptedServer) -> None:
    """It hangs, resets, is not there, or cannot be asked of a version."""
    server.will(hang(), reset())
    assert probe(server, timeout_s=0.2).fetch("/", VERSION) == Fetched()
    assert probe(server, timeout_s=0.2).fetch("/", VERSION) == Fetched()
    assert HealthProbe(refused_url(), script="fm5").fetch("/", VERSION) == Fetched()
    assert probe(server, script="").fetch("/", VERSION) == Fetched()


# --- what is asked and answered, on every adapter -------------------------------------------------------------------


@pytest.fixture(params=["memory", "http"])
def answering(request: pytest.FixtureRequest, server: ScriptedServer) -> Callable[[Fetched], HealthCheck]:
    """A health check of an application that gives this answer to whatever is asked."""

    def give(wanted: Fetched) -> HealthCheck:
        if request.param == "memory":
            world = World()
            world.deploy(world.upload())
            world.route_rule = lambda _path, _version: wanted
            return world.health
        headers = {name.title().replace("-", "_"): value for name, value in wanted.headers.items()}
        server.will(answer(wanted.body.encode(), wanted.status or 0, **headers))
        return probe(server)

    return give


def test_an_answer_is_told_whole(answering: Callable[[Fetched], HealthCheck]) -> None:
    """Status, headers by name in lower case, and the body as text; a method and an origin of its own change nothing."""
    wanted = Fetched(404, {"content-type": "text/html; charset=utf-8", "x-app": "v2"}, "<p>no such page</p>")
    for check in (None, SyntheticCheck("/x", origin="https://a.example")):
        found = answering(wanted).fetch("/x", check=check)
        assert (found.status, found.body, found.headers["x-app"]) == (404, wanted.body, "v2")
        assert (found.media_type, found.location, found.ends, found.loops) == ("text/html", "", None, False)
        assert found.find_version(("v1", "v2")) == "v2"


def test_a_preflight_is_asked_for_as_browsers_do(server: ScriptedServer) -> None:
    """OPTIONS with the page's origin and the method that it would send; nothing else is sent."""
    server.will(answer(b"", 204))
    found = probe(server).fetch("/x", check=SyntheticCheck("/x", origin="https://a.example", preflight="PUT"))
    (asked,) = server.asked
    assert (found.status, asked.method, asked.body) == (204, "OPTIONS", b"")
    assert asked.headers["origin"] == "https://a.example"
    assert asked.headers["access-control-request-method"] == "PUT"


def test_redirects_on_the_same_host_are_followed_to_their_end(server: ScriptedServer) -> None:
    """The first answer is told, and where it ends; a loop is one, and after five of them it is enough."""
    moved = [answer(b"", 301, Location=f"/{number}") for number in range(10)]
    server.will(*moved[:2], answer(b"x", 200))
    found = probe(server).fetch("/")
    assert (found.status, found.ends, found.hops, found.loops, found.moved_well) == (301, 200, 2, False, True)
    assert [asked.target for asked in server.asked] == ["/", "/0", "/1"]
    server.will(answer(b"", 302, Location="/a"), answer(b"", 302, Location="/"))
    found = probe(server).fetch("/")
    assert (found.status, found.loops, found.moved_well) == (302, True, False)
    server.asked.clear()
    server.will(*moved)
    found = probe(server).fetch("/")
    assert (found.ends, found.hops, found.loops) == (301, MOST_HOPS, False)
    assert len(server.asked) == 1 + MOST_HOPS


def test_credentials_are_sent_by_their_check_alone_and_never_to_another_host(server: ScriptedServer) -> None:
    """HEAD stays HEAD; a redirect away from the health endpoint's host is not followed."""
    check = SyntheticCheck("/api/me", "HEAD", credentials=("Authorization",))
    asking = probe(server, credentials=lambda: {check.name: {"Authorization": "Bearer canary"}})
    server.will(answer(b"", 302, Location="http://localhost:1/steal"), answer(b"", 200))
    assert asking.fetch(check.path, check=check).ends is None
    assert asking.fetch("/api/me").status == 200
    first, second = server.asked
    assert (first.method, first.headers["authorization"]) == ("HEAD", "Bearer canary")
    assert (second.method, "authorization" in second.headers) == ("GET", False)
