"""`/healthz` and Prometheus' `/metrics` of a worker, on a loopback address."""

from __future__ import annotations

import ipaddress
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final, Protocol

from backout.errors import UsageError
from backout.extras import require

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

    from backout.runbook.worker.jobs import Past
    from backout.runbook.worker.worker import WorkerState

RENEWED_S: Final = 15.0
"""A worker is healthy whose leases were renewed within this."""
SEEN_S: Final = 120.0
"""The same for a sign of each environment that it guards while no run is under way."""


class Sign(Protocol):
    """What is known of one environment, see `cli.worker.Guarding`."""

    seen_at: float | None
    trouble: str
    is_in_run: bool


def list_problems(state: WorkerState, signs: Mapping[str, Sign], now: float) -> tuple[str, ...]:
    """Return what keeps a worker from guarding, a sentence each.

    Args:
        signs: what is known of each environment.
        now: the monotonic clock, in seconds.
    """
    found = [state.trouble] if state.trouble else []
    if state.renewed_at is None or now - state.renewed_at > RENEWED_S:
        found.append(f"no lease was renewed within {RENEWED_S:.0f} s")
    for name in state.held:
        sign = signs[name]
        if sign.trouble:
            found.append(f"{name}: {sign.trouble}")
        elif not sign.is_in_run and (sign.seen_at is None or now - sign.seen_at > SEEN_S):
            found.append(f"{name}: nothing was looked at within {SEEN_S:.0f} s")
    return tuple(found)


@contextmanager
def serve_metrics(
    listen: str,
    read_state: Callable[[], WorkerState],
    signs: Mapping[str, Sign],
    read_jobs: Callable[[], Mapping[tuple[str, str], Past]] = dict,
) -> Iterator[int]:
    """Answer in the block; yield the port.

    Args:
        read_jobs: returns what is known of jobs, by environment and name.

    Raises:
        UsageError: the address is none on loopback, or cannot be had, or a part of the installation is missing.
    """
    address = _parse_address(listen)
    require("worker", "--listen")
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry()
    registry.register(_Collector(read_state, signs, read_jobs))
    try:
        server = ThreadingHTTPServer(address, _make_handler(registry, read_state, signs))
    except OSError as error:
        what = f"nothing can listen there ({error.strerror})"
        raise UsageError(
            what, where=f"--listen {listen}", hint=f"backout worker --listen {address[0]}:{address[1] + 1}"
        ) from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="backout-metrics", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _parse_address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    try:
        address, number = ipaddress.ip_address(host.strip("[]")), int(port)
    except ValueError as error:
        what = "it is not ADDRESS:PORT"
        raise UsageError(what, where=f"--listen {listen}", hint="backout worker --listen 127.0.0.1:9464") from error
    if not address.is_loopback or not 0 <= number < 2**16:
        what = "only a loopback address is listened on: anyone who reaches it may read it"
        raise UsageError(what, where=f"--listen {listen}", hint="backout worker --listen 127.0.0.1:9464")
    return str(address), number


def _make_handler(
    registry: CollectorRegistry, read_state: Callable[[], WorkerState], signs: Mapping[str, Sign]
) -> type[BaseHTTPRequestHandler]:
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
            elif self.path == "/healthz":
                problems = list_problems(read_state(), signs, time.monotonic())
                body = {"ok": not problems, "guards": list(read_state().held), "problems": list(problems)}
                self._answer(503 if problems else 200, "application/json", json.dumps(body).encode() + b"\n")
            else:
                self._answer(404, "text/plain", b"/healthz and /metrics\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the worker's own lines are on stderr."""

    return Handler


class _Collector:
    """Reads the worker when it is asked."""

    def __init__(
        self,
        read_state: Callable[[], WorkerState],
        signs: Mapping[str, Sign],
        read_jobs: Callable[[], Mapping[tuple[str, str], Past]],
    ) -> None:
        self._read_state, self._signs, self._read_jobs = read_state, signs, read_jobs

    def collect(self) -> Iterator[Metric]:
        """Yield each metric."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        state, now = self._read_state(), time.monotonic()
        guarded = GaugeMetricFamily(
            "backout_guarded", "1 for an environment that this worker guards", labels=["environment"]
        )
        silent = GaugeMetricFamily(
            "backout_guard_silent_seconds", "Since the last look at a guarded environment", labels=["environment"]
        )
        failing = GaugeMetricFamily(
            "backout_guard_failing", "1 while an environment cannot be guarded", labels=["environment"]
        )
        watching = GaugeMetricFamily(
            "backout_guard_run_under_way", "1 while a run is under way", labels=["environment"]
        )
        for name in state.held:
            sign = self._signs[name]
            guarded.add_metric([name], 1)
            failing.add_metric([name], bool(sign.trouble))
            watching.add_metric([name], sign.is_in_run)
            if sign.seen_at is not None:
                silent.add_metric([name], now - sign.seen_at)
        yield from (guarded, silent, failing, watching)
        yield from self._collect_jobs(state.held)
        renewed = GaugeMetricFamily("backout_worker_leases_renewed_seconds", "Since the leases were renewed last")
        if state.renewed_at is not None:
            renewed.add_metric([], now - state.renewed_at)
        yield renewed
        yield GaugeMetricFamily("backout_worker_others", "Other workers that share the work", state.others)
        yield CounterMetricFamily("backout_worker_leases_taken", "Environments taken over", state.taken)
        yield CounterMetricFamily("backout_worker_leases_lost", "Environments lost to another worker", state.lost)

    def _collect_jobs(self, held: Collection[str]) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        labels, now = ["environment", "job"], time.time()
        done = GaugeMetricFamily("backout_job_done_seconds", "Since a job was last done well", labels=labels)
        failures = GaugeMetricFamily("backout_job_failures", "Attempts since then that were not", labels=labels)
        for (environment, name), past in sorted(self._read_jobs().items()):
            if environment not in held:
                continue
            failures.add_metric([environment, name], past.failures)
            if past.done_at is not None:
                done.add_metric([environment, name], max(now - past.done_at, 0.0))
        yield from (done, failures)
