"""The card: what a person needs when backout is gone, with ids that were read just now (safety rule 20)."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from backout.analysis.going_back import last_stable, newest_marks
from backout.analysis.remarks import merged
from backout.errors import BackoutError
from backout.model.card import Card
from backout.model.plan import Plan
from backout.plan.rollback import Request
from backout.report.card import card_text
from backout.runbook.no_journal import last_card
from backout.runbook.rollback import prepare

if TYPE_CHECKING:
    from backout.model.card import CardLines
    from backout.model.deployment import VersionMark
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
        lines=_with_node(tools),
        marks=newest_marks(_with_last_card(tools, situation.marks)),
        failed_proofs=situation.failed_proofs,
        notes=notes,
    )


def _with_node(tools: Toolbox) -> CardLines:
    """Return the lines of the card, with what a shell needs first where its Node is too old for wrangler."""
    lines, node = tools.card_lines, tools.lines_for_npx()
    if not node:
        return lines
    first, *more = lines.setup or ("",)
    return replace(lines, setup=("\n".join([*node, first]).rstrip(), *more))


def _with_last_card(tools: Toolbox, marks: tuple[VersionMark, ...]) -> tuple[VersionMark, ...]:
    """Return the marks with those of the last card: a journal that was begun anew does not know them any more."""
    kept = last_card(tools.cards.path() if tools.cards is not None else None).marks
    return merged(kept, marks) if kept else marks


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
