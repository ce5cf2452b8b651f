"""A proof of the backups: the newest one is restored beside the live database, to the end of the WAL, and all read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backout.errors import BackoutError
from backout.model.backups import BackupProof
from backout.model.recovery import show_lsn
from backout.runbook.restore import plan_side
from backout.runbook.side_steps import order_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.model.plan import Json, Plan
    from backout.model.recovery import BaseBackup, SideOrder
    from backout.runbook.restore import RestoreTools

PROVED = "database.backup.proved"
PROOF_FAILED = "database.backup.proof_failed"
_NAME = "proof"
"""Of the instance: never one that somebody keeps. What a proof that was killed left is made anew."""


@dataclass(frozen=True, slots=True)
class ProofPlan:
    """What is to be restored, and why that."""

    plan: Plan
    order: SideOrder


def proof_of(
    tools: RestoreTools, progress: Callable[[str, int, int], None], told: Callable[[str], None]
) -> BackupProof:
    """Restore the newest backup to the end of the WAL, read every row of every database, remove it, and record it.

    Args:
        told: hears why it failed, once that is recorded: that no way leads there is a failure like any other.

    Raises:
        BackoutError: it cannot be restored or read.
    """
    at = tools.clock.now()
    try:
        return _prove(tools, plan_proof(tools), progress)
    except Exception as error:  # whatever it is, nothing was proved
        why = error.what if isinstance(error, BackoutError) else f"it ended with {type(error).__name__}"
        newest = max((each.id for each in _backups(tools)), default="")
        _note(tools, PROOF_FAILED, {"backup": newest, "why": why, "at": max(at, tools.clock.now())})
        told(why)
        raise


def _backups(tools: RestoreTools) -> Sequence[BaseBackup]:
    try:
        return tools.backups.backups()
    except BackoutError:
        return ()


def plan_proof(tools: RestoreTools) -> ProofPlan:
    """Return what a proof restores: the newest base on the way to the end of the WAL. Raises as `plan_side` does."""
    place = tools.kept.with_name("proof")
    plan = plan_side(tools, "latest", place=place)
    # Laid out anew: a base that lies unpacked here says nothing of what is stored.
    return ProofPlan(plan, replace(order_of(plan.step("db_side").args), name=_NAME, place=str(place)))


def _prove(tools: RestoreTools, wanted: ProofPlan, progress: Callable[[str, int, int], None]) -> BackupProof:
    order, began_at = wanted.order, tools.clock.now()
    tools.sides.drop(order.name)  # of one that was killed: that says nothing of what is stored now
    try:
        tools.sides.start(order, progress)
        tools.beside.promote(order.name)  # until then what unfinished transactions had locked cannot be read
        tools.say("reading every row of it")
        read = tools.beside.read_all(order.name)
    finally:
        tools.sides.drop(order.name)
    proof = BackupProof(
        at=tools.clock.now(),
        backup=order.backup,
        lsn=order.lsn,
        timeline=order.timeline,
        databases=len(read),
        tables=sum(each.tables for each in read),
        rows=sum(each.rows for each in read),
        took_s=tools.clock.now() - began_at,
    )
    _note(tools, PROVED, record_of(proof))
    return proof


def record_of(proof: BackupProof) -> dict[str, Json]:
    """Return a proof as JSON values, as the journal keeps it."""
    return {
        "at": proof.at,
        "backup": proof.backup,
        "lsn": show_lsn(proof.lsn),
        "timeline": proof.timeline,
        "databases": proof.databases,
        "tables": proof.tables,
        "rows": proof.rows,
        "took_s": round(proof.took_s, 1),
    }


def _note(tools: RestoreTools, kind: str, data: dict[str, Json]) -> None:
    tools.journal.note(tools.environment, kind, f"{kind}:{data['at']}", data, actor=tools.actor)
