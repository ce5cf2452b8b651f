"""The boundary around every adapter: whatever it raises leaves it as an error that its port promises.

What comes from outside is decoded where it comes in (`backout.decoding`). Should an adapter meet something that nobody
foresaw all the same, a watch that has to act must not end with it: of a source of counts, health or logs it is "source
lost", of the platform "no answer". It is no silence: the mistake is said, once for each place in the code.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from backout.errors import BackoutError, ProviderUnavailable
from backout.model.clock import LATEST
from backout.model.signals import BUCKETS, CountsPage, HealthReport, Reach, RouteCounts
from backout.runbook.marked import MarkedDeployments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from backout.model.signals import Counts
    from backout.runbook.toolbox import Toolbox

    Methods = Mapping[str, Mapping[str, Callable[[Any], object]]]

ADAPTERS: Final = {
    "deployments": "the platform's deployments",
    "versions": "the platform's versions",
    "secrets": "the platform's secrets",
    "triggers": "the platform's triggers",
    "token": "the look at the token",
    "identities": "the look at the identity",
    "provider_clock": "the provider's clock",
    "bundles": "the platform's code",
    "bundle_store": "the kept code",
    "traffic": "the source of counts",
    "health": "the health endpoint",
    "sender": "synthetic requests",
    "pairing": "paired probes",
    "logs": "the source of logs",
    "connections": "the database's connections",
    "schema": "the history of migrations",
    "migrations": "the migrations' files",
    "builds": "the pipeline",
    "vendors": "the vendors' status pages",
    "checkout": "the working copy",
    "deployer": "the deploy command",
    "points": "restore points",
    "notifier": "the channels",
    "dead_man": "the dead-man's switch",
    "cards": "the card",
}
"""The fields of a toolbox that lead outside, and what they are in words. The journal is ours, and has its own errors; a
hold that cannot be read counts as a hold, which the adapter says itself."""
MOST: Final = 2**53
"""No second of an application has more requests."""


def bounded(tools: Toolbox) -> Toolbox:
    """Return the toolbox with a boundary around each adapter that is set up."""

    def unmeasured(why: str) -> object:
        return HealthReport(tools.clock.now(), Reach.UNREADABLE, findings=(why,))

    checks: Methods = {"traffic": {"read": _check_page}}
    instead: Methods = {"health": {"look": unmeasured}, "sender": {"look": unmeasured}, "pairing": {"look": unmeasured}}
    told: set[str] = set()
    parts: dict[str, Any] = {}
    for name, words in ADAPTERS.items():
        inner = getattr(tools, name)
        inner = inner.raw if isinstance(inner, MarkedDeployments) else inner  # the toolbox reads the marks outside
        if inner is not None and not isinstance(inner, Boundary):
            lost = partial(_lost, tools, told, words)
            parts[name] = Boundary(inner, lost, checks.get(name, {}), instead.get(name, {}))
    return replace(tools, **parts)


class Boundary:
    """Stands in for an adapter and has all of its methods; what they raise is a BackoutError.

    Args:
        lost: says what was raised, and returns what is raised in its place. checks: by method, raise ValueError for a
            value that cannot be. instead: by method, return what stands for no answer where the port never raises.
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


def _lost(tools: Toolbox, told: set[str], words: str, error: Exception) -> ProviderUnavailable:
    """Say what an adapter raised, once for each kind and place, and return the error that is raised in its place."""
    kind, place = type(error).__name__, _place(error)
    what = f"{words} told something that backout cannot deal with ({kind} at {place})"
    if what not in told:
        told.add(what)
        said = tools.redact(str(error).partition("\n")[0])[:200]
        mistake = f"a mistake in backout itself: {words} raised {kind} at {place} ({said})"
        tools.say(f"{mistake}; it counts as no answer")
    return ProviderUnavailable(what, hint="the same command with -v shows where")


def _place(error: Exception) -> str:
    """Return FILE:LINE of the innermost line of ours, or of anybody's."""
    place, trace = "an unknown place", error.__traceback__
    while trace is not None:
        path = Path(trace.tb_frame.f_code.co_filename)
        if "backout" in path.parts or place == "an unknown place":
            place = f"{path.name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _check_page(page: CountsPage) -> None:
    if not 0 <= page.complete_until <= LATEST:
        raise ValueError("the counts reach to no time that can be")
    for row in page.counts:
        if not 0 <= row.second <= LATEST or not 0 <= row.canceled <= MOST:
            raise ValueError("counts of a second that cannot be")
        _check_counts((row, *row.routes.values()))
        for found in row.triggers.values():
            if not 0 <= found.failed <= found.runs <= MOST:
                raise ValueError("runs of a schedule or a queue that cannot be")


def _check_counts(parts: Iterable[Counts | RouteCounts]) -> None:
    for part in parts:
        if not 0 <= part.errors <= part.requests <= MOST:
            raise ValueError("counts that cannot be")
        if sum(part.classes.values()) > part.requests - part.errors or not all(map(_is_number, part.classes.values())):
            raise ValueError("classes of answers that cannot be")
        sizes = part.sizes.values() if isinstance(part, RouteCounts) else ()
        if not all(map(_is_number, (part.started, *sizes))):
            raise ValueError("counts that cannot be")
        for bucket, number in part.latency.items():
            if not 0 <= bucket < BUCKETS or not 0 <= number <= MOST:
                raise ValueError("response times that cannot be")


def _is_number(number: int) -> bool:
    return 0 <= number <= MOST
