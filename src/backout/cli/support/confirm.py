"""Questions that only a person may answer; without a terminal nothing ever counts as a yes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import DecisionNeeded, Refused
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.config import Config


def confirm(shell: Shell, config: Config, action: str, *, message: str | None, typed: str | None) -> str:
    """Get the go-ahead for `action` ("roll back to 3f2a") and return the reason for it.

    A protected environment needs a reason and its own name typed (or `--confirm NAME`); `--yes` is not enough. Others
    need y, or `--yes`.

    Args:
        message: what -m gave.
        typed: what --confirm gave.

    Raises:
        DecisionNeeded: no one was there to ask, or the answer was no.
        Refused: --confirm names another environment.
    """
    name = config.name
    if typed is not None and typed != name:
        raise Refused(
            f"--confirm names {typed!r}, but this is {name}", where=f"environment {name}", rule=SafetyRule.IDENTITY
        )
    if not config.protected:
        if typed is None:
            ask(shell, f"{action[:1].upper()}{action[1:]} on {name}?", flag="--yes")
        return shell.mask_reason(message or f"{action} (no reason given)")
    reason = message or _read(shell, "Why? (goes into the report) ", f"{name} needs a reason", '-m "WHY"')
    if not reason.strip():
        raise DecisionNeeded(f"{name} needs a reason", hint='add -m "WHY"')
    if typed is None:
        question = f"Type {shell.output.talk.strong(name)} to {action}: "
        answer = _read(shell, question, f"to {action} on {name} needs a person's confirmation", f"--confirm {name}")
        if answer != name:
            raise DecisionNeeded(f"not confirmed: {answer!r} is not {name!r}; nothing was changed")
    return shell.mask_reason(reason.strip())


def needs_answer(shell: Shell, config: Config, *, message: str | None, typed: str | None) -> bool:
    """Return whether `confirm` will ask a person something."""
    if config.protected:
        return message is None or typed is None
    return typed is None and not shell.flags.yes


def ask(shell: Shell, question: str, *, flag: str) -> None:
    """Return when the answer is yes (or `--yes` was given).

    Raises:
        DecisionNeeded: the answer is no, or no one was there to ask; `flag` answers it beforehand.
    """
    if shell.flags.yes:
        return
    if _read(shell, f"{question} [y/N] ", question.rstrip("?"), flag).lower() not in {"y", "yes"}:
        raise DecisionNeeded("the answer was no; nothing was changed")


def _read(shell: Shell, question: str, what: str, flag: str) -> str:
    if not shell.interactive:
        raise DecisionNeeded(f"{what}, and no one is here to ask; nothing was changed", hint=f"add {flag}")
    shell.output.prompt(question)
    return shell.stdin.readline().strip()
