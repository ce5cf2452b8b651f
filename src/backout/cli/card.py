"""`backout card`: one page of commands with real ids, for the day when backout itself is gone."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from backout.cli.support.by_hand import ByHand
from backout.cli.support.options import command, pass_shell
from backout.errors import Interrupted, Untrusted
from backout.report.times import format_time

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell


@command(
    "card",
    short_help="One page of commands for when backout itself is gone.",
    epilog="""
Examples:
  backout card -e production            # read it
  backout card -e production --write    # to [incidents] card of backout.toml
""",
)
@click.option("--write", is_flag=True, help="Also write it to its file; guard and rollback do that by themselves.")
@pass_shell
def card(shell: Shell, *, write: bool) -> None:
    """Print one page of wrangler, curl and psql commands, with ids read from the provider now.

    It says what is live, how to roll back, how to undo that, how to check whether it is well, and who to call. None of
    its commands needs backout or Python. When the page cannot be made, the last one is printed, if there is one; when
    only the journal cannot be read, the page is made from the provider and the last card. The error follows either.
    """
    hand = ByHand(shell)
    try:
        _print_new(shell, hand, write=write)
    except Interrupted:
        raise
    except Exception as error:
        if not _print_without_journal(shell, hand, error):
            _print_last(shell, hand)
        hand.add_to(error)
        raise


def _print_without_journal(shell: Shell, hand: ByHand, error: Exception) -> bool:
    """Print a card made from the provider alone, for when the journal is broken; return whether it was made."""
    from backout.analysis.history.going_back import WayBack
    from backout.journal.rows import JournalUnavailable
    from backout.report.incident.card import format_card
    from backout.runbook.incident.card import make_card
    from backout.runbook.incident.no_journal import replace_journal

    if not isinstance(error, JournalUnavailable) or hand.tools is None or shell.output.json:
        return False
    try:
        made = make_card(replace_journal(hand.tools, error))
        text = format_card(made)
    except Exception:  # noqa: BLE001 - whatever else is broken too, the last card is printed
        return False
    hand.ways = (WayBack(made.target, "as the card above has it"),) if made.target else ()
    shell.output.warn(
        "without the journal: this card knows what the provider and the last card tell, and no other mark"
    )
    shell.output.text(text.rstrip())
    return True


def _print_last(shell: Shell, hand: ByHand) -> None:
    """Print the card that was written last, whatever else does not work."""
    path = hand.card()
    with contextlib.suppress(OSError):
        if path is not None and not shell.output.json:
            shell.output.text(path.read_text(encoding="utf-8", errors="replace").rstrip())


def _print_new(shell: Shell, hand: ByHand, *, write: bool) -> None:
    from backout.report.incident.card import format_card
    from backout.runbook.incident.card import make_card
    from backout.wiring.hooks import Hooks
    from backout.wiring.toolbox import make_toolbox

    hand.config = shell.config(in_need=True)
    hand.tools = tools = make_toolbox(hand.config, Hooks(hurried=True))
    made = make_card(tools)
    text = format_card(made)
    path, doubt = None, None
    try:
        path = tools.incident.cards.write(text) if write and tools.incident.cards is not None else None
    except Untrusted as error:  # it cannot be written there: it is shown
        doubt = error
    payload = {
        "environment": made.environment,
        "read_at": format_time(made.read_at),
        "live_version": made.live.main,
        "stable_version": made.stable or None,
        "target_version": made.target or None,
        "path": None if path is None else str(path),
        "markdown": text,
    }
    shell.output.result("card", payload, text.rstrip())
    if path is not None:
        shell.output.say(f"written to {path}")
    if doubt is not None:
        raise doubt
