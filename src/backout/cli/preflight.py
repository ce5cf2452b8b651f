"""`backout preflight`: before a deployment, whether it could be taken back."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from backout.cli.support.options import REASON, command, pass_shell
from backout.errors import UsageError

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.model.checkup import Checkup

MOST_LINES = 3


@command(
    "preflight",
    short_help="Before a deployment: could it be taken back?",
    epilog="""
Examples:
  backout preflight -e production
  backout preflight -e production --allow objects -m "no objects are touched"
  backout preflight -e production --fixes rollback-6d1f
  backout preflight -e production --summary "$GITHUB_STEP_SUMMARY"
""",
)
@click.option(
    "--allow", "allowed", multiple=True, metavar="CHECK", help="Go on although this check fails; needs -m, is recorded."
)
@click.option("--fixes", metavar="INCIDENT", default="", help="The deployment fixes this incident: only advise.")
@click.option("-m", "--message", type=REASON, metavar="WHY", help="The reason; recorded in the journal.")
@click.option("--format", "form", type=click.Choice(["text", "markdown"]), default="text", help="Default: text.")
@click.option("--summary", metavar="FILE", help="Append the result as Markdown.")
@click.option("--outputs", metavar="FILE", help="Append the result as name=value lines.")
@pass_shell
def preflight(
    shell: Shell,
    *,
    allowed: tuple[str, ...],
    fixes: str,
    message: str | None,
    form: str,
    summary: str | None,
    outputs: str | None,
) -> int:
    """Check before a deployment whether you could go back from it. Nothing is changed.

    It looks for a stable version to return to, migrations that the code now live would not survive, secrets that are
    missing, a backup that is too old, a hold, an unfinished run. What only should be there never fails. In an open
    incident, or for its fix (--fixes), it only advises.

    Exit codes: 0 ready, or only advice; 1 not ready; 7 something required did not answer.
    """
    from backout.cli.support.pages import append_to_file
    from backout.report.checkup import make_checkup_record
    from backout.report.guard.summary import format_output
    from backout.report.preflight import format_preflight_markdown, name_result
    from backout.wiring.checkup.preflight import run_preflight

    config, out = shell.config(), shell.output  # first: what is masked in a reason is known only then
    why = shell.mask_reason(message or "").strip()
    if allowed and not why:
        raise UsageError("--allow needs a reason", hint=f'backout preflight --allow {allowed[0]} -m "WHY"')
    found = run_preflight(config, allowed=allowed, fixes=shell.mask_reason(fixes), why=why, say=out.warn)
    page = format_preflight_markdown(_mask(shell, found), typed=out.complete_command)
    text = str(page).rstrip() if form == "markdown" else _format_text(shell, found, config.text, config.path.name)
    record = make_checkup_record(found) | {"result": name_result(found), "advice": found.advice or None}
    out.result("preflight", record, text)
    if summary:
        append_to_file(shell, summary, page, stands="the answer")
    if outputs:
        append_to_file(shell, outputs, format_output("result", name_result(found)), stands="the answer")
    out.next(*_list_next(found, allowed))
    return found.exit_code


def _mask(shell: Shell, found: Checkup) -> Checkup:
    """Return the checks masked one by one, before a page escapes them."""
    from msgspec.structs import replace

    redact = shell.redactor.redact
    return replace(found, checks=tuple(replace(each, why=redact(each.why)) for each in found.checks))


def _format_text(shell: Shell, found: Checkup, text: str, name: str) -> str:
    from backout.cli.support.paint import paint_for
    from backout.cli.support.style import Tone
    from backout.config.init.additions import rewrite_for_file
    from backout.report.preflight import format_preflight

    style = shell.output.style
    return format_preflight(
        found,
        style.width,
        badge=lambda role, word: style.badge(word, Tone(role)),
        paint=paint_for(style),
        typed=lambda line: rewrite_for_file(shell.output.complete_command(line), text, name),
    )


def _list_next(found: Checkup, allowed: tuple[str, ...]) -> list[str]:
    """Return what closes the first gaps, or how a person goes on in spite of them and of what is allowed already."""
    from backout.report.checkup import was_not_asked

    environment = shlex.quote(found.environment)
    if found.ready:
        return [f"backout guard -e {environment}  # after the deployment"]
    gaps = [check for check in found.checks if check.is_blocking]
    asked = [check for check in gaps if not was_not_asked(check)]
    lines = [line for check in asked for line in check.next.lines if line.startswith("backout ")]
    allowing = " ".join(f"--allow {name}" for name in dict.fromkeys((*allowed, *(check.name for check in gaps))))
    go_on = f"backout preflight -e {environment} {allowing} -m WHY  # to deploy all the same; recorded"
    return [*list(dict.fromkeys(lines))[:MOST_LINES], *([go_on] if gaps == asked and not found.advice else [])]
