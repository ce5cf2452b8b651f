"""Port HealthCheck where releases run on several hosts: one release is asked on each of them, past its Caddy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.errors import BackoutError, ProviderRejected
from backout.model.guard.fetched import Fetched
from backout.model.guard.signals import HealthReport, Reach, ServiceState
from backout.providers.caddy.hosts import NOT_READ
from backout.providers.exchange import Answer, ExchangeError, Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from backout.model.guard.policy import SyntheticCheck
    from backout.ports import Clock, HealthCheck
    from backout.providers.caddy.hosts import Host
    from backout.providers.caddy.machine import Machine
    from backout.providers.exchange import Limits, Origin


class HostConnection:
    """A connection to the process of a release, made by its host, as `exchange.Connection`.

    Args:
        address: where the process listens on that host.
        origin: what it is asked as: its Host header.
    """

    def __init__(self, machine: Machine, address: str, origin: Origin, limits: Limits) -> None:
        self._machine = machine
        self._address = address
        self._origin = origin
        self._limits = limits

    def exchange(
        self, method: str, target: str, *, headers: Mapping[str, str], within_s: float | None = None
    ) -> Answer:
        """Return the whole answer. Raises ExchangeError, NOT_READ: the host is not reached."""
        sent = {"Host": self._origin.netloc, **headers}
        limit_s, most = within_s or self._limits.total_s, self._limits.body_bytes
        try:
            status, found, body = self._machine.fetch(self._address, method, target, sent, limit_s, most + 1)
        except TimeoutError as error:
            raise ExchangeError(Failure.TIMED_OUT, "no answer in time", sent=True) from error
        except ConnectionRefusedError as error:
            raise ExchangeError(Failure.NOT_REACHED, f"nothing listens at {self._address}", sent=False) from error
        except OSError as error:
            raise ExchangeError(Failure.BROKEN, error.strerror or "the answer broke off", sent=True) from error
        if len(body) > most:
            raise ExchangeError(Failure.TOO_LARGE, "too large", sent=True, status=status)
        return Answer(status, found, body)

    def close(self) -> None:
        """Nothing is kept open."""


class HostsHealth:
    """Port HealthCheck: what is live is asked by its URL, one release on every host; the worst answer counts.

    Args:
        usual: the health endpoint at its URL.
        open_one: returns the endpoint of a process at an address of a host.
    """

    def __init__(
        self,
        usual: HealthCheck,
        hosts: Sequence[Host],
        open_one: Callable[[Callable[[Origin, Limits], HostConnection]], HealthCheck],
        clock: Clock,
    ) -> None:
        self._usual = usual
        self._hosts = hosts
        self._open_one = open_one
        self._clock = clock

    def look(self, version: str | None = None) -> HealthReport:
        """Ask once, a version on each host that is reached and has it; the findings name the others."""
        if version is None:
            return self._usual.look()
        reports: list[HealthReport] = []
        missed: list[str] = []
        for host in self._hosts:
            try:
                reports.append(self._look_on(host, version))
            except (*NOT_READ, ProviderRejected) as error:  # it is not switched then either
                missed.append(f"{host.name}: one release cannot be asked there: {error.what}")
        if not reports:
            return HealthReport(self._clock.now(), Reach.UNREADABLE, findings=tuple(missed))
        worst = max(reports, key=lambda report: _weigh(report, version))
        return replace(worst, findings=(*worst.findings, *missed))

    def fetch(self, path: str, version: str | None = None, *, check: SyntheticCheck | None = None) -> Fetched:
        """Return the answer to a path, of a version on the first host that has it."""
        if version is None:
            return self._usual.fetch(path, check=check)
        for host in self._hosts:
            try:
                return self._open(host, version).fetch(path, check=check)
            except BackoutError:
                continue
        return Fetched()

    def _look_on(self, host: Host, version: str) -> HealthReport:
        report = self._open(host, version).look()
        return replace(report, findings=tuple(f"{host.name}: {each}" for each in report.findings))

    def _open(self, host: Host, version: str) -> HealthCheck:
        machine, address = host.releases.machine, host.releases.get(version, damaged=True).address
        return self._open_one(lambda origin, limits: HostConnection(machine, address, origin, limits))


def _weigh(report: HealthReport, version: str) -> tuple[bool, bool, bool, int, int]:
    """Return how bad a report is: down, nothing measured, another release, unwell, contradictory."""
    is_other = report.version is not None and report.version != version
    return (
        report.is_down,
        not report.measured,
        is_other,
        _ORDER.index(report.overall),
        len(report.findings),
    )


_ORDER = (ServiceState.OK, ServiceState.UNKNOWN, ServiceState.DEGRADED, ServiceState.DOWN)
