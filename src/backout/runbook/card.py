"""The card: what a person needs when backout is gone, with ids that were read just now (safety rule 20)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from backout.analysis.going_back import last_stable
from backout.errors import BackoutError
from backout.model.card import Card
from backout.model.plan import Plan
from backout.plan.rollback import Request
from backout.report.card import card_text
from backout.runbook.rollback import prepare

if TYPE_CHECKING:
    from backout.runbook.toolbox import Toolbox


def card_of(tools: Toolbox) -> Card:
    """Return the card of what is live now. Raises as `observe` does, and Refused over a wrong identity."""
    situation, outcome = prepare(tools, Request(message="", wait=False))
    if isinstance(outcome, Plan):
        target, why = str(outcome.step("activate").args["version"]), outcome.notes[0]
        notes = tuple(note for note in outcome.notes[1:] if not note.startswith("not "))
    else:
        target, why, notes = "", outcome.reason, ()
    return Card(
        environment=situation.environment,
        read_at=situation.read_at,
        live=situation.live,
        stable=stable.version if (stable := last_stable(situation.marks, situation.failed_proofs)) else "",
        target=target,
        why=why[:1].upper() + why[1:],
        lines=tools.card_lines,
        notes=notes,
    )


def keep_card(tools: Toolbox) -> None:
    """Write the card anew. Whatever is in its way is said and changes nothing else."""
    if tools.cards is None:
        return
    try:
        tools.cards.write(card_text(card_of(tools)))
    except BackoutError as error:
        tools.say(f"the card was not renewed: {error}")
    except Exception as error:  # noqa: BLE001 - a page for later never ends what goes on now
        tools.say(f"the card was not renewed: {type(error).__name__}")


def keep_card_meanwhile(tools: Toolbox) -> threading.Thread:
    """Write the card anew beside what goes on; nothing waits for it."""
    thread = threading.Thread(target=keep_card, args=(tools,), name="backout-card", daemon=True)
    thread.start()
    return thread
