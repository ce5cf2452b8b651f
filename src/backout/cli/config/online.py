"""`backout config check --online`: the configuration compared with the systems it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import asdict

from backout.cli.support.style import Tone
from backout.model.checkup import CheckState
from backout.model.clock import describe_offset
from backout.report.times import format_time
from backout.runbook.incident.online_check import OnlineCheck, check_online
from backout.runbook.safety.token import describe_worth
from backout.wiring.identity import make_identities
from backout.wiring.toolbox import make_toolbox

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.model.token import TokenState


def ask_online(config: Config) -> OnlineCheck:
    """Query everything that the chosen environment depends on. Raises AuthError, UsageError as `make_toolbox`."""
    return check_online(make_toolbox(config), make_identities(config))


def make_record(found: OnlineCheck) -> dict[str, object]:
    """Return it as JSON values."""
    there = {} if found.found is None else asdict(found.found)
    return {
        "identity": {name: {"pinned": mine, "found": there.get(name)} for name, mine in asdict(found.pinned).items()},
        "tokens": None if found.tokens is None else [_make_token_record(state) for state in found.tokens],
        "clock_offset_s": found.clock_offset_s,
        "reachable": {name: {"answers": not why, "problem": why or None} for name, why in found.reachable.items()},
        "health_version": None
        if found.health_version is None
        else {"state": found.health_version.state, "why": found.health_version.why},
        "findings": [{"exit_code": code, "text": text} for code, text in found.findings],
    }


def format_lines(found: OnlineCheck, shell: Shell) -> list[str]:
    """Return it for a person."""
    from backout.cli.support.paint import paint_for
    from backout.report.text import format_fields

    style = shell.output.style
    there = {} if found.found is None else asdict(found.found)
    rows = [(name, _describe_identity(mine, there.get(name))) for name, mine in asdict(found.pinned).items()]
    rows += [(_describe_role(state), describe_worth(state)) for state in found.tokens or ()]
    rows.append(("clock", "not measured" if found.clock_offset_s is None else describe_offset(found.clock_offset_s)))
    rows += [(name, why or "answers") for name, why in found.reachable.items()]
    if found.health_version is not None and found.health_version.state is not CheckState.MISSING:
        rows.append(("health version", found.health_version.why))
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
