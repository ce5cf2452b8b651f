"""The traffic generator against a small real server on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backout.errors import UsageError
from backout.twin.traffic import FM5_MIX, Limits, Route, Sample, Traffic, summarize

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator

MIX = (
    Route("GET", "/a", 3),
    Route("POST", "/b", 1, b"{}"),
    Route("PUT", "/first", 0, b"x", "text/plain"),
)


@dataclass
class Site:
    """What the server was asked, and what it answers."""

    url: str = ""
    seen: list[tuple[str, str, str | None]] = field(default_factory=list)
    status: int = 200
    gate: threading.Event = field(default_factory=threading.Event)
    hang_up: bool = False


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    site.gate.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", "0")))
            site.seen.append((self.command, self.path, self.headers.get("host")))
            site.gate.wait(PATIENCE_S)
            if site.hang_up:
                self.close_connection = True
                return
            self.send_response(site.status)
            self.send_header("x-fm5-version", "v1")
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        do_GET = do_POST = do_PUT = answer  # noqa: N815 - names of the library

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield site
        site.gate.set()
        server.shutdown()
        thread.join()


def test_the_mix_reaches_the_named_worker_after_the_first_requests(site: Site) -> None:
    """Routes of weight 0 are asked once and before the rest; every request names the Worker; all is counted."""
    traffic = Traffic(site.url, "fm5.localhost", 200, MIX, limits=Limits(for_s=0.5))
    traffic.start()
    assert traffic.wait(PATIENCE_S)
    assert [entry[1] for entry in site.seen].count("/first") == 1
    assert site.seen[0] == ("PUT", "/first", "fm5.localhost")
    assert {entry[2] for entry in site.seen} == {"fm5.localhost"}
    summary = traffic.stop()
    assert summary.requests == len(site.seen) - 1 > 50
    assert summary.errors == 0
    assert [(v.version, v.requests) for v in summary.versions] == [("v1", summary.requests)]
    shares = Counter(sample.route for sample in traffic.samples)
    assert shares["GET /a"] > shares["POST /b"] > 0


def test_the_same_seed_gives_the_same_arrivals(site: Site) -> None:
    """A drill can be repeated: count and routes follow from the seed alone."""

    def arrivals(seed: int) -> Counter[str]:
        traffic = Traffic(site.url, "fm5.localhost", 150, MIX, seed, limits=Limits(for_s=0.3, concurrency=1000))
        traffic.start()
        assert traffic.wait(PATIENCE_S)
        return Counter(sample.route for sample in traffic.samples)

    assert arrivals(1) == arrivals(1) != arrivals(2)


def test_server_errors_are_failures_and_client_errors_are_not(site: Site) -> None:
    """A 503 fails the visitor, a 404 is the visitor's own."""
    counted = {}
    for status in (404, 503):
        site.status = status
        traffic = Traffic(site.url, "h", 100, MIX, limits=Limits(for_s=0.2))
        traffic.start()
        assert traffic.wait(PATIENCE_S)
        counted[status] = traffic.summary()
    assert counted[404].errors == 0 < counted[404].requests
    assert counted[503].errors == counted[503].requests > 0
    assert counted[503].statuses == {"503": counted[503].requests}


def test_a_connection_cut_is_a_failure_without_status_and_version(site: Site) -> None:
    """Nothing is invented for a request that got no answer."""
    site.hang_up = True
    traffic = Traffic(site.url, "h", 100, (Route("POST", "/b", 1, b"{}"),), limits=Limits(for_s=0.2))
    traffic.start()
    assert traffic.wait(PATIENCE_S)
    summary = traffic.summary()
    assert summary.errors == summary.requests > 0
    assert summary.statuses == {"none": summary.requests}
    assert summary.versions[0].version is None


def test_a_stuck_server_gets_at_most_the_concurrency_and_the_rest_is_counted_unsent(site: Site) -> None:
    """Load is bounded, and what was not sent is told."""
    site.gate.clear()
    traffic = Traffic(site.url, "h", 300, MIX[:1], limits=Limits(for_s=30, concurrency=3))
    traffic.start()
    until(lambda: traffic.summary().unsent > 5, what="arrivals that found no place")
    assert len(site.seen) <= 3
    site.gate.set()
    traffic.stop()


