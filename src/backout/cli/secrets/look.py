"""`backout secrets list` and `check`: names against names; no value is ever read from the provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

from click import argument, option

from backout.cli.support.options import command, pass_shell
from backout.cli.support.style import Tone

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.cli.support.shell import Shell
    from backout.model.secrets import SecretsLook

    Decorated = Callable[..., int]

ASK = "Ask the configured source, too: does it hold each value, and the one that was set last?"


def _look(shell: Shell, target: str | None, *, ask_source: bool) -> SecretsLook:
    from backout.runbook.secrets.secrets import look
    from backout.wiring.hooks import Hooks

    tools = shell.toolbox(shell.config(), Hooks(say=shell.output.warn))
    return look(tools, target, ask_source=ask_source)


@command(
    "list",
    short_help="List the names: expected, present, set by backout, changed.",
    epilog="""
Examples:
  backout secrets list -e production
  backout secrets list -e production --ask-source     is the vault's value the one that was set?
""",
)
@argument("target", required=False)
@option("--ask-source", is_flag=True, help=ASK)
@pass_shell
def list_(shell: Shell, *, target: str | None, ask_source: bool) -> int:
    """List the names of the secrets: who expects each, whether it is there, and what changed.

    TARGET is the version to compare with (id, number, tag, time); default: the one a rollback would return to.
    """
    from backout.report.secrets import headers, heading, row, secrets_record
    from backout.wiring import clock

    found = _look(shell, target, ask_source=ask_source)
    out = shell.output
    now = clock.now()
    rows = [row(found, state, now) for state in found.states]
    table = out.table(headers(found), rows, flexible=2) if rows else "no secrets, and none expected"
    out.result("secrets", secrets_record(found), f"{_head(shell, heading(found))}\n\n{table}")
    _next(shell, found)
    return 0


@command(
    "check",
    short_help="Show what is missing, now and after a rollback.",
    epilog="""
Examples:
  backout secrets check -e production                 exit 1 when something is missing
""",
)
@argument("target", required=False)
@option("--ask-source", is_flag=True, help=ASK)
@pass_shell
def check(shell: Shell, *, target: str | None, ask_source: bool) -> int:
    """Compare the expected names with those present, for what is live and for what a rollback would return to.

    Expected: the names of the sample file and of `secrets.required`, and those that the version to return to has.
    """
    from backout.report.secrets import findings, heading, secrets_record

    found = _look(shell, target, ask_source=ask_source)
    out = shell.output
    lines = [_head(shell, heading(found))]
    lines += [f"  {out.style.badge(text, Tone.BAD if wrong else Tone.WARN)}" for wrong, text in findings(found)]
    if not found.missing and not found.missing_in_target:
        there = len([state for state in found.states if state.live])
        lines.append(f"  {out.style.badge(f'nothing is missing: {there} of {there} names are there', Tone.GOOD)}")
    out.result("secrets", secrets_record(found), "\n".join(lines))
    _next(shell, found)
    return 1 if found.missing or found.missing_in_target else 0


def _head(shell: Shell, text: str) -> str:
    from backout.report.text import wrap_text

    return "\n".join(wrap_text(text, shell.output.style.width))


def _next(shell: Shell, found: SecretsLook) -> None:
    if not found.missing:
        return
    environment, names = found.environment, " ".join(found.missing)
    if found.source:
        shell.output.next(f"backout secrets push {names} -e {environment}")
    else:
        shell.output.next(
            *(f"backout secrets put {name} -e {environment}" for name in found.missing[:3]),
            f"backout secrets push {names} -e {environment} --from-file FILE",
        )
