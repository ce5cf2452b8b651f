"""What a recovery did, as a record, as lines and as the page of its report; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import field

from backout.escaping import Markdown, cell, code, join_parts, md
from backout.model.steps.recovery import RecoverReportStep
from backout.model.value import Value
from backout.report.times import format_day, format_duration, format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.plan import Json, Plan
    from backout.model.steps.recovery import LostRows, Part


class Recovered(Value, frozen=True):
    """What a recovery did, as its run recorded it; None: not, or not yet.

    Args:
        target: the moment as it was typed; at: in Unix seconds.
        losses: one sentence a part.
        began: when it was asked for; closed: since when users were not served; fenced: since when nobody wrote.
        opened: when the fence was taken away; live: when users were served again.
        rows: by table, how many rows of after the moment are only in the undo point now; without `lost` row versions.
        lost: the same rows by key, the first ones of each kind.
        objects: how many were changed, deleted or brought back.
        queued: by queue, how many messages waited: about rows that may be gone.
        decided: what people decided about the run, a line each.
        checked: sentences; accepted: those of them that a person has accepted although nothing, or worse, was shown.
        wrote: what one write of the application's role showed, before its target was proved.
        verified: of the success criteria.
        undo: the command that takes it back.
    """

    environment: str
    run: str
    actor: str
    why: str
    plan_hash: str
    target: str
    at: float
    parts: Mapping[str, Part]
    losses: Mapping[str, str]
    began: float
    closed: float | None = None
    fenced: float | None = None
    opened: float | None = None
    live: float | None = None
    version: str = ""
    undo_point: str = ""
    kept: str = ""
    rows: Mapping[str, int] | None = None
    lost: tuple[LostRows, ...] = ()
    objects: int | None = None
    queued: Mapping[str, int] = field(default_factory=dict)
    decided: tuple[str, ...] = ()
    checked: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()
    wrote: str = ""
    proved: str = ""
    verified: bool | None = None
    summary: str = ""
    not_covered: tuple[str, ...] = ()
    undo: str = ""
    report_path: str = ""

    @property
    def fenced_s(self) -> float | None:
        """For how long nobody could write to the database."""
        return None if self.fenced is None or self.opened is None else self.opened - self.fenced

    @property
    def rto_s(self) -> float | None:
        """How long it took until users were served again, from the command on."""
        end = self.live if self.live is not None else self.opened
        return None if end is None else end - self.began

    @property
    def seconds(self) -> float | None:
        """How far the moment lies before the last one at which something could be written."""
        end = self.fenced if self.fenced is not None else self.closed
        return None if end is None else max(0.0, end - self.at)


def make_record(found: Recovered) -> dict[str, Json]:
    """Return it as `backout.recover/1` has it."""
    lost: list[Json] = [each.to_json() for each in found.lost]
    accepted: list[Json] = [*found.accepted]
    parts: dict[str, Json] = {
        name: {**part.to_json(), "loss": found.losses.get(name)} for name, part in found.parts.items()
    }
    rows = None if found.rows is None else sum(found.rows.values())
    rpo: dict[str, Json] = {"rows": rows, "objects": found.objects, "seconds": found.seconds}
    return {
        "environment": found.environment,
        "run_id": found.run or None,
        "point": {"target": found.target, "at": format_time(found.at)},
        "plan_hash": found.plan_hash,
        "parts": parts,
        "fenced_s": found.fenced_s,
        "rto_s": found.rto_s,
        "rpo": rpo,
        "lost": lost or None,
        "accepted": accepted or None,
        "verified": found.verified,
        "undo": found.undo or None,
        "report_path": found.report_path or None,
    }


def make_plan_record(plan: Plan) -> dict[str, Json]:
    """Return what a dry run says, in the same shape; nothing is measured yet."""
    order = plan.arguments(RecoverReportStep)
    losses = {line.what: line.why for line in plan.coverage}
    return make_record(
        Recovered("", "", "", plan.why, plan.hash, order.target, order.at, order.parts, losses, began=order.at)
    )


def format_lines(found: Recovered) -> list[str]:
    """Return what was done, for a terminal; what an undo puts away lies beside, and its notes say so."""
    lines = [f"done: {found.why}"]
    lines += [f"{name}: {_describe_part(part)}" for name, part in found.parts.items()]
    if found.rows:
        told = ", ".join(f"{table} ({count:,})" for table, count in found.rows.items())
        where = found.kept or found.undo_point
        what = "rows" if found.lost else "row versions"
        lines.append(f"written since, and not there any more: {what} in {told}; readable in {where}")
    elif found.rows is None and found.undo_point and found.parts["database"].action == "swap":
        lines.append(f"which rows were written since, and are gone, is not known; they can be read in {found.kept}")
    lines += [*_list_queued(found), *found.decided, *found.checked]
    lines += [found.wrote] if found.wrote else []
    if found.proved:
        lines.append(f"at 0 %: {found.proved}")
    if found.fenced_s is not None:
        lines.append(f"nobody could write for {format_duration(found.fenced_s)}")
    if found.rto_s is not None:
        lines.append(f"RTO {format_duration(found.rto_s)}, from the command until users were served again")
    if found.seconds is not None:
        lines.append(f"RPO {format_duration(found.seconds)}: from the moment until the last write")
    lines += [f"criteria: {found.summary}"] if found.summary else []
    return lines


def _describe_part(part: Part) -> str:
    ends = f" {part.begins} -> {part.ends}" if part.begins and part.ends else f" {part.ends}".rstrip()
    return f"{part.action}{ends}"


def make_file_name(found: Recovered) -> str:
    """Return `YYYY-MM-DD-recovery-RUN.md`."""
    return f"{format_day(found.began)}-recovery-{found.run}.md"


def render(found: Recovered) -> Markdown:
    """Return the page of the report."""
    moments = (
        ("the moment that everything went back to", found.at),
        ("asked for", found.began),
        ("users are not served", found.closed),
        ("nobody writes to the database", found.fenced),
        ("the database is open again", found.opened),
        ("users are served again", found.live),
    )
    parts = [
        md("# {}: recovery to {}", found.environment, format_time(found.at)),
        md("Run {}, by {}: {}", code(found.run), found.actor, found.why),
        md("## Times"),
        join_parts([md("- {}: {}", format_time(at), name) for name, at in moments if at is not None]),
        md("## Parts"),
        join_parts(
            [
                md("| part | what was done | what it cost |"),
                md("|---|---|---|"),
                *(
                    md("| {} | {} | {} |", name, cell(_describe_part(part)), cell(found.losses.get(name, "")))
                    for name, part in found.parts.items()
                ),
            ]
        ),
        md("## What was found"),
        join_parts([md("- {}", line) for line in format_lines(found)[1 + len(found.parts) :]]),
        md("## What the outside world knows"),
        join_parts([md("- {}", line) for line in (*found.not_covered, *_list_queued(found))]),
        *([md("## Written after the moment"), join_parts(_list_lost(found))] if found.lost else []),
        md("Take it back: {}\n", code(found.undo)),
    ]
    return join_parts(parts, "\n\n")


def _list_lost(found: Recovered) -> list[Markdown]:
    """Return the rows that are only in the undo point now, by table and key."""
    lines = [md("They can be read in {}.\n", code(found.kept or found.undo_point))]
    for each in found.lost:
        kinds = (
            ("inserted", each.inserts, each.inserted),
            ("updated", each.updates, each.updated),
            ("deleted", each.deletes, each.deleted),
        )
        for kind, count, keys in kinds:
            if count:
                more = f" and {count - len(keys):,} more" if count > len(keys) else ""
                what = f"{count:,} rows {kind}"
                key = f", by {', '.join(each.key)}" if each.key else ", which has no key"
                lines.append(md("- {}: {}{}: {}{}", each.table, what, key, code("; ".join(keys)), more))
    return lines


def _list_queued(found: Recovered) -> list[str]:
    return [f"queue {name}: about {count:,} messages waited; none was removed" for name, count in found.queued.items()]
