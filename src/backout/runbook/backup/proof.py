"""Prove the backups: restore the newest one beside the live database, to the end of the WAL, and read all of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.errors import BackoutError
from backout.model.database.backups import BackupProof
from backout.model.database.recovery import PROOF, find_place
from backout.model.database.wal import show_lsn
from backout.model.steps.restore import SideStep
from backout.model.value import Value
from backout.runbook.recovery.restore import plan_side
from backout.runbook.recovery.steps.side import make_order

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.model.database.recovery import BaseBackup, SideOrder
    from backout.model.plan import Json, Plan
    from backout.runbook.recovery.tools import RestoreTools

PROVED = "database.backup.proved"
PROOF_FAILED = "database.backup.proof_failed"


class ProofPlan(Value, frozen=True):
    """What to restore, and why."""

    plan: Plan
    order: SideOrder


def prove_backup(
    tools: RestoreTools, progress: Callable[[str, int, int], None], told: Callable[[str], None]
) -> BackupProof:
    """Restore the newest backup to the end of the WAL, read every row of every database, remove it, and record it.

    Args:
        told: is told why it failed, once that is recorded; that no restore is possible is a failure like any other.

    Raises:
        BackoutError: it cannot be restored or read.
    """
    at = tools.clock.now()
    try:
        return _prove(tools, plan_proof(tools), progress)
    except Exception as error:  # whatever the error, nothing was proved
        why = error.what if isinstance(error, BackoutError) else f"it ended with {type(error).__name__}"
        newest = max((each.id for each in _list_backups(tools)), default="")
        _note(tools, PROOF_FAILED, {"backup": newest, "why": why, "at": max(at, tools.clock.now())})
        told(why)
        raise


def _list_backups(tools: RestoreTools) -> Sequence[BaseBackup]:
    try:
        return tools.backups.backups()
    except BackoutError:
        return ()


def plan_proof(tools: RestoreTools) -> ProofPlan:
    """Return what a proof restores: the newest base on the way to the end of the WAL. Raises as `plan_side` does."""
    place = Path(find_place(PROOF, str(tools.kept.parent)))  # leftovers of a proof that was killed are replaced
    plan = plan_side(tools, "latest", place=place)
    # Unpacked again: a base already unpacked here says nothing about what is stored.
    return ProofPlan(plan, replace(make_order(plan.arguments(SideStep)), name=PROOF, place=str(place)))


def _prove(tools: RestoreTools, wanted: ProofPlan, progress: Callable[[str, int, int], None]) -> BackupProof:
    order, began_at = wanted.order, tools.clock.now()
    tools.sides.drop(order.name)  # left by a proof that was killed: it says nothing about what is stored now
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
    _note(tools, PROVED, make_record(proof))
    return proof


def make_record(proof: BackupProof) -> dict[str, Json]:
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
