"""Visitors for demos and drills: requests at random moments (Poisson) to one Worker, on loopback addresses only.

The generator is open: a slow or broken application does not slow the arrivals down, so that a regression is seen at
the rate of real visitors. Requests that cannot be sent because too many still wait are counted, not hidden.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ipaddress
import itertools
import random
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, TextIO
from urllib.parse import urlsplit

import aiohttp
import msgspec

from backout.errors import UsageError
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

VERSION_HEADER = "x-fm5-version"
LONGEST_S = 3600.0
HIGHEST_RATE_PER_S = 500.0
_SERVER_ERROR = 500


class Route(Value, frozen=True):
    """One kind of request; `weight` is its share relative to the other weights, 0 means once, before all others."""

    method: str
    path: str
    weight: float
    body: bytes | None = None
    content_type: str = "application/json"
    authorization: str = ""

    @property
    def name(self) -> str:
        """The route as a person writes it: `GET /api/models`."""
        return f"{self.method} {self.path}"


FM5_MIX = (
    Route("GET", "/", 20.5),
    Route("GET", "/about", 3),
    Route("GET", "/style.css", 5),
    Route("GET", "/api/models", 30),
    *(Route("GET", f"/api/models/{number}", 4) for number in range(1, 6)),
    Route("GET", "/api/v1/models", 1.5),
    Route("GET", "/api/session", 8),
    Route("POST", "/api/session", 1, b'{"email":"visitor@example.com","code":"000000"}'),
    Route("GET", "/api/files/bracket-40.txt", 8),
    Route("OPTIONS", "/api/orders", 2),
    Route("POST", "/api/orders", 0.5, b'{"model_id":1,"quantity":2,"email":"visitor@example.com"}'),
    Route("GET", "/wp-login.php", 0.3),
    Route("GET", "/.env", 0.2),
    Route("PUT", "/api/files/bracket-40.txt", 0, b"bracket, 40 mm, two holes\n", "text/plain"),
)
"""What visitors of the sample application do, a scanner among them; the file they ask for is stored first."""

VISITORS = {
    "usual": FM5_MIX,
    "crawler": tuple(Route("GET", f"/catalogue/{number}/page-{number}.html", 1) for number in range(100)),
    "attack": (Route("POST", "/api/session", 1, b'{"email":"admin@example.com","code":"123456"}'),),
    "logged-out": (Route("GET", "/api/session", 1, authorization="Bearer of.another.day"),),
    "news-readers": (Route("GET", "/api/news", 1),),
    "film-goers": (Route("GET", "/film.mp4", 1),),
}
"""Kinds of visitors by name; all but the usual ones are meant to come beside those."""


class Limits(Value, frozen=True):
    """The limits of the traffic.

    Args:
        for_s: it ends by itself after this long, at most an hour.
        concurrency: requests waiting at once; further arrivals are not sent.
        timeout_s: the patience of one visitor.

    Raises:
        UsageError: a figure is out of range.
    """

    for_s: float = 900.0
    concurrency: int = 64
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if not 0 < self.for_s <= LONGEST_S:
            raise UsageError(f"{self.for_s} s is not in (0, {LONGEST_S:.0f}]", where="traffic")
        if self.concurrency < 1 or self.timeout_s <= 0:
            raise UsageError("concurrency and timeout must be positive", where="traffic")


class Sample(Value, frozen=True):
    """One request: when it was sent (Unix seconds), its result, and its duration.

    Args:
        status: the HTTP status, or None when no complete answer came.
        version: as named in the answer, or None.
    """

    at: float
    route: str
    status: int | None
    version: str | None
    latency_ms: float

    @property
    def failed(self) -> bool:
        """Whether the visitor got nothing, or a server's error; a 4xx is the visitor's own."""
        return self.status is None or self.status >= _SERVER_ERROR


class VersionCounts(Value, frozen=True):
    """The answers of one version; `version` is None for answers that name none. Latencies in milliseconds."""

    version: str | None
    requests: int
    errors: int
    p50_ms: float
    p99_ms: float


class Summary(Value, frozen=True):
    """The traffic's results; `unsent` are the arrivals beyond the concurrency limit."""

    requests: int
    errors: int
    unsent: int
    versions: tuple[VersionCounts, ...]
    statuses: dict[str, int]


