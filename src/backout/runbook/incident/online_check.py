"""`config check --online`: ask everything that an environment depends on, once, and change nothing (rules 1 to 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.checkup.service import check_health_version
from backout.errors import AuthError, BackoutError, ProviderUnavailable, Refused
from backout.model.checkup import CheckState
from backout.model.clock import describe_offset, is_off
from backout.model.value import Value
from backout.runbook.safety.clock import measure_clock_offset_s
from backout.runbook.safety.identity import MAY_BE_UNREADABLE
from backout.runbook.safety.token import check_tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.checkup import Check
    from backout.model.guard.signals import HealthReport
    from backout.model.identity import Identity
    from backout.model.token import TokenState
    from backout.ports import Identities, Traffic
    from backout.runbook.toolbox import Toolbox

_TRAFFIC_S = 60


class OnlineCheck(Value, frozen=True):
    """What was found.

    Args:
        found: who answered; None: the platform did not.
        tokens: None: they could not be looked at.
        reachable: {part: "" or why it does not answer}; only parts that are set up.
        health_version: whether the health endpoint says which version answers, None where it is not set up.
        findings: (exit code, sentence) of each thing that would stop backout: 3, 4, or 7 for what did not answer.
    """

    pinned: Identity
    found: Identity | None
    tokens: tuple[TokenState, ...] | None
    clock_offset_s: float | None
    reachable: dict[str, str]
    findings: tuple[tuple[int, str], ...]
    health_version: Check | None = None

    @property
    def exit_code(self) -> int:
        """The gravest finding: what cannot act at all before what must not act before what does not answer."""
        codes = {code for code, _ in self.findings}
        return next((code for code in (AuthError.exit_code, Refused.exit_code, 7) if code in codes), 0)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is worth knowing but stops nothing."""
        off = self.clock_offset_s is not None and is_off(self.clock_offset_s)
        found = [describe_offset(self.clock_offset_s or 0.0)] if off else []
        if self.health_version is not None and self.health_version.state is CheckState.MISSING:
            found.append(f"{self.health_version.why}: {self.health_version.next}")
        return tuple(found)


def check_online(tools: Toolbox, identities: Identities) -> OnlineCheck:
    """Return what answers, who it is, and what the tokens can do."""
    findings: list[tuple[int, str]] = []
    tokens = _check_tokens(tools, findings)
    found = _read_identity(identities.read, findings)
    for name, mine, other in tools.safety.pinned.differences(found) if found is not None else ():
        code = 7 if other is None and name in MAY_BE_UNREADABLE else Refused.exit_code
        findings.append((code, f"{name}: pinned {mine}, found {other or 'none'}"))
    report = tools.health.look() if tools.health is not None else None
    reachable = {name: why for name, why in _list_parts(tools, report) if why is not None}
    findings += [(7, f"{name} does not answer: {why}") for name, why in reachable.items() if why]
    named = None if report is None else check_health_version(report, _list_live(tools), acts=False)
    return OnlineCheck(
        tools.safety.pinned, found, tokens, measure_clock_offset_s(tools), reachable, tuple(findings), named
    )


def _list_live(tools: Toolbox) -> list[str] | None:
    """Return the versions that have traffic, None when the platform does not tell them."""
    try:
        newest = tools.deployments.history()[:1]
    except BackoutError:
        return None
    return [share.version for each in newest for share in each.shares if share.percentage > 0]


def _check_tokens(tools: Toolbox, findings: list[tuple[int, str]]) -> tuple[TokenState, ...] | None:
    try:
        check_tokens(tools, tools.policy.criteria.watch_s)
    except (AuthError, Refused) as error:
        findings.append((error.exit_code, error.what))
    try:
        return tools.safety.token.look() if tools.safety.token is not None else None
    except ProviderUnavailable as error:
        findings.append((error.exit_code, error.what))
        return None


def _read_identity(read: Callable[[], Identity], findings: list[tuple[int, str]]) -> Identity | None:
    try:
        return read()
    except BackoutError as error:
        findings.append((error.exit_code, error.what))
        return None


def _list_parts(tools: Toolbox, report: HealthReport | None) -> list[tuple[str, str | None]]:
    """Return (part, why it does not answer: "" when it does, None when it is not set up)."""
    now = int(tools.clock.now())
    traffic, schema = tools.traffic, tools.rollback.schema
    return [
        ("platform", _try_to_ask(tools.deployments.history)),
        ("health", None if report is None else "" if report.measured else str(report.reach)),
        ("traffic", None if traffic is None else _try_to_count(traffic, now)),
        ("database", None if schema is None else _try_to_ask(schema.read)),
    ]


def _try_to_count(traffic: Traffic, now: int) -> str:
    try:
        page = traffic.read(now - _TRAFFIC_S, now)
    except BackoutError as error:
        return error.what
    return "" if page.counts else "; ".join(sorted(page.unreadable))


def _try_to_ask(ask: Callable[[], object]) -> str:
    try:
        ask()
    except BackoutError as error:
        return error.what
    return ""
