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


def _look_at_secrets(shell: Shell, target: str | None, *, ask_source: bool) -> SecretsLook:
    from backout.runbook.secrets.secrets import look_at_secrets
    from backout.wiring.hooks import Hooks

    tools = shell.toolbox(shell.config(), Hooks(say=shell.output.warn))
    return look_at_secrets(tools, target, ask_source=ask_source)


@command(
    "list",
    short_help="List the names: expected, present, set by backout, changed.",
    epilog="""
Examples:
  backout secrets list -e production
  backout secrets list -e production --ask-source     # is the vault's value the one that was set?
""",
)
@argument("target", required=False)
@option("--ask-source", is_flag=True, help=ASK)
@pass_shell
def list_(shell: Shell, *, target: str | None, ask_source: bool) -> int:
    """List the names of the secrets: who expects each, whether it is there, and what changed.

    TARGET is the version to compare with (id, number, tag, time); default: the one a rollback would return to.
    """
    from backout.report.secrets import format_heading, format_row, list_headers, make_secrets_record
    from backout.wiring import clock

    found = _look_at_secrets(shell, target, ask_source=ask_source)
    out = shell.output
    now = clock.now()
    rows = [format_row(found, state, now) for state in found.states]
    table = out.table(list_headers(found), rows, flexible=2) if rows else "no secrets, and none expected"
    out.result("secrets", make_secrets_record(found), f"{_format_head(shell, format_heading(found))}\n\n{table}")
    _show_next(shell, found)
    return 0


@command(
    "check",
    short_help="Show what is missing, now and after a rollback.",
    epilog="""
Examples:
  backout secrets check -e production                 # exit 1 when something is missing
""",
)
@argument("target", required=False)
@option("--ask-source", is_flag=True, help=ASK)
@pass_shell
def check(shell: Shell, *, target: str | None, ask_source: bool) -> int:
    """Compare the expected names with those present, for what is live and for what a rollback would return to.

    Expected: the names of the sample file and of `secrets.required`, and those that the version to return to has.
    """
    from backout.report.secrets import format_heading, list_findings, make_secrets_record

    found = _look_at_secrets(shell, target, ask_source=ask_source)
    out = shell.output
    lines = [_format_head(shell, format_heading(found))]
    lines += [f"  {out.style.badge(text, Tone.BAD if wrong else Tone.WARN)}" for wrong, text in list_findings(found)]
    if not found.missing and not found.missing_in_target:
        there = len([state for state in found.states if state.live])
        lines.append(f"  {out.style.badge(f'nothing is missing: {there} of {there} names are there', Tone.GOOD)}")
    out.result("secrets", make_secrets_record(found), "\n".join(lines))
    _show_next(shell, found)
    return 1 if found.missing or found.missing_in_target else 0


def _format_head(shell: Shell, text: str) -> str:
    from backout.report.text import wrap_text

    return "\n".join(wrap_text(text, shell.output.style.width))


def _show_next(shell: Shell, found: SecretsLook) -> None:
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
