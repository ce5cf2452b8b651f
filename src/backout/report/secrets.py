"""Secrets as JSON values and as words: names, times and fingerprints' verdicts; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.secrets import Since
from backout.report.times import format_ago, format_time

if TYPE_CHECKING:
    from backout.model.secrets import SecretsLook, SecretState

SHORT = 8
_SINCE = {
    Since.SAME: "the same",
    Since.CHANGED: "changed",
    Since.ADDED: "added",
    Since.GONE: "gone",
    Since.MAYBE: "maybe changed",
}
_SOURCE = {
    Since.SAME: "holds it",
    Since.CHANGED: "holds another value",
    Since.GONE: "lacks it",
    Since.MAYBE: "holds one",
}


def make_secrets_record(look: SecretsLook) -> dict[str, object]:
    """Return the look as JSON values."""
    return {
        "environment": look.environment,
        "live_version": look.live,
        "target_version": look.target or None,
        "target_why": look.target_why,
        "target_allowed": look.returns,
        "example": look.example or None,
        "source": look.source or None,
        "secrets": [_make_record(state) for state in look.states],
        "missing": list(look.missing),
        "missing_in_target": list(look.missing_in_target),
    }


def _make_record(state: SecretState) -> dict[str, object]:
    pushed = state.pushed
    return {
        "name": state.name,
        "expected_by": list(state.expected_by),
        "live": state.live or None,
        "target": state.target or None,
        "pushed": None
        if pushed is None
        else {
            "at": format_time(pushed.at),
            "version": pushed.version,
            "run_id": pushed.run,
            "by": pushed.by,
            "fingerprint": pushed.fingerprint,
        },
        "since_push": state.since_push,
        "since_target": state.since_target,
        "source": state.source,
    }


def list_headers(look: SecretsLook) -> tuple[str, ...]:
    """Return the heads of the table's columns."""
    heads = ["NAME", "LIVE", "EXPECTED BY", "SET BY BACKOUT", "SINCE THEN"]
    heads += [f"SINCE {look.target[:SHORT]}"] if look.target else []
    return (*heads, *(["THE SOURCE"] if _has_source(look) else []))


def format_row(look: SecretsLook, state: SecretState, now: float) -> tuple[str, ...]:
    """Return the columns of one name; `now` in Unix seconds."""
    names = {"example": look.example or "example", "required": "backout.toml", "target": look.target[:SHORT]}
    expected = [names[who] for who in state.expected_by if who in names and not (who == "target" and state.live)]
    pushed = format_ago(state.pushed.at, now) if state.pushed else "-"
    cells = [state.name, _describe_live(state), ", ".join(expected) or "-", pushed, _describe_since(state.since_push)]
    cells += [_describe_since(state.since_target)] if look.target else []
    return (*cells, *([_SOURCE[state.source] if state.source else "-"] if _has_source(look) else []))


def _describe_live(state: SecretState) -> str:
    if not state.live:
        return "MISSING"
    return "secret" if state.live.startswith("secret") else f"as {state.live}"


def _describe_since(since: Since | None) -> str:
    return _SINCE[since] if since else "-"


def _has_source(look: SecretsLook) -> bool:
    return any(state.source is not None for state in look.states)


def format_heading(look: SecretsLook) -> str:
    """Return what is compared, in one sentence."""
    why = look.target_why.removeprefix("no version may be returned to: ")
    why = why.removeprefix(f"version {look.target[:SHORT]}: ")
    if look.returns:
        target = f"a rollback would return to {look.target[:SHORT]}"
    elif look.target:
        target = f"compared with {look.target[:SHORT]}, to which no rollback returns now: {why}"
    else:
        target = f"there is nothing to return to: {why}"
    return f"{look.environment}: version {look.live[:SHORT]} is live; {target}"


def list_findings(look: SecretsLook) -> tuple[tuple[bool, str], ...]:
    """Return what a person has to know as (whether it is wrong, the sentence), problems first."""
    by_name = {state.name: state for state in look.states}
    found: list[tuple[bool, str]] = []
    for name in look.missing:
        who = [w for w, _ in _WHO if w in by_name[name].expected_by]
        words = " and ".join(dict(_WHO)[w].format(example=look.example, target=look.target[:SHORT]) for w in who)
        found.append((True, f"{name} is missing in the live version; {words}"))
    found += [
        (True, f"{name} is missing in version {look.target[:SHORT]}, and backout.toml requires it")
        for name in look.missing_in_target
    ]
    for since, words in (
        (Since.CHANGED, "changed since version {target}; a rollback to it asks which value is meant"),
        (Since.MAYBE, "may have changed since version {target}: another tool set a secret since"),
    ):
        names = [state.name for state in look.states if state.since_target is since]
        if names:
            found.append((False, f"{', '.join(names)}: {words.format(target=look.target[:SHORT])}"))
    differing = [state.name for state in look.states if state.source is Since.CHANGED]
    if differing:
        found.append((False, f"{', '.join(differing)}: {look.source} holds another value than was set last"))
    return tuple(found)


_WHO = (
    ("example", "{example} names it"),
    ("required", "backout.toml requires it"),
    ("target", "version {target} has it"),
)
