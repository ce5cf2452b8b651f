"""Port VendorStatus on hosted status pages: the unresolved incidents of the components that we use."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from backout import __version__
from backout.decoding import Undecodable, decode_json, parse_moment
from backout.errors import ConfigError, ProviderUnavailable
from backout.model.incident.vendor import VendorIncident
from backout.providers.exchange import Connection, ExchangeError, Limits, Origin

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BUDGET_S: Final = 3.0
"""All pages together: a rollback waits for this answer."""
_LIMITS: Final = Limits(connect_s=2.0, read_s=BUDGET_S, total_s=BUDGET_S, body_bytes=2 * 1024 * 1024)
_PATH: Final = "/api/v2/incidents/unresolved.json"
_OK: Final = 200
_IMPACTS: Final = ("none", "minor", "major", "critical")
_OVER: Final = frozenset({"resolved", "postmortem", "completed"})


class _Component(msgspec.Struct):
    name: str = ""


class _Update(msgspec.Struct):
    affected_components: tuple[_Component, ...] | None = ()


class _Incident(msgspec.Struct):
    name: str = ""
    status: str = ""
    impact: str = "none"
    created_at: str = ""
    started_at: str | None = None
    shortlink: str | None = None
    components: tuple[_Component, ...] | None = ()
    incident_updates: tuple[_Update, ...] | None = ()

    def parts(self) -> tuple[str, ...]:
        """Return the names of the components that it affects; older pages list them only in the updates."""
        told = [component.name for component in self.components or ()]
        updates = self.incident_updates or ()
        told = told or [component.name for update in updates for component in update.affected_components or ()]
        return tuple(dict.fromkeys(name for name in told if name))


class _Page(msgspec.Struct):
    name: str = ""
    url: str = ""


class _Answer(msgspec.Struct):
    page: _Page = msgspec.field(default_factory=_Page)
    incidents: tuple[_Incident, ...] = ()


class StatusPages:
    """Port VendorStatus.

    Args:
        pages: the pages' addresses, such as "https://www.cloudflarestatus.com" (or the whole address of the JSON).
        components: names of the components that we use, as the page writes them; none: all of them. An incident that
            lists no component touches us when its title names one.
        impact: the least one that counts: minor | major | critical.

    Raises:
        ConfigError: an address cannot be used.
    """

    def __init__(
        self, pages: Sequence[str], *, components: Sequence[str] = (), impact: str = "major", budget_s: float = BUDGET_S
    ) -> None:
        self._pages = tuple(_split_page(url) for url in pages)
        self._components = tuple(component.casefold() for component in components)
        self._least = _IMPACTS.index(impact)
        self._budget_s = budget_s

    def incidents(self) -> tuple[VendorIncident, ...]:
        """Return what touches us, the one that began first in front; within three seconds for all pages together.

        Raises:
            ProviderUnavailable: a page gave no usable answer, and the others show no incident.
        """
        found: list[VendorIncident] = []
        failed: list[ProviderUnavailable] = []
        deadline = time.monotonic() + self._budget_s
        for number, (origin, target) in enumerate(self._pages):
            share_s = (deadline - time.monotonic()) / (len(self._pages) - number)
            try:
                found += self._touching(_fetch_answer(origin, target, max(0.05, share_s)), origin)
            except ProviderUnavailable as error:
                failed.append(error)
        if failed and not found:
            raise failed[0]
        return tuple(sorted(found, key=lambda incident: incident.started_at))

    def _touching(self, answer: _Answer, origin: Origin) -> Iterator[VendorIncident]:
        for incident in answer.incidents:
            impact = _IMPACTS.index(incident.impact) if incident.impact in _IMPACTS else 0
            if impact < self._least or incident.status in _OVER or not self._touches(incident):
                continue
            yield VendorIncident(
                vendor=answer.page.name or origin.host,
                title=incident.name,
                impact=incident.impact,
                started_at=_parse_unix_s(incident.started_at or incident.created_at, origin),
                components=incident.parts(),
                url=incident.shortlink or answer.page.url or str(origin),
            )

    def _touches(self, incident: _Incident) -> bool:
        parts = [name.casefold() for name in incident.parts()]
        if not self._components or not parts:
            title = incident.name.casefold()
            return not self._components or any(
                re.search(rf"\b{re.escape(component)}\b", title) for component in self._components
            )
        return any(part in self._components for part in parts)


def _split_page(url: str) -> tuple[Origin, str]:
    try:
        origin = Origin.of(url)
    except ValueError as error:
        raise ConfigError((f"the address of a status page: {error}",)) from error
    path = urlsplit(url).path.rstrip("/")
    return origin, path if path.endswith(".json") else path + _PATH


def _fetch_answer(origin: Origin, target: str, within_s: float) -> _Answer:
    where = f"GET {origin}{target}"
    connection = Connection(origin, _LIMITS)
    headers = {"User-Agent": f"backout/{__version__}", "Accept": "application/json"}
    try:
        answer = connection.exchange("GET", target, headers=headers, within_s=within_s)
    except ExchangeError as error:
        raise ProviderUnavailable(f"{error.failure}: {error}", where=where) from error
    finally:
        connection.close()
    if answer.status != _OK:
        raise ProviderUnavailable(f"answered {answer.status}", where=where)
    try:
        return decode_json(answer.body, _Answer, what="the answer")
    except Undecodable as error:
        raise ProviderUnavailable(f"the answer cannot be read: {error.what}", where=where) from error


def _parse_unix_s(text: str, origin: Origin) -> float:
    try:
        return parse_moment(text)
    except Undecodable as error:
        raise ProviderUnavailable("the time of an incident cannot be read", where=f"GET {origin}") from error
