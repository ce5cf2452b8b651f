"""What TARGET becomes at a vendor, by what the vendor takes and what the live catalog tells; and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from backout.errors import Refused, UsageError
from backout.model.database.branch import BranchTarget, SideBranch, name_point_branch
from backout.model.database.capability import Granularity, VendorState, VendorWay
from backout.model.database.recovery import DropClue, MigrationClue, RestorePoint
from backout.model.incident.incident import Event
from backout.plan.branches import Treatment
from backout.providers.memory import WorldClock
from backout.runbook.recovery.branch_points import BranchMarker
from backout.runbook.recovery.managed import BranchTools, find, plan_rescue, plan_side, plan_swap, plan_undo
from backout.runbook.recovery.restore import mark_point
from backout.runbook.recovery.tools import RestoreTools

NOW = 1_795_608_000.0  # 2026-11-25T12:00:00Z


@dataclass
class Catalog:
    """A live database of which only the catalog is asked."""

    commits: dict[int, float] = field(default_factory=dict)
    changes: tuple[float, ...] = ()
    clue: MigrationClue | None = None
    drops: DropClue = field(default_factory=lambda: DropClue(exists=True, xids=(70, 77)))

    def find_commit_time(self, xid: int) -> float | None:
        return self.commits.get(xid)

    def schema_changes(self, since: float, until: float) -> tuple[float, ...]:
        return tuple(each for each in self.changes if since <= each <= until)

    def find_migration(self, name: str) -> MigrationClue | None:
        return self.clue if name == "1_split" else None

    def find_drop(self, relation: str) -> DropClue:
        return self.drops if relation == "users" else DropClue(exists=False)

    def mark(self, name: str) -> RestorePoint:
        return RestorePoint(name, 255, 1, 80, NOW - 60.5, "")


@dataclass
class Notes:
    """A journal of notes alone."""

    kept: list[Event] = field(default_factory=list)

    def note(self, environment: str, kind: str, key: str, data: dict[str, Any], *, actor: str) -> Event:
        made = Event(len(self.kept), NOW, environment, key, None, kind, data, actor)
        self.kept.append(made)
        return made

    def events(self, *, environment: str, kind: str) -> tuple[Event, ...]:
        return tuple(each for each in self.kept if each.kind == kind)


@dataclass
class Offering:
    """A vendor who offers these ways."""

    ways: tuple[VendorWay, ...]
    problem: str = ""
    kept: tuple[SideBranch, ...] = ()

    def branches(self) -> tuple[SideBranch, ...]:
        return self.kept

    def capabilities(self) -> VendorState:
        return VendorState("acme", answers=not self.problem, problem=self.problem, ways=self.ways)


def way(granularity: Granularity, **more: Any) -> VendorWay:
    given = {"in_place": False, "keeps_old": True, "earliest": NOW - 3600, "latest": NOW, **more}
    return VendorWay("branch", granularity, **given)


def tools(
    live: Catalog, *ways: VendorWay, problem: str = "", pooled: bool = False, kept: tuple[SideBranch, ...] = ()
) -> BranchTools:
    clock, port = WorldClock(NOW), Offering(ways, problem, kept)
    journal: Any = Notes()
    unused: dict[str, Any] = dict.fromkeys(
        (
            *("backups", "wal", "sides", "beside", "bases", "rescuer", "comparer", "copies", "kept"),
            *("tools_version", "free_bytes", "walker"),
        )
    )
    known: dict[str, Any] = {"environment": "lab", "actor": "test", "clock": clock, "journal": journal, "runs": journal}
    own = RestoreTools(**known, **unused, live=live, database="app")
    given: Any = port
    return BranchTools(own, given, given, given, lambda _branch: "", own.copies, pooled=pooled)


LSN, MICROSECOND, SECOND = (way(each) for each in (Granularity.LSN, Granularity.MICROSECOND, Granularity.SECOND))
AT = NOW - 100.25


@pytest.mark.parametrize(
    ("offered", "before", "after"),
    [
        (LSN, AT - 1e-6, AT),
        (MICROSECOND, AT - 1e-6, AT),
        (SECOND, NOW - 101, NOW - 100),
    ],
    ids=["lsn", "microsecond", "second"],
)
@pytest.mark.parametrize("text", ["77", "before drop of users.email"])
def test_a_transaction_becomes_the_moments_around_its_commit(
    offered: VendorWay, before: float, after: float, text: str
) -> None:
    """As exactly as the vendor takes them; the newest drop of a column is meant."""
    _, moment = find(tools(Catalog(commits={77: AT}), offered), text)
    assert (moment.before, moment.after, moment.xid) == (BranchTarget(at=before), BranchTarget(at=after), 77)


def test_a_restore_point_goes_by_its_lsn_where_that_is_taken_else_by_its_time() -> None:
    """Of a moment it is not known what the damage was, so that nothing is behind it."""
    for offered, expected in ((LSN, BranchTarget(lsn=255)), (MICROSECOND, BranchTarget(at=NOW - 60.5 - 1e-6))):
        made = tools(Catalog(), offered)
        mark_point(made.own, "here")
        _, moment = find(made, "here")
        assert (moment.before, moment.after) == (expected, None)
    with pytest.raises(Refused, match="takes no LSN"):
        find(tools(Catalog(), MICROSECOND), "0/FF")


def test_a_restore_point_from_before_the_window_is_refused_although_it_has_a_position() -> None:
    """Its time is known; the vendor's own answer to the position would come when the branch is made."""
    late = way(Granularity.LSN, earliest=NOW - 60)
    made = tools(Catalog(), late)
    mark_point(made.own, "here")
    with pytest.raises(Refused, match="out of the vendor's window"):
        find(made, "here")