def test_stop_ends_the_traffic_and_keeps_what_was_seen(site: Site) -> None:
    """After stop() not one more request goes out."""
    traffic = Traffic(site.url, "h", 200, MIX[:1], limits=Limits(for_s=60))
    traffic.start()
    until(lambda: len(traffic.samples) > 5, what="a few answers")
    summary = traffic.stop()
    asked = len(site.seen)
    assert summary.requests == asked == len(traffic.samples)
    assert traffic.wait(0)
    assert traffic.stop() == summary
    with pytest.raises(UsageError, match="started before"):
        traffic.start()


@pytest.mark.parametrize(
    "url", ["http://192.0.2.7:80", "http://example.com", "https://127.0.0.1:1", "http://[2001:db8::1]", "127.0.0.1:80"]
)
def test_other_addresses_than_loopback_are_refused(url: str) -> None:
    """A load generator must not be pointed at anybody."""
    with pytest.raises(UsageError, match="loopback"):
        Traffic(url, "h", 1)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://127.8.8.8:1", "http://[::1]:1", "http://localhost:1/"])
def test_loopback_addresses_are_taken(url: str) -> None:
    """All of 127/8, ::1 and the name localhost are this machine."""
    assert Traffic(url, "h", 1).samples == ()


@pytest.mark.parametrize("rate", [0, -1, 501])
def test_rates_out_of_range_are_refused(rate: float) -> None:
    """Neither nothing nor a flood."""
    with pytest.raises(UsageError, match="a second"):
        Traffic("http://127.0.0.1:1", "h", rate)


@pytest.mark.parametrize("limits", [{"for_s": 0}, {"for_s": 3601}, {"concurrency": 0}, {"timeout_s": 0}])
def test_limits_out_of_range_are_refused(limits: dict[str, float]) -> None:
    """Every run ends."""
    with pytest.raises(UsageError):
        Limits(**limits)  # type: ignore[arg-type]


def test_the_files_of_the_mix_exist_before_they_are_asked_for() -> None:
    """Every file that FM5's visitors get is put first."""
    stored = {route.path for route in FM5_MIX if route.method == "PUT" and route.weight == 0}
    assert {route.path for route in FM5_MIX if route.method == "GET" and "/files/" in route.path} == stored


@given(
    st.lists(
        st.builds(
            Sample,
            at=st.just(0.0),
            route=st.just("GET /"),
            status=st.sampled_from([None, 200, 404, 500, 503]),
            version=st.sampled_from([None, "a", "b"]),
            latency_ms=st.floats(0, 1000),
        )
    )
)
def test_a_summary_loses_no_request(samples: list[Sample]) -> None:
    """Versions, statuses and the total count the same requests; quantiles are in order and within what was seen."""
    summary = summarize(samples)
    assert summary.requests == len(samples) == sum(summary.statuses.values())
    assert summary.errors == sum(v.errors for v in summary.versions) == sum(s.failed for s in samples)
    assert all(0 <= v.p50_ms <= v.p99_ms <= 1000 for v in summary.versions)


def test_the_command_prints_a_json_line_per_request_and_the_summary_last(site: Site) -> None:
    """What another program reads: samples, then the totals over them."""
    command = [sys.executable, "-m", "backout.twin.traffic", "--url", site.url, "--host", "h", "--rate", "80", "--for"]
    done = subprocess.run([*command, "0.5"], capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    *samples, summary = map(json.loads, done.stdout.splitlines())
    assert summary["schema"] == "backout.traffic/1"
    assert summary["requests"] == len(samples) > 10
    assert set(samples[0]) == {"at", "route", "status", "version", "latency_ms"}
    refused = subprocess.run(
        [*command[:4], "http://192.0.2.1", *command[5:], "1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "loopback" in refused.stderr
