"""`backout config check --online`: the configuration compared with the systems it names; a view of the checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import asdict

from backout.analysis.checkup.views import PARTS, list_findings
from backout.cli.support.style import Tone
from backout.errors import AuthError, Refused, Unmeasured
from backout.model.checkup import CheckState
from backout.model.clock import describe_offset
from backout.model.value import Value
from backout.report.checkup import make_check_record
from backout.report.times import format_time
from backout.runbook.safety.token import describe_worth
from backout.wiring.checkup import run_online
from backout.wiring.identity import get_pinned_identity

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.model.checkup import Check, Checkup
    from backout.model.identity import Identity
    from backout.model.token import TokenState

_CODES = (AuthError.exit_code, Refused.exit_code, Unmeasured.exit_code)
"""What cannot act at all before what must not act before what does not answer."""


class Online(Value, frozen=True):
    """What was found.

    Args:
        identity: who answered; None: the platform did not.
        tokens: None: they could not be looked at.
    """

    checkup: Checkup
    pinned: Identity
    identity: Identity | None
    tokens: tuple[TokenState, ...] | None
    clock_offset_s: float | None

    @property
    def findings(self) -> tuple[tuple[int, str], ...]:
        """The exit code and sentence of each thing that would stop backout."""
        found = list_findings(self.checkup.checks)
        return tuple((code, f"{PARTS.get(each.name, each.name).replace('_', ' ')}: {each.why}") for code, each in found)

    @property
    def exit_code(self) -> int:
        """That of the gravest finding, 0 without one."""
        codes = {code for code, _ in self.findings}
        return next((code for code in _CODES if code in codes), 0)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is not as it has to be, but stops nothing."""
        stops = [check for _, check in list_findings(self.checkup.checks)]
        missing = (each for each in self.checkup.checks if each.state is CheckState.MISSING and each not in stops)
        return tuple(f"{each.name.replace('_', ' ')}: {each.why}: {each.next}" for each in missing)

    def find(self, name: str) -> Check | None:
        """Return a check that was made of something that is set up, None otherwise."""
        found = next((each for each in self.checkup.checks if each.name == name), None)
        return None if found is None or found.state is CheckState.NOT_SET_UP else found

    @property
    def reachable(self) -> dict[str, str]:
        """Of each part that is set up: "" or why it does not answer."""
        silent = {check.name: check.why for _, check in list_findings(self.checkup.checks)}
        return {part: silent.get(name, "") for name, part in PARTS.items() if self.find(name) is not None}


def ask_online(config: Config) -> Online:
    """Query everything that the chosen environment depends on. Raises AuthError, UsageError: it cannot be asked."""
    if config.environment.platform.is_cloudflare:
        config.token(), config.account_id
    checkup, facts = run_online(config)
    return Online(checkup, get_pinned_identity(config), facts.identity, facts.tokens, facts.clock_offset_s)


def make_record(found: Online) -> dict[str, object]:
    """Return it as JSON values."""
    there = {} if found.identity is None else asdict(found.identity)
    named = found.find("health_version")
    return {
        "identity": {name: {"pinned": mine, "found": there.get(name)} for name, mine in asdict(found.pinned).items()},
        "tokens": None if found.tokens is None else [_make_token_record(state) for state in found.tokens],
        "clock_offset_s": found.clock_offset_s,
        "reachable": {name: {"answers": not why, "problem": why or None} for name, why in found.reachable.items()},
        "health_version": None if named is None else {"state": named.state, "why": named.why},
        "findings": [{"exit_code": code, "text": text} for code, text in found.findings],
        "checks": [make_check_record(each) for each in found.checkup.checks],
    }


def format_lines(found: Online, shell: Shell) -> list[str]:
    """Return it for a person."""
    from backout.cli.support.paint import paint_for
    from backout.report.text import format_fields

    style = shell.output.style
    there = {} if found.identity is None else asdict(found.identity)
    rows = [(name, _describe_identity(mine, there.get(name))) for name, mine in asdict(found.pinned).items()]
    rows += [(_describe_role(state), describe_worth(state)) for state in found.tokens or ()]
    rows.append(("clock", "not measured" if found.clock_offset_s is None else describe_offset(found.clock_offset_s)))
    rows += [(name, why or "answers") for name, why in found.reachable.items()]
    named = found.find("health_version")
    if named is not None and named.state is not CheckState.MISSING:
        rows.append(("health version", named.why))
    said = [style.badge(text, Tone.BAD) for _, text in found.findings]
    said += [style.badge(text, Tone.WARN) for text in found.warnings]
    return [*format_fields(rows, style.width, paint=paint_for(style)), *said]


def _describe_identity(mine: str | None, found: str | None) -> str:
    if mine is None:
        return "not set up" if found is None else f"{found} (not pinned)"
    return mine if mine == found else f"pinned {mine}, found {found or 'none'}"


def _describe_role(state: TokenState) -> str:
    return "token" if state.role == "all" else f"token ({state.role})"


def _make_token_record(state: TokenState) -> dict[str, object]:
    return {
        "role": state.role,
        "valid": state.valid,
        "status": state.status,
        "expires_at": None if state.expires_at is None else format_time(state.expires_at),
        "scopes": None if state.scopes is None else list(state.scopes),
    }
