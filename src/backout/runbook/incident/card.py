"""The card: what a person needs when backout is gone, with ids read just now (safety rule 20)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.analysis.history.going_back import find_last_stable, select_newest_marks
from backout.analysis.history.remarks import merge_marks
from backout.errors import BackoutError
from backout.model.incident.card import Card
from backout.model.plan import Plan
from backout.model.steps.rollback import ActivateStep
from backout.plan.rollback import Request
from backout.report.incident.card import format_card
from backout.runbook.incident.no_journal import read_last_card
from backout.runbook.rollback.rollback import prepare

if TYPE_CHECKING:
    from backout.model.incident.card import CardLines
    from backout.model.version import VersionMark
    from backout.runbook.toolbox import Toolbox


def make_card(tools: Toolbox) -> Card:
    """Return the card of what is live now. Raises as `observe` does, and Refused for a wrong identity."""
    situation, outcome = prepare(tools, Request(message="", wait=False))
    if isinstance(outcome, Plan):
        target, why = outcome.arguments(ActivateStep).version, outcome.notes[0]
        notes = tuple(note for note in outcome.notes[1:] if not note.startswith("not "))
    else:
        target, why, notes = "", outcome.reason, ()
    return Card(
        environment=situation.environment,
        read_at=situation.read_at,
        live=situation.live,
        stable=stable.version if (stable := find_last_stable(situation.marks, situation.failed_proofs)) else "",
        target=target,
        why=why[:1].upper() + why[1:],
        lines=_add_node_lines(tools),
        marks=select_newest_marks(_add_last_card(tools, situation.marks)),
        failed_proofs=situation.failed_proofs,
        notes=notes,
    )


def _add_node_lines(tools: Toolbox) -> CardLines:
    """Return the lines of the card, with what a shell needs first where its Node is too old for wrangler."""
    lines, node = tools.incident.card_lines, tools.incident.lines_for_npx()
    if not node:
        return lines
    first, *more = lines.setup or ("",)
    return replace(lines, setup=("\n".join([*node, first]).rstrip(), *more))


def _add_last_card(tools: Toolbox, marks: tuple[VersionMark, ...]) -> tuple[VersionMark, ...]:
    """Return the marks with those of the last card: a journal that was started afresh no longer knows them."""
    kept = read_last_card(tools.incident.cards.path() if tools.incident.cards is not None else None).marks
    return merge_marks(kept, marks) if kept else marks


def keep_card(tools: Toolbox) -> None:
    """Renew the card. An obstacle is reported and changes nothing else."""
    if tools.incident.cards is None:
        return
    try:
        tools.incident.cards.write(format_card(make_card(tools)))
    except BackoutError as error:
        tools.say(f"the card was not renewed: {error}")
    except Exception as error:  # noqa: BLE001 - a page for later never ends what goes on now
        tools.say(f"the card was not renewed: {type(error).__name__}")


def keep_card_meanwhile(tools: Toolbox) -> threading.Thread:
    """Renew the card in the background; nothing waits for it."""
    thread = threading.Thread(target=keep_card, args=(tools,), name="backout-card", daemon=True)
    thread.start()
    return thread