def summarize(samples: Iterable[Sample], *, unsent: int = 0) -> Summary:
    """Count samples by version (most requests first) and by status ("none" for no answer)."""
    by_version: dict[str | None, list[Sample]] = {}
    statuses: dict[str, int] = {}
    for sample in samples:
        by_version.setdefault(sample.version, []).append(sample)
        status = "none" if sample.status is None else str(sample.status)
        statuses[status] = statuses.get(status, 0) + 1
    versions = sorted((_make_counts(name, part) for name, part in by_version.items()), key=lambda v: -v.requests)
    return Summary(
        requests=sum(version.requests for version in versions),
        errors=sum(version.errors for version in versions),
        unsent=unsent,
        versions=tuple(versions),
        statuses=dict(sorted(statuses.items())),
    )


def _make_counts(version: str | None, samples: Sequence[Sample]) -> VersionCounts:
    latencies = sorted(sample.latency_ms for sample in samples)
    return VersionCounts(
        version=version,
        requests=len(samples),
        errors=sum(sample.failed for sample in samples),
        p50_ms=_find_quantile(latencies, 0.5),
        p99_ms=_find_quantile(latencies, 0.99),
    )


def _find_quantile(ordered: Sequence[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)


class Traffic:
    """Requests of a mix at random moments, from `start()` until `stop()` or until the limit of time.

    Args:
        ingress_url: where to connect, http on a loopback address.
        host: the Host header, which names the Worker.
        rate_per_s: mean arrivals a second, at most 500.
        mix: the requests, by weight.
        seed: same seed, same arrivals.
        limits: time, concurrency, patience.
        on_sample: called on the traffic's own thread for every sample; be quick.

    Raises:
        UsageError: the address is not loopback, or a figure is out of range.
    """

    def __init__(
        self,
        ingress_url: str,
        host: str,
        rate_per_s: float,
        mix: tuple[Route, ...] = FM5_MIX,
        seed: int = 0,
        *,
        limits: Limits | None = None,
        on_sample: Callable[[Sample], None] = lambda _: None,
    ) -> None:
        _require_loopback(ingress_url)
        if not 0 < rate_per_s <= HIGHEST_RATE_PER_S:
            raise UsageError(f"{rate_per_s} a second is not in (0, {HIGHEST_RATE_PER_S:.0f}]", where="traffic")
        self._url = ingress_url.rstrip("/")
        self._host = host
        self._rate_per_s = rate_per_s
        self._first = tuple(route for route in mix if route.weight == 0)
        self._mix = tuple(route for route in mix if route.weight > 0)
        self._cumulative = tuple(itertools.accumulate(route.weight for route in self._mix))
        self._random = random.Random(seed)  # noqa: S311 - arrivals, no secret
        self._limits = limits or Limits()
        self._on_sample = on_sample
        self._samples: list[Sample] = []
        self._unsent = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Everything seen so far, in order of the answers; safe from any thread."""
        return tuple(self._samples)

    def summary(self) -> Summary:
        """What was seen so far; safe from any thread."""
        return summarize(self.samples, unsent=self._unsent)

    def start(self) -> None:
        """Begin on a private thread and return when the requests of weight 0 were answered.

        Raises:
            UsageError: it was started before.
        """
        if self._thread is not None:
            raise UsageError("the traffic was started before", hint="make a new Traffic")
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self.run(ready.set)), name="traffic", daemon=True)
        self._thread.start()
        ready.wait()

    def stop(self) -> Summary:
        """Send nothing more, wait for the answers under way (at most the visitor's patience), return what was seen."""
        self.request_stop()
        if self._thread is not None:
            self._thread.join()
        return self.summary()

    def request_stop(self) -> None:
        """Send nothing more; return at once. Safe from any thread and from a signal handler."""
        if self._loop is not None and self._stopping is not None:
            with contextlib.suppress(RuntimeError):  # the loop is over already: so is the traffic
                self._loop.call_soon_threadsafe(self._stopping.set)

    def wait(self, timeout_s: float) -> bool:
        """Wait until the traffic has ended; False when it has not within `timeout_s`."""
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    async def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Do all of it on the caller's event loop; `start()` does this on a thread."""
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        try:
            async with aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, use_dns_cache=False),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self._limits.timeout_s),
                headers={"host": self._host},
                auto_decompress=False,
            ) as session:
                for route in self._first:
                    await self._send(session, route)
                on_ready()
                await self._arrive(session, self._loop, self._stopping)
        finally:
            on_ready()

    async def _arrive(
        self, session: aiohttp.ClientSession, loop: asyncio.AbstractEventLoop, stopping: asyncio.Event
    ) -> None:
        under_way: set[asyncio.Task[None]] = set()
        end = loop.time() + self._limits.for_s
        due = loop.time()
        while not stopping.is_set():
            due += self._random.expovariate(self._rate_per_s)
            route = self._random.choices(self._mix, cum_weights=self._cumulative)[0]
            if due > end or await _is_stopped_before(due, loop, stopping):
                break
            if len(under_way) >= self._limits.concurrency:
                self._unsent += 1
                continue
            task = loop.create_task(self._record(session, route))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)

    async def _record(self, session: aiohttp.ClientSession, route: Route) -> None:
        at = time.time()
        start = time.perf_counter()
        status, version = await self._send(session, route)
        sample = Sample(at, route.name, status, version, round((time.perf_counter() - start) * 1000, 3))
        self._samples.append(sample)
        self._on_sample(sample)

    async def _send(self, session: aiohttp.ClientSession, route: Route) -> tuple[int | None, str | None]:
        headers = {} if route.body is None else {"content-type": route.content_type}
        if route.authorization:
            headers["authorization"] = route.authorization
        try:
            async with session.request(
                route.method, self._url + route.path, data=route.body, headers=headers, allow_redirects=False
            ) as answer:
                await answer.read()
                return answer.status, answer.headers.get(VERSION_HEADER)
        except (aiohttp.ClientError, TimeoutError):
            return None, None