def test_a_swap_of_a_branch_that_the_vendor_does_not_put_in_place_is_refused_with_its_reason() -> None:
    """And with what to do instead; a way that is there for other branches alone is none."""
    closed = way(Granularity.LSN, in_place=True, missing="main is a child branch")
    with pytest.raises(Refused, match="main is a child branch") as refused:
        plan_swap(tools(Catalog(), LSN, closed), "10 minutes ago")
    assert "backout db restore '10 minutes ago'" in refused.value.options[0]


@pytest.mark.parametrize(
    ("live", "before", "after", "ended"),
    [
        (Catalog(clue=MigrationClue(9, "r", AT, AT + 2)), AT - 1e-6, AT + 3, 9),
        (Catalog(clue=MigrationClue(9, "r", AT, AT + 2), commits={9: AT + 2.5}), AT - 1e-6, AT + 2.5, 9),
        (
            Catalog(clue=MigrationClue(9, "r", AT, AT + 2), commits={9: AT + 2.5}, changes=(AT + 1, AT + 1.5)),
            *(AT + 1 - 1e-6, AT + 1.5, None),
        ),
        (Catalog(clue=MigrationClue(9, "r"), commits={9: AT}), AT - 1e-6, AT, None),
    ],
    ids=["its row alone", "the row's commit", "the schema's changes", "a row in the same transaction"],
)
def test_a_migration_becomes_the_moments_around_its_script(
    live: Catalog, before: float, after: float, ended: int | None
) -> None:
    """The closer, the more the live catalog tells."""
    look, moment = find(tools(live, LSN), "before migration 1_split")
    assert (moment.before.at, moment.after, moment.ended) == (before, BranchTarget(at=after), ended)
    assert (look.no_migration, moment.migration) == ("1_split", "1_split")


def test_a_migration_that_did_not_end_is_a_moment_alone() -> None:
    """Its script was rolled back, or it runs still: there is nothing behind it."""
    made = tools(Catalog(clue=MigrationClue(9, "r", AT, None)), LSN)
    assert find(made, "before migration 1_split")[1].after is None
    with pytest.raises(Refused, match="does not say which transaction"):
        plan_rescue(made, "before migration 1_split", Treatment())


