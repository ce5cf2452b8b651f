"""The boundary around every adapter: everything it raises becomes an error that its port promises.

What comes from outside is decoded where it comes in (`backout.decoding`). Should an adapter still meet something
unforeseen, a watch that has to act must not end with it: of a source of counts, health or logs it is "source
lost", of the platform "no answer". The mistake is still reported, once for each place in the code.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from msgspec.structs import replace

from backout.bounds import LATEST
from backout.errors import BackoutError, ProviderUnavailable
from backout.model.guard.signals import BUCKETS, CountsPage, HealthReport, Reach, RouteCounts
from backout.runbook.safety.maintained import ApplicationTraffic, NotedVersions
from backout.runbook.safety.marked_deployments import MarkedDeployments
from backout.runbook.toolbox import (
    GuardTools,
    IncidentTools,
    Late,
    Parts,
    PlatformTools,
    RecoveryTools,
    RollbackTools,
    SafetyTools,
    Toolbox,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from backout.model.guard.signals import Counts

    Methods = Mapping[str, Mapping[str, Callable[[Any], object]]]

H = TypeVar("H", Toolbox, GuardTools, IncidentTools, PlatformTools, RecoveryTools, RollbackTools, SafetyTools)

ADAPTERS: Final = {
    "deployments": "the platform's deployments",
    "versions": "the platform's versions",
    "secrets": "the platform's secrets",
    "rollback.triggers": "the platform's triggers",
    "rollback.attachments": "the platform's containers, workflows and builds",
    "safety.token": "the look at the token",
    "safety.identities": "the look at the identity",
    "safety.provider_clock": "the provider's clock",
    "rollback.bundles": "the platform's code",
    "rollback.bundle_store": "the kept code",
    "traffic": "the source of counts",
    "health": "the health endpoint",
    "guard.sender": "synthetic requests",
    "guard.pairing": "paired probes",
    "incident.logs": "the source of logs",
    "guard.connections": "the database's connections",
    "rollback.schema": "the history of migrations",
    "rollback.migrations": "the migrations' files",
    "incident.builds": "the pipeline",
    "safety.vendors": "the vendors' status pages",
    "safety.checkout": "the working copy",
    "rollback.deployer": "the deploy command",
    "rollback.statements": "the statements that the application sends",
    "recovery.points": "restore points",
    "platform.queues": "the platform's queues",
    "platform.read_caches": "the platform's caches",
    "platform.maintenance": "the maintenance version",
    "rollback.jobs": "the job workers",
    "rollback.standby": "the processes of releases",
    "notifier": "the channels",
    "guard.dead_man": "the dead-man's switch",
    "incident.cards": "the card",
}
"""The fields of a toolbox and of its parts that lead outside, and what they are in words. The journal is ours, and has
its own errors; a hold that cannot be read counts as a hold, which the adapter says itself."""
_OUTSIDE: Final = (MarkedDeployments, NotedVersions, ApplicationTraffic)
MOST: Final = 2**53
"""No second of an application has more requests."""


def add_boundaries(tools: Toolbox) -> Toolbox:
    """Return the toolbox with a boundary around each adapter that is set up."""

    def report_unmeasured(why: str) -> object:
        return HealthReport(tools.clock.now(), Reach.UNREADABLE, findings=(why,))

    checks: Methods = {"traffic": {"read": _check_page}}
    instead: Methods = {name: {"look": report_unmeasured} for name in ("health", "guard.sender", "guard.pairing")}
    told: set[str] = set()

    def wrap(holder: H, part: str) -> H:
        held: dict[str, Any] = {}
        for name, words in ADAPTERS.items():
            of, _, field = name.rpartition(".")
            inner = getattr(holder, field) if of == part else None
            inner = inner.raw if isinstance(inner, _OUTSIDE) else inner  # the toolbox puts these around it again
            if inner is not None and not isinstance(inner, Boundary):
                lost = partial(_make_lost_error, tools, told, words)
                held[field] = Boundary(inner, lost, checks.get(name, {}), instead.get(name, {}))
        return replace(holder, **held)

    def wrap_rollback() -> RollbackTools:
        made = wrap(parts.rollback(), "rollback")
        opener, lost = made.open_version, partial(_make_lost_error, tools, told, "the URL of a version's own")
        if opener is None:
            return made

        def open_version(version: str) -> Any:
            try:
                return Boundary(opener(version), lost, {}, {"look": report_unmeasured})
            except BackoutError:
                raise
            except Exception as error:
                raise lost(error) from error

        return replace(made, open_version=open_version)

    parts = tools.parts
    late = Parts(
        incident=Late(lambda: wrap(parts.incident(), "incident")),
        guard=Late(lambda: wrap(parts.guard(), "guard")),
        rollback=Late(wrap_rollback),
        recovery=Late(lambda: wrap(parts.recovery(), "recovery")),
        safety=Late(lambda: wrap(parts.safety(), "safety")),
        platform=Late(lambda: wrap(parts.platform(), "platform")),
    )
    return replace(wrap(tools, ""), parts=late)


class Boundary:
    """Stands in for an adapter with all of its methods; they raise only BackoutError.

    Args:
        lost: reports an exception, and returns the one to raise in its place.
        checks: by method, raise ValueError for an impossible value.
        instead: by method, return the value for "no answer" where the port never raises.
    """

    def __init__(
        self,
        inner: object,
        lost: Callable[[Exception], ProviderUnavailable],
        checks: Mapping[str, Callable[[Any], object]],
        instead: Mapping[str, Callable[[Any], object]],
    ) -> None:
        self._inner = inner
        self._lost = lost
        self._checks = checks
        self._instead = instead

    def __getattr__(self, name: str) -> object:
        try:
            found = getattr(self._inner, name)
        except (BackoutError, AttributeError):
            raise
        except Exception as error:
            raise self._lost(error) from error
        if not callable(found):
            return found
        check, instead = self._checks.get(name), self._instead.get(name)
        lose = self._lost  # `self` in `call` would be a circle, and connections would stay open until it is found

        def call(*args: object, **named: object) -> object:
            try:
                value = found(*args, **named)
                if check is not None:
                    check(value)
            except BackoutError:
                raise
            except Exception as error:
                lost = lose(error)
                if instead is None:
                    raise lost from error
                return instead(lost.what)
            return value

        self.__dict__[name] = call
        return call


def _make_lost_error(tools: Toolbox, told: set[str], words: str, error: Exception) -> ProviderUnavailable:
    """Say what an adapter raised, once for each kind and place, and return the error that is raised in its place."""
    kind, place = type(error).__name__, _find_place(error)
    what = f"{words} returned something that backout cannot handle ({kind} at {place})"
    if what not in told:
        told.add(what)
        said = tools.incident.redact(str(error).partition("\n")[0])[:200]
        mistake = f"a mistake in backout itself: {words} raised {kind} at {place} ({said})"
        tools.say(f"{mistake}; it counts as no answer")
    return ProviderUnavailable(what, hint="the same command with -v shows where")


def _find_place(error: Exception) -> str:
    """Return FILE:LINE of the innermost line of ours, or else of any code."""
    place, trace = "an unknown place", error.__traceback__
    while trace is not None:
        path = Path(trace.tb_frame.f_code.co_filename)
        if "backout" in path.parts or place == "an unknown place":
            place = f"{path.name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _check_page(page: CountsPage) -> None:
    if not 0 <= page.complete_until <= LATEST:
        raise ValueError("the counts reach to an impossible time")
    for row in page.counts:
        if not 0 <= row.second <= LATEST or not 0 <= row.canceled <= MOST or not 0 <= row.chosen <= MOST:
            raise ValueError("counts of an impossible second")
        _check_counts((row, *row.routes.values()))
        _check_left(row)
        for found in row.triggers.values():
            if not 0 <= found.failed <= found.runs <= MOST:
                raise ValueError("impossible runs of a schedule or a queue")


def _check_counts(parts: Iterable[Counts | RouteCounts]) -> None:
    for part in parts:
        if not 0 <= part.errors <= part.requests <= MOST:
            raise ValueError("impossible counts")
        if sum(part.classes.values()) > part.requests - part.errors or not all(map(_is_number, part.classes.values())):
            raise ValueError("impossible classes of answers")
        sizes = part.sizes.values() if isinstance(part, RouteCounts) else ()
        if not all(map(_is_number, (part.started, *sizes))):
            raise ValueError("impossible counts")
        for bucket, number in part.latency.items():
            if not 0 <= bucket < BUCKETS or not 0 <= number <= MOST:
                raise ValueError("impossible response times")


def _check_left(row: Counts) -> None:
    waits = [each for found in row.left.values() for each in found.items()]
    if not all(0 <= bucket < BUCKETS and _is_number(number) for bucket, number in waits):
        raise ValueError("impossible response times")
    if sum(number for _, number in waits) > row.canceled:
        raise ValueError("impossible counts")


def _is_number(number: int) -> bool:
    return 0 <= number <= MOST