async def _is_stopped_before(due: float, loop: asyncio.AbstractEventLoop, stopping: asyncio.Event) -> bool:
    wait_s = due - loop.time()
    if wait_s <= 0:
        await asyncio.sleep(0)  # behind: let the answers in before the next one goes out
        return stopping.is_set()
    try:
        async with asyncio.timeout(wait_s):
            return await stopping.wait()
    except TimeoutError:
        return False


def _require_loopback(url: str) -> None:
    parts = urlsplit(url)
    name = parts.hostname or ""
    loopback = name == "localhost"
    with contextlib.suppress(ValueError):
        loopback = loopback or ipaddress.ip_address(name).is_loopback
    if parts.scheme != "http" or not loopback:
        raise UsageError(
            "traffic goes to loopback addresses only",
            where=url,
            hint="give the twin's ingress_url: backout twin status",
        )


def main(arguments: Sequence[str] | None = None, out: TextIO = sys.stdout) -> int:
    """Print one JSON line a request, then the summary; Ctrl-C or SIGTERM ends it early, with the summary."""
    parser = argparse.ArgumentParser(prog="python -m backout.twin.traffic", description=__doc__)
    parser.add_argument("--url", required=True, help="the twin's ingress_url")
    parser.add_argument("--host", required=True, help="the Worker's host header")
    parser.add_argument("--rate", type=float, required=True, help="requests a second, on average")
    parser.add_argument("--for", dest="for_s", type=float, default=60.0, help="seconds (default 60)")
    parser.add_argument("--visitors", choices=sorted(VISITORS), default="usual", help="who comes (default usual)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--summary", action="store_true", help="print the summary only")
    options = parser.parse_args(arguments)

    def show(value: object) -> None:
        out.write(msgspec.json.encode(value).decode() + "\n")
        out.flush()

    try:
        traffic = Traffic(
            options.url,
            options.host,
            options.rate,
            VISITORS[options.visitors],
            seed=options.seed,
            limits=Limits(for_s=options.for_s),
            on_sample=(lambda _: None) if options.summary else show,
        )
    except UsageError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: traffic.request_stop())
    asyncio.run(traffic.run())
    show({"schema": "backout.traffic/1"} | msgspec.to_builtins(traffic.summary()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