@pytest.mark.parametrize(
    ("made", "text", "says"),
    [
        (tools(Catalog(), LSN), "77", "track_commit_timestamp is off"),
        (tools(Catalog(), LSN), "before drop of users.email", "track_commit_timestamp is off"),
        (tools(Catalog(), LSN), "before drop of parcels", "nothing in the catalog tells"),
        (tools(Catalog(clue=MigrationClue(9, "r")), LSN), "before migration 1_split", "track_commit_timestamp is off"),
        (tools(Catalog(), LSN), "2026-11-25T09:00:00Z", "out of the vendor's window"),
        (tools(Catalog(), LSN), "2026-11-25T13:00:00Z", "in the future"),
        (tools(Catalog(), way(Granularity.SNAPSHOT)), "10 minutes ago", "goes back to no moment"),
        (tools(Catalog(), way(Granularity.LSN, missing="no history is kept")), "10 minutes ago", "no history is kept"),
        (tools(Catalog(), problem="it does not answer"), "10 minutes ago", "it does not answer"),
        (tools(Catalog(), way(Granularity.SECOND, in_place=True)), "10 minutes ago", "takes no moment"),
    ],
    ids=["xid", "drop", "table", "migration", "early", "future", "snapshots", "missing", "silent", "in place"],
)
def test_what_cannot_be_is_refused_with_the_way_that_is_open(made: BranchTools, text: str, says: str) -> None:
    """Before anything is made."""
    with pytest.raises(Refused, match=says):
        find(made, text)


class Copying:
    """A vendor whose branches are copies of the live one as it is."""

    def __init__(self) -> None:
        self.made: list[SideBranch] = []

    def restore(self, target: BranchTarget, name: str) -> SideBranch:
        assert target == BranchTarget()
        self.made.append(SideBranch(f"xb{len(self.made)}", name, ready=True, created_at=NOW - 90))
        return self.made[-1]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("here", "here"),
        ("90", "here"),  # a point knows the next id of its time, 80
        ("80", "here"),
        ("79", None),
        ("before migration 1_split", "here"),
        ("10 seconds ago", "here"),
        ("10 minutes ago", None),
        ("after-migration-x", None),
    ],
)
def test_where_no_moment_is_taken_the_newest_restore_point_before_it_is_meant(text: str, found: str | None) -> None:
    """A branch keeps it; the first point of a run alone has one. A rescue from one would take back others' writes."""
    vendor: Any = Copying()
    made = tools(Catalog(clue=MigrationClue(90, "r")), way(Granularity.SNAPSHOT))
    marker = BranchMarker(made.own.live, lambda: vendor)
    mark_point(made.own, "after-migration-x", marker)
    mark_point(made.own, "here", marker)
    mark_point(made.own, "later", marker)
    assert [branch.name for branch in vendor.made] == [name_point_branch("here")]
    port: Any = made.vendor
    port.kept = tuple(vendor.made)
    if found is None:
        with pytest.raises(Refused, match="goes back to no moment") as refused:
            find(made, text)
        assert "here" in refused.value.options[0]
        return
    _, moment = find(made, text)
    assert (moment.before, moment.after) == (BranchTarget(snapshot="xb0"), None)
    side = plan_side(made, text).steps[0]
    assert (side.args["snapshot"], side.args["at"], side.args["lsn"]) == ("xb0", None, None)
    assert "--at snapshot:xb0" in str(side.equivalent)
    with pytest.raises(Refused, match="take back what others wrote") as refused:
        plan_rescue(made, text, Treatment())
    assert "--side" in refused.value.options[0]
    port.kept = ()  # somebody deleted it
    with pytest.raises(Refused, match="no branch keeps a restore point"):
        find(made, text)


def test_bad_words_are_told_apart() -> None:
    """No target, no such migration, a table that lost nothing, nothing to undo."""
    made = tools(Catalog(drops=DropClue(exists=True)), LSN)
    for text in ("no-such-thing", "before migration none", "before drop of users.email"):
        with pytest.raises(UsageError):
            find(made, text)
    with pytest.raises(UsageError, match="could be undone"):
        plan_undo(made)


def test_a_pooler_and_a_vendor_without_a_finalize_are_refused() -> None:
    """A rescue holds a session; a swap is the vendor's own, or the binding's."""
    with pytest.raises(Refused, match="pooler"):
        plan_rescue(tools(Catalog(commits={77: AT}), LSN, pooled=True), "77", Treatment())
    with pytest.raises(Refused, match="has no call") as refused:
        plan_swap(tools(Catalog(), LSN), "10 minutes ago")
    assert any("Hyperdrive" in option for option in refused.value.options)
