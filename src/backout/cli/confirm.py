"""Questions that only a person may answer; without a terminal nothing is ever taken for a yes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import DecisionNeeded, Refused

if TYPE_CHECKING:
    from backout.cli.shell import Shell
    from backout.config import Config


def confirm(shell: Shell, config: Config, action: str, *, message: str | None, typed: str | None) -> str:
    """Get the go-ahead for `action` ("roll back to 3f2a") and return the reason for it.

    A protected environment wants a reason and its own name typed (or `--confirm NAME`); `--yes` is not enough.
    Another one wants y, or `--yes`.

    Args:
        message: what -m gave. typed: what --confirm gave.

    Raises:
        DecisionNeeded: nobody was there to ask, or the answer was no. Refused: --confirm names another environment.
    """
    name = config.name
    if typed is not None and typed != name:
        raise Refused(f"--confirm names {typed!r}, but this is {name}", where=f"environment {name}", rule="1 identity")
    if not config.protected:
        if typed is None:
            ask(shell, f"{action[:1].upper()}{action[1:]} on {name}?", flag="--yes")
        return shell.masked(message or f"{action} (no reason given)")
    reason = message or _read(shell, "Why? (goes into the report) ", f"{name} wants a reason", '-m "WHY"')
    if not reason.strip():
        raise DecisionNeeded(f"{name} wants a reason", hint='add -m "WHY"')
    if typed is None:
        question = f"Type {shell.output.talk.strong(name)} to {action}: "
        answer = _read(shell, question, f"to {action} on {name} needs a person's confirmation", f"--confirm {name}")
        if answer != name:
            raise DecisionNeeded(f"not confirmed: {answer!r} is not {name!r}; nothing was changed")
    return shell.masked(reason.strip())


def ask(shell: Shell, question: str, *, flag: str) -> None:
    """Return when the answer is yes (or `--yes` was given).

    Raises:
        DecisionNeeded: the answer is no, or nobody was there to ask; `flag` is what answers it beforehand.
    """
    if shell.flags.yes:
        return
    if _read(shell, f"{question} [y/N] ", question.rstrip("?"), flag).lower() not in {"y", "yes"}:
        raise DecisionNeeded("the answer was no; nothing was changed")


def _read(shell: Shell, question: str, what: str, flag: str) -> str:
    if not shell.interactive:
        raise DecisionNeeded(f"{what}, and nobody is here to ask; nothing was changed", hint=f"add {flag}")
    shell.output.prompt(question)
    return shell.stdin.readline().strip()
