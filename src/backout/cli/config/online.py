"""`backout config check --online`: the configuration compared with the systems it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import asdict

from backout.cli.support.style import Tone
from backout.model.checkup import CheckState
from backout.model.clock import in_words
from backout.report.times import rfc3339
from backout.runbook.incident.contact import Contact, contact
from backout.runbook.safety.token import worth
from backout.wiring.identity import make_identities
from backout.wiring.toolbox import make_toolbox

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.model.token import TokenState


def make_contact(config: Config) -> Contact:
    """Query everything that the chosen environment depends on. Raises AuthError, UsageError as `make_toolbox`."""
    return contact(make_toolbox(config), make_identities(config))


def record(found: Contact) -> dict[str, object]:
    """Return it as JSON values."""
    there = {} if found.found is None else asdict(found.found)
    return {
        "identity": {name: {"pinned": mine, "found": there.get(name)} for name, mine in asdict(found.pinned).items()},
        "tokens": None if found.tokens is None else [_token_record(state) for state in found.tokens],
        "clock_offset_s": found.clock_offset_s,
        "reachable": {name: {"answers": not why, "problem": why or None} for name, why in found.reachable.items()},
        "health_version": None
        if found.health_version is None
        else {"state": found.health_version.state, "why": found.health_version.why},
        "findings": [{"exit_code": code, "text": text} for code, text in found.findings],
    }


def lines(found: Contact, shell: Shell) -> list[str]:
    """Return it for a person."""
    from backout.cli.support.paint import paint_for
    from backout.report.text import fields

    style = shell.output.style
    there = {} if found.found is None else asdict(found.found)
    rows = [(name, _identity(mine, there.get(name))) for name, mine in asdict(found.pinned).items()]
    rows += [(_role(state), worth(state)) for state in found.tokens or ()]
    rows.append(("clock", "not measured" if found.clock_offset_s is None else in_words(found.clock_offset_s)))
    rows += [(name, why or "answers") for name, why in found.reachable.items()]
    if found.health_version is not None and found.health_version.state is not CheckState.MISSING:
        rows.append(("health version", found.health_version.why))
    said = [style.badge(text, Tone.BAD) for _, text in found.findings]
    said += [style.badge(text, Tone.WARN) for text in found.warnings]
    return [*fields(rows, style.width, paint=paint_for(style)), *said]


def _identity(mine: str | None, found: str | None) -> str:
    if mine is None:
        return "not set up" if found is None else f"{found} (not pinned)"
    return mine if mine == found else f"pinned {mine}, found {found or 'none'}"


def _role(state: TokenState) -> str:
    return "token" if state.role == "all" else f"token ({state.role})"


def _token_record(state: TokenState) -> dict[str, object]:
    return {
        "role": state.role,
        "valid": state.valid,
        "status": state.status,
        "expires_at": None if state.expires_at is None else rfc3339(state.expires_at),
        "scopes": None if state.scopes is None else list(state.scopes),
    }
