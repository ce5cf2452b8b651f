"""A real Prometheus on loopback, as an unprivileged process: with a past that was written for it, or with live scrapes.

A real VictoriaMetrics beside it. `.ci/run` installs Debian's packages; without them these tests are skipped.
"""

from __future__ import annotations

import contextlib
import http.server
import os
import shutil
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from backout.providers.child import NOBODY, find_free_ports, find_unprivileged_prefix, needs_chown, tie_to_parent

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAMS = ("prometheus", "promtool")


def need_prometheus() -> None:
    """Skip the test where Prometheus is not installed, and say how to install it."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {' and '.join(missing)}: apt-get install prometheus")


def need_victoria_metrics() -> None:
    """Skip the test where VictoriaMetrics is not installed, and say how to install it."""
    if shutil.which("victoria-metrics") is None:
        pytest.skip("no victoria-metrics: apt-get install victoria-metrics")


@contextlib.contextmanager
def prometheus(folder: Path, *, past: str = "", scrape: str = "", interval: str = "1s") -> Iterator[str]:
    """Yield the URL of a server.

    Args:
        past: samples in the OpenMetrics text format, with times.
        scrape: host:port of what it scrapes as job "app".
    """
    need_prometheus()
    data = folder / "data"
    data.mkdir(parents=True)
    if past:
        (folder / "past.txt").write_text(past + "# EOF\n", encoding="utf-8")
        made = ("promtool", "tsdb", "create-blocks-from", "openmetrics", str(folder / "past.txt"), str(data))
        subprocess.run(made, check=True, capture_output=True, timeout=PATIENCE_S)
    rules = folder / "rules.yml"
    rules.write_text(f"groups: [{{name: recorded, interval: {interval}, rules: [{RECORDED}]}}]\n", encoding="utf-8")
    settings = f"{_write_settings(scrape, interval)}rule_files: ['{rules}']\n"
    (folder / "prometheus.yml").write_text(settings, encoding="utf-8")
    (port,) = find_free_ports(1)
    argv = (
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={data}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--storage.tsdb.retention.time=10y",
        "--log.level=warn",
    )
    with _serving(folder, argv, port, "/-/ready") as url:
        yield url


@contextlib.contextmanager
def victoria_metrics(folder: Path, *, scrape: str, interval: str = "1s") -> Iterator[str]:
    """Yield the URL of a VictoriaMetrics that scrapes the same; it has no recording rules, which vmalert would make."""
    need_victoria_metrics()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scrape.yml").write_text(_write_settings(scrape, interval), encoding="utf-8")
    (port,) = find_free_ports(1)
    argv = (
        "victoria-metrics",
        f"-promscrape.config={folder / 'scrape.yml'}",
        f"-storageDataPath={folder / 'data'}",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-retentionPeriod=10y",
        "-memory.allowedBytes=64MiB",
    )
    with _serving(folder, argv, port, "/health") as url:
        yield url


RECORDED = "{record: 'version:http_requests:rate5s', expr: 'sum by (version) (rate(http_requests_total[5s]))'}"


def _write_settings(scrape: str, interval: str) -> str:
    jobs = f"[{{job_name: app, static_configs: [{{targets: ['{scrape}']}}]}}]" if scrape else "[]"
    return f"global: {{scrape_interval: {interval}, scrape_timeout: {interval}}}\nscrape_configs: {jobs}\n"


@contextlib.contextmanager
def _serving(folder: Path, argv: tuple[str, ...], port: int, ready: str) -> Iterator[str]:
    if needs_chown():
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            (*find_unprivileged_prefix(), *tie_to_parent(argv, signal.SIGTERM)), stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: _is_ready(f"{url}{ready}") or process.poll() is not None, 30, argv[0])
        assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
        yield url
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@dataclass
class Application:
    """What an application counts, as it shows it on /metrics; `sick`: it answers 500 there."""

    requests: dict[tuple[str, str], int] = field(default_factory=dict)
    durations: dict[str, dict[str, int]] = field(default_factory=dict)
    sick: bool = False
    scrapes: int = 0
    address: str = ""

    def answered(self, version: str, status: str, number: int, le: str = "0.1") -> None:
        """Count answers of a version, each in the slot up to `le` of its histogram (bounds 0.1, 0.5 and infinite)."""
        key = (version, status)
        self.requests[key] = self.requests.get(key, 0) + number
        slots = self.durations.setdefault(version, {"0.1": 0, "0.5": 0, "+Inf": 0})
        for bound in slots:
            if float(bound) >= float(le):
                slots[bound] += number

    def restart(self) -> None:
        """Forget all counts, as a new process does."""
        self.requests.clear()
        self.durations.clear()

    def text(self) -> str:
        """Return the page in Prometheus' text format."""
        lines = ["# TYPE http_requests_total counter", "# TYPE temperature gauge", 'temperature{version="v1"} 20']
        lines += [f'http_requests_total{{version="{v}",status="{s}"}} {n}' for (v, s), n in self.requests.items()]
        lines += [
            f'http_request_duration_seconds_bucket{{version="{version}",le="{bound}"}} {number}'
            for version, slots in self.durations.items()
            for bound, number in slots.items()
        ]
        return "".join(f"{line}\n" for line in lines)


@contextlib.contextmanager
def application() -> Iterator[Application]:
    """Serve an application's /metrics on loopback."""
    app = Application()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            app.scrapes += 1
            body = app.text().encode()
            self.send_response(500 if app.sick else 200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    app.address = f"127.0.0.1:{server.server_address[1]}"
    try:
        yield app
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE_S)
