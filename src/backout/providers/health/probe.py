"""Port HealthCheck over HTTP: asks once within a time limit, and turns every kind of failure into a report.

It never raises for a sick application. What cannot be read as a health report is UNREADABLE (unmeasured), yet its HTTP
status still counts: a 503 with a page of HTML is down.
"""

from __future__ import annotations

import re
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urljoin, urlsplit

from msgspec.structs import replace

from backout import __version__
from backout.decoding import Undecodable, decode_json
from backout.errors import ConfigError
from backout.model.guard.fetched import MOST_HOPS, Fetched
from backout.model.guard.policy import SyntheticCheck
from backout.model.guard.signals import HealthReport, Reach, ServiceHealth, ServiceState
from backout.providers.addresses import is_allowed, is_metadata_host
from backout.providers.clock import SystemClock
from backout.providers.exchange import Answer, Connection, ExchangeError, Failure, Limits, Origin
from backout.providers.health import formats
from backout.providers.health.sent import PROBE_ID_HEADER
from backout.providers.health.words import find_canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from backout.ports import Clock
    from backout.providers.health.sent import SentProbes

MAX_BODY_BYTES: Final = 64 * 1024
PROBE_HEADER: Final = "x-backout-probe"
OVERRIDES_HEADER: Final = "Cloudflare-Workers-Version-Overrides"
_LET_IN: Final = "put credentials into health.headers_env"
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_KEY: Final = re.compile(r"^[a-z*][a-z0-9_.*-]*$")
_ID: Final = re.compile(r"^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{16})$")
_VERSION: Final = re.compile(r"^[0-9A-Za-z-]{1,64}$")


class Exchanger(Protocol):
    """A connection that health is asked through, as `exchange.Connection`."""

    def exchange(
        self, method: str, target: str, *, headers: Mapping[str, str], within_s: float | None = None
    ) -> Answer:
        """Return the whole answer. Raises ExchangeError."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class HealthProbe:
    """Port HealthCheck of one URL.

    Args:
        timeout_s: for the whole look, redirect included.
        headers: sent along (their values are never shown).
        script: the Worker's name, for asking one version.
        override: returns the headers that lead to one version, or None, where it is not by the Worker's name.
        format: one of `formats`, or "auto".
        names: the services' names in backout.toml; a service that the application calls by another usual name (db,
            postgres, s3, smtp) is reported under the configured one. Without them every name stays as it is.
        mask: takes every secret out of what the application says, before anything is cut out of it.
        credentials: tells the headers that synthetic checks send, by the name of the check; asked when one is sent.
        sent: takes note of what was answered.
        connect: opens a connection.

    Raises:
        ConfigError: the URL, a header or the address cannot be used.
    """

    def __init__(  # noqa: PLR0913 - one for each setting of the section [health]
        self,
        url: str,
        *,
        timeout_s: float = 5.0,
        headers: Mapping[str, str] | None = None,
        script: str = "",
        override: Callable[[str], Mapping[str, str] | None] | None = None,
        format: str = formats.AUTO,
        names: Collection[str] = (),
        clock: Clock | None = None,
        mask: Callable[[object], object] = lambda body: body,
        credentials: Callable[[], Mapping[str, Mapping[str, str]]] = dict,
        sent: SentProbes | None = None,
        connect: Callable[[Origin, Limits], Exchanger] = Connection,
    ) -> None:
        self._connect = connect
        self._origin = _check_url(url)
        self._url = url
        self._timeout_s = timeout_s
        self._sent = sent
        self._headers = _make_headers(headers or {}) | ({} if sent is None else {PROBE_ID_HEADER: sent.id})
        self._script = script
        self._ask_for = override
        self._format = format
        self._names = frozenset(names)
        self._mask = mask
        self._credentials = credentials
        self._clock = clock or SystemClock()
        self._connections: dict[Origin, Exchanger] = {}

    def look(self, version: str | None = None) -> HealthReport:
        """Ask once; a version is asked for by the platform's override header."""
        at, begun = self._clock.now(), time.monotonic()
        override = self._override(version)
        if override is None:
            return replace(
                _make_unreadable(None, "One version cannot be asked for here: it is not known where."), at=at
            )
        headers = self._headers | override
        try:
            answer = self._ask(self._url, self._origin, headers, begun)
            followed = _follow_redirect(self._url, answer)
            if isinstance(followed, str):
                report = self._ask_again(followed, answer, headers, begun)
            else:
                report = followed or self._read(answer)
        except ExchangeError as error:
            report = _make_unanswered(error, self._timeout_s)
        report = _check_version(report, version)
        return replace(report, at=at, latency_ms=(time.monotonic() - begun) * 1000)

    def fetch(self, path: str, version: str | None = None, *, check: SyntheticCheck | None = None) -> Fetched:
        """Return the answer to one path of the same host, and where its redirects on that host end."""
        override = self._override(version)
        if override is None:
            return Fetched()
        asked = check or SyntheticCheck(path)
        headers = self._headers | override
        if asked.credentials:
            headers |= _make_headers(self._credentials().get(asked.name, {}))
        if asked.origin:
            headers["Origin"] = asked.origin
        if asked.preflight:
            headers["Access-Control-Request-Method"] = asked.preflight
        begun, url = time.monotonic(), f"{self._origin}{path}"
        first, answer, seen = None, self._fetch(url, asked.sent, headers, begun), {url}
        for _ in range(MOST_HOPS):
            first = first or answer
            following = _find_redirect(self._origin, url, answer)
            if not following:
                break
            if following in seen:
                return replace(first, ends=answer.status, hops=len(seen), loops=True)
            url = following
            seen.add(url)
            answer = self._fetch(url, asked.sent, headers, begun)
        first = first or answer
        return first if len(seen) == 1 else replace(first, ends=answer.status, hops=len(seen) - 1)

    def _fetch(self, url: str, method: str, headers: dict[str, str], begun: float) -> Fetched:
        try:
            answer = self._ask(url, self._origin, headers, begun, method)
        except ExchangeError as error:
            return Fetched(error.status) if error.failure is Failure.TOO_LARGE else Fetched()
        return Fetched(answer.status, answer.headers, answer.body.decode(errors="replace"))

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections.values():
            connection.close()

    def _ask_again(self, url: str, first: Answer, headers: dict[str, str], begun: float) -> HealthReport:
        answer = self._ask(url, Origin.of(url, in_the_open=True), headers, begun)
        if answer.status in _REDIRECTS:
            return _make_unreadable(first.status, "The endpoint redirects more than once.")
        return self._read(answer)

    def _ask(self, url: str, origin: Origin, headers: dict[str, str], begun: float, method: str = "GET") -> Answer:
        connection = self._connections.get(origin)
        if connection is None:
            limits = Limits(self._timeout_s, self._timeout_s, self._timeout_s, MAX_BODY_BYTES)
            connection = self._connections[origin] = self._connect(origin, limits)
        left_s = self._timeout_s - (time.monotonic() - begun)
        answer = connection.exchange(method, _get_target(url), headers=headers, within_s=max(0.001, left_s))
        if self._sent is not None:
            self._sent.note(self._clock.now())
        return answer

    def _override(self, version: str | None) -> dict[str, str] | None:
        """Return the header that asks for a version; None when it cannot be asked for."""
        if version is None:
            return {}
        if self._ask_for is not None:
            found = self._ask_for(version)
            return None if found is None else dict(found)
        if not _KEY.match(self._script) or not _VERSION.match(version):
            return None
        return {OVERRIDES_HEADER: f'{self._script}="{version}"'}

    def _read(self, answer: Answer) -> HealthReport:
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        why = _explain_status(answer)
        if kind == "text/html" or answer.body.lstrip()[:1] == b"<":
            return _make_unreadable(answer.status, f"The endpoint answers {answer.status} with HTML{why}.")
        try:
            body = decode_json(answer.body)
        except Undecodable:
            return _make_unreadable(
                answer.status, f"The endpoint answers {answer.status} with something that is not JSON{why}."
            )
        reading = formats.read(self._mask(body), self._format)
        if reading is None:
            return _make_unreadable(
                answer.status, f"The endpoint answers {answer.status} with JSON that is not a health report{why}."
            )
        return HealthReport(
            at=0.0,
            reach=Reach.ANSWERED,
            status=answer.status,
            overall=reading.overall,
            services=_rename_services(reading.services, self._names),
            findings=formats.list_contradictions(reading, answer.status),
            version=reading.version,
        )


def _explain_status(answer: Answer) -> str:
    """Return what an answer that is no health report most likely means, "" where that is not known."""
    if answer.headers.get("cf-mitigated") == "challenge":
        return f" (a firewall or bot rule of Cloudflare's asks who is there: {_LET_IN})"
    if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return f" (it is protected: {_LET_IN})"
    return " (there is nothing at that path: is health.url right?)" if answer.status == HTTPStatus.NOT_FOUND else ""


def _check_url(url: str) -> Origin:
    try:
        origin = Origin.of(url, in_the_open=True)
    except ValueError as error:
        raise ConfigError((f"the health URL: {error}",)) from error
    if urlsplit(url).username is not None:
        raise ConfigError(("the health URL: it holds a user name; put credentials into headers_env",))
    is_literal = ":" in origin.host or origin.host.replace(".", "").isdigit()
    if is_metadata_host(origin.host) or (is_literal and not is_allowed(origin.host)):
        raise ConfigError((f"the health URL: {origin.host} is never asked (link-local or metadata address)",))
    return origin


def _make_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or not value.isascii() or not value.isprintable():
            raise ConfigError((f"health.headers: '{name}' cannot be sent as a header",))
    return {
        "Accept": "application/json, application/health+json;q=0.9, */*;q=0.1",
        "Cache-Control": "no-cache",
        "User-Agent": f"backout/{__version__}",
        **headers,
        PROBE_HEADER: "1",
    }


def _get_target(url: str) -> str:
    parts = urlsplit(url)
    path = "".join(c if c.isascii() and c.isprintable() and c != " " else "" for c in parts.path) or "/"
    return f"{path}?{parts.query}" if parts.query and parts.query.isascii() and parts.query.isprintable() else path


def _follow_redirect(url: str, answer: Answer) -> str | HealthReport | None:
    """Return where a redirect leads on the same host, a report when it may not be followed, None without a redirect."""
    location = answer.headers.get("location")
    if answer.status not in _REDIRECTS or not location:
        return None
    try:
        target = urljoin(url, location)
        here, there = Origin.of(url, in_the_open=True), Origin.of(target, in_the_open=True)
    except ValueError:
        return _make_unreadable(answer.status, "The endpoint redirects to something that is not an http(s) address.")
    to_tls = (here.scheme, here.port, there.scheme, there.port) == ("http", 80, "https", 443)
    if here.host == there.host and (here == there or to_tls):
        return target
    name = "".join(c for c in str(there) if c.isprintable())[:100]
    if there.host.endswith(".cloudflareaccess.com"):
        why = f"Cloudflare Access protects the endpoint: {_LET_IN}, those of a service token"
        return _make_unreadable(answer.status, f"{why} (CF-Access-Client-Id, CF-Access-Client-Secret).")
    return _make_unreadable(answer.status, f"The endpoint redirects to another host ({name}), which is not asked.")


def _find_redirect(origin: Origin, url: str, answer: Fetched) -> str:
    """Return where a redirect leads on the same origin, "" where there is none, or it leads elsewhere."""
    if answer.status not in _REDIRECTS or not answer.location:
        return ""
    try:
        target = urljoin(url, answer.location).partition("#")[0]
        return target if Origin.of(target, in_the_open=True) == origin else ""
    except ValueError:
        return ""


def _check_version(report: HealthReport, wanted: str | None) -> HealthReport:
    """Add a finding when another version answered: the platform ignores an override that it cannot follow."""
    if wanted is None or report.version is None or report.version == wanted or not _ID.match(report.version):
        return report
    finding = f"Version {wanted} was asked for, but version {report.version} answered."
    return replace(report, findings=(*report.findings, finding))


def _make_unanswered(error: ExchangeError, timeout_s: float) -> HealthReport:
    said = f"{error}"[:200]
    if error.failure is Failure.TIMED_OUT:
        finding = f"The endpoint did not answer in full within {timeout_s:g} s."
        return HealthReport(0.0, Reach.TIMED_OUT, error.status, findings=(finding,))
    if error.failure is Failure.TOO_LARGE:
        return _make_unreadable(error.status, f"The endpoint answers more than {MAX_BODY_BYTES} bytes.")
    if error.failure is Failure.NOT_ALLOWED or error.status is not None:
        return _make_unreadable(error.status, f"The endpoint cannot be read: {said}.")
    return HealthReport(0.0, Reach.UNREACHABLE, findings=(f"The endpoint cannot be reached: {said}.",))


def _make_unreadable(status: int | None, finding: str) -> HealthReport:
    return HealthReport(0.0, Reach.UNREADABLE, status, ServiceState.UNKNOWN, findings=(finding,))


def _rename_services(services: tuple[ServiceHealth, ...], names: frozenset[str]) -> tuple[ServiceHealth, ...]:
    """Return the services, each under its configured name where the application uses another usual one for it."""
    taken = {service.name for service in services}
    renamed: list[ServiceHealth] = []
    for service in services:
        wanted = _find_configured(service.name, names)
        if wanted is not None and wanted not in taken:
            taken.add(wanted)
            renamed.append(replace(service, name=wanted))
        else:
            renamed.append(service)
    return tuple(renamed)


def _find_configured(name: str, names: frozenset[str]) -> str | None:
    meaning = find_canonical(name)
    if name in names or meaning is None:
        return None
    return next((wanted for wanted in sorted(names) if find_canonical(wanted) == meaning), None)
