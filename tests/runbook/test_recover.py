"""A complete recovery on the memory World: code, database, objects and secrets back to one moment."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from recovery_story import (
    ASK,
    Night,
    NightCommits,
    check_closed,
    check_recovered,
    check_started,
    check_taken_back,
    recover,
    take_back,
)
from values import replace

from backout.errors import PartlyDone, ProviderUnavailable, Refused, UsageError, WorldMoved
from backout.model.database.fence import FenceOrder, FenceRole
from backout.model.incident.incident import RunState
from backout.model.incident.notice import NoticeKind
from backout.model.steps.recovery import OpenStep
from backout.model.version import Mark
from backout.ports import find_result
from backout.report.recovery import format_lines, make_record
from backout.runbook.incident.records import list_incidents
from backout.runbook.recover import deadline
from backout.runbook.recover.deadline import read_outage
from backout.runbook.recover.outcome import read_outcome
from backout.runbook.recover.prepare import RecoverAsk, prepare, skip_verification
from backout.runbook.recover.tools import RecoverTools
from backout.runbook.recover.undo import find_undoable, prepare_undo

from line import equip
from polling import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.model.plan import Plan

ORDER = [
    "db_side",
    "db_also_back",
    "recover_ready",
    "recover_maintenance",
    "recover_pause",
    "recover_fence",
    "recover_prove_fence",
    "recover_undo_point",
    "recover_fence_copy",
    "db_promote",
    "db_stop_server",
    "db_sequences",
    "db_exchange",
    "db_start_server",
    "restore_objects",
    "recover_place",
    "recover_restored",
    "recover_open",
    "recover_prove",
    "recover_go_live",
    "recover_resume",
    "verify",
    "recover_report",
]


@pytest.fixture
def night(quick_path: Path) -> Night:
    return Night(quick_path)


def actions(plan: Plan) -> list[str]:
    return [step.action for step in plan.steps]


def test_the_plan_has_the_order_that_loses_least(night: Night) -> None:
    """All that can precede the outage does; what was stopped last goes on first; the same plan a moment later."""
    plan = prepare(night.tools(), ASK)
    assert [each for each in actions(plan) if each in ORDER] == ORDER
    night.world.clock.sleep(5)
    assert prepare(night.tools(), ASK).hash == plan.hash, "what was approved is what runs"
    assert {line.what for line in plan.coverage} == {"code", "database", "objects", "secrets"}
    assert night.world.activations == []
    assert night.world.fence.live.mark is None


def test_everything_is_as_it_was(night: Night) -> None:
    """All four parts, with an application that writes whenever it is let in; told, reported, measured."""
    night.watch_application()
    run = recover(night.tools())
    night.stop_watching()
    check_recovered(night)
    box = night.tools().tools
    found = read_outcome(box, run)
    record = make_record(found)
    assert found.verified is True
    assert found.rows is not None
    assert set(found.rows) == {"public.orders"}
    secrets = {"action": "set", "from": "missing", "to": "JWT_SECRET", "loss": found.losses["secrets"]}
    assert record["parts"]["secrets"] == secrets  # type: ignore[index,call-overload]
    assert (found.queued, found.objects) == ({"orders": 3}, 6)
    assert box.marks.find_mark("production", night.bad.id, Mark.QUARANTINED) is not None
    assert night.world.notices[-1].kind is NoticeKind.ROLLED_BACK
    (page,) = night.world.reports.texts.values()
    assert "## What the outside world knows" in page
    assert read_outage(box, shows_page=False) is None
    unread = "\n".join(format_lines(replace(found, rows=None, lost=())))
    assert f"is not known; they can be read in {found.kept}" in unread, "not counted is not nothing"


def test_it_is_taken_back_to_the_moment_of_its_fence(night: Night) -> None:
    """The rows of between, the objects, the version of before; and what was written since stays in a folder."""
    recover(night.tools())
    rows = night.server.rows()
    assert night.server.write()
    undone = take_back(night.tools())
    assert undone is not None
    check_taken_back(night)
    assert rows != night.server.rows()
    with pytest.raises(UsageError, match="no recovery to take back"):
        find_undoable(night.tools())


def fail_before(name: str) -> Callable[[str], None]:
    """Return what fails each call of that name."""

    def fail(called: str) -> None:
        if called == f"before {name}":
            raise ProviderUnavailable(f"{name} failed")

    return fail


def test_an_undo_that_fails_opens_nothing_of_what_it_takes_back(night: Night) -> None:
    """The database is exchanged, the objects are not; giving up the undo would let users at that."""
    night.watch_application(fail_before("objects.carry_out"))
    with pytest.raises(PartlyDone):
        recover(night.tools())
    check_closed(night)
    night.watch_application(fail_before("fence.prove"))
    with pytest.raises(PartlyDone):
        take_back(night.tools())
    check_closed(night)
    night.watch_application()
    take_back(night.tools())
    night.stop_watching()
    check_taken_back(night)
    assert read_outage(night.tools().tools, shows_page=False) is None, "neither run has anything closed"


def test_the_same_moment_is_returned_to_again(night: Night) -> None:
    """What was recovered was damaged again: it has the code of then already, and that code is not bad."""
    recover(night.tools())
    night.bucket.delete("k0")
    run = recover(night.tools())
    assert run.state is RunState.DONE
    assert night.world.builds[night.world.live.main].version.code_hash == night.good.code_hash
    assert night.bucket.live() == night.then
    box = night.tools().tools
    assert box.marks.find_mark("production", night.good.id, Mark.QUARANTINED) is None


def test_code_alone_is_taken_back_too(night: Night) -> None:
    """It has overwritten nothing, and moved every user."""
    recover(night.tools(), replace(ASK, only=("code", "secrets")))
    assert night.world.builds[night.world.live.main].version.code_hash == night.good.code_hash
    assert take_back(night.tools()) is not None
    assert night.world.builds[night.world.live.main].version.code_hash == night.bad.code_hash
    check_started(night)


@pytest.mark.parametrize(
    ("only", "steps", "absent"),
    [
        (("objects",), {"restore_objects", "recover_maintenance"}, {"recover_fence", "db_exchange"}),
        (("database",), {"recover_fence", "db_exchange"}, {"restore_objects"}),
        (("code", "secrets"), {"recover_place"}, {"recover_fence", "restore_objects"}),
    ],
)
def test_parts_alone(night: Night, only: tuple[str, ...], steps: set[str], absent: set[str]) -> None:
    """What is left out stays, and the plan says what will not fit together."""
    plan = prepare(night.tools(), replace(ASK, only=only))
    assert steps <= set(actions(plan))
    assert not absent & set(actions(plan))
    unfit = [note for note in plan.notes if note.startswith("will not fit together")]
    assert len(unfit) == 4 - len(only)
    assert recover(night.tools(), replace(ASK, only=only)).state is RunState.DONE
    live = night.world.builds[night.world.live.main].version
    assert (live.code_hash == night.good.code_hash) is ("code" in only)
    assert (night.bucket.live() == night.then) is ("objects" in only)
    assert (night.server.rows() == night.before) is ("database" in only)


def test_without_a_watch_it_ends_at_the_read_back(night: Night) -> None:
    plan = skip_verification(prepare(night.tools(), ASK))
    assert "verify" not in actions(plan)
    assert "recover_report" in actions(plan)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (RecoverAsk("no such point"), "is no target"),
        (RecoverAsk("2099-01-01"), "lies in the future"),
        (RecoverAsk("night", only=("rows",)), "there is no part 'rows'"),
        (RecoverAsk("0/A"), "is a position in the database"),
        (RecoverAsk("no time", only=("objects",)), "is no time, and no recovery point"),
    ],
)
def test_what_cannot_be_meant(night: Night, ask: RecoverAsk, words: str) -> None:
    with pytest.raises((UsageError, Refused), match=words):
        prepare(night.tools(), ask)


def test_what_is_not_set_up_cannot_be_recovered(night: Night) -> None:
    tools = RecoverTools(night.tools().tools)
    with pytest.raises(UsageError, match="database is not set up"):
        prepare(tools, replace(ASK, only=("database",)))


def test_a_fence_that_would_not_hold_is_refused_with_the_script(night: Night) -> None:
    """A role outside of the plan that can log in and write."""
    night.world.fence.live.roles["report"] = FenceRole("report", login=True, writes="INSERT on orders")
    with pytest.raises(Refused, match="cannot be fenced: role report") as refused:
        prepare(night.tools(), ASK)
    assert refused.value.options == ("ALTER ROLE report NOLOGIN;",)


def test_a_secret_that_no_source_holds_is_refused(night: Night) -> None:
    night.world.secret_source.kept = {}
    with pytest.raises(Refused, match="needs secrets that are gone: JWT_SECRET"):
        prepare(night.tools(), ASK)


def test_a_hotfix_that_came_meanwhile_ends_it_before_anything_is_stopped(night: Night) -> None:
    plan = prepare(night.tools(), ASK)
    tools = night.tools()
    hotfix = night.world.upload("hotfix")
    night.world.deploy(hotfix)
    run = tools.tools.journal.submit(plan, actor="ops@host", reason="a bad night")
    with pytest.raises(WorldMoved):
        tools.tools.journal.drive(run, night.actions(tools), actor="ops@host")
    assert night.world.live.sole == hotfix.id
    assert night.server.write()


def test_a_fence_taken_away_by_hand_gives_the_run_up(night: Night) -> None:
    """Before the first overwrite: what the application wrote since would be lost."""
    fence = night.world.fence

    def open_by_hand(name: str) -> None:
        if name == "sides.promote" and fence.live.mark is not None:
            fence.open(fence.live.mark)

    night.world.after_call = open_by_hand
    with pytest.raises(WorldMoved, match="does not stand any more"):
        recover(night.tools())
    night.stop_watching()
    check_taken_back(night)


class FailsBehind:
    """Fails each call of that name, once another one was called; until it is ended."""

    def __init__(self, name: str, behind: str = "") -> None:
        self.name, self.behind, self.seen = name, behind, not behind

    def __call__(self, called: str) -> None:
        self.seen = self.seen or called == f"after {self.behind}"
        if self.seen and called == f"before {self.name}":
            raise ProviderUnavailable("the second check does not answer")


def test_without_its_second_check_the_database_stays_closed(night: Night) -> None:
    """It was exchanged, and nobody knows whether it is what it has to be; resumed, it is compared again."""
    night.watch_application(FailsBehind("copies.compare", "server.move_in"))
    with pytest.raises(PartlyDone, match="whether all was restored is not known: the second check does not answer"):
        recover(night.tools())
    check_closed(night)
    with pytest.raises(PartlyDone):
        recover(night.tools())
    check_closed(night)
    night.watch_application()
    run = recover(night.tools())
    night.stop_watching()
    check_recovered(night)
    assert not [line for line in read_outcome(night.tools().tools, run).checked if "NOT CHECKED" in line]


def test_a_database_that_takes_no_write_is_given_to_nobody(night: Night) -> None:
    """The page stays, and the run goes on when the application can write; an undo only says that it cannot."""

    def fail(name: str) -> None:
        if name == "commits.commit_once":
            raise ProviderUnavailable("cannot execute INSERT in a read-only transaction")

    def tools() -> RecoverTools:
        return replace(night.tools(), commits=NightCommits(night.world))

    night.world.before_call = fail
    with pytest.raises(PartlyDone, match="the application cannot write, although the fence is gone") as stopped:
        recover(tools())
    assert "resume the run without the connection string" in str(stopped.value)
    assert night.world.builds[night.world.live.main].version.is_maintenance
    night.world.before_call = None
    run = recover(tools())
    check_recovered(night)
    said = read_outcome(night.tools().tools, run).wrote
    assert said == "role app committed one write, which another session read back"
    assert said in format_lines(read_outcome(night.tools().tools, run))
    night.world.before_call = fail
    undone = take_back(tools())
    assert undone is not None
    assert "cannot write" in read_outcome(night.tools().tools, undone).wrote


def test_who_was_let_in_before_the_trial_write_failed_is_not_forgotten(night: Night) -> None:
    """An undo goes by what may have been written since, and the report by when that began."""

    def fail(name: str) -> None:
        if name == "commits.commit_once":
            raise ProviderUnavailable("cannot execute INSERT in a read-only transaction")

    def tools() -> RecoverTools:
        return replace(night.tools(), commits=NightCommits(night.world))

    night.world.before_call = fail
    with pytest.raises(PartlyDone, match="the application cannot write"):
        recover(tools())
    failed_at = night.world.clock.now()
    (run,) = tools().tools.runs.runs("production")
    planned = prepare_undo(tools(), run).notes
    night.world.clock.sleep(3600)
    night.world.before_call = None
    run = recover(tools())
    opened = find_result(tools().tools.runs, run.id, OpenStep)
    assert opened is not None
    assert opened.at <= failed_at
    assert (opened.stood_s or 0) < 3600
    assert planned == prepare_undo(tools(), run).notes, "the same as of one that came to its end"


def test_what_differs_is_mended_and_compared_again(night: Night) -> None:
    """It stays closed until then."""
    live, spoiled = night.world.fence, [(-1, "spoiled")]

    def spoil(name: str) -> None:
        if name == "after server.start":
            live.live.writes[:0] = spoiled

    night.watch_application(spoil)
    with pytest.raises(PartlyDone, match="not everything was restored: NOT AS BEFORE: rows"):
        recover(night.tools())
    check_closed(night)
    live.live.writes[:1] = []
    night.watch_application()
    recover(night.tools())
    night.stop_watching()
    check_recovered(night)


def test_a_person_opens_what_cannot_be_compared(night: Night) -> None:
    """`backout unfence` says that somebody has looked; then the run goes on, and its report says what was not shown."""
    night.watch_application(FailsBehind("copies.compare", "server.move_in"))
    with pytest.raises(PartlyDone):
        recover(night.tools())
    night.stop_watching()
    fence = night.world.fence
    assert fence.live.mark is not None
    fence.open(fence.live.mark)
    night.is_fenced = False
    night.watch_application(FailsBehind("copies.compare"))
    run = recover(night.tools())
    night.stop_watching()
    check_recovered(night)
    checked = read_outcome(night.tools().tools, run).checked
    assert "NOT CHECKED by other means: the second check does not answer" in checked


def test_an_incident_is_over_only_by_what_was_compared(night: Night) -> None:
    """Of a recovery that is not watched: a second check that could not be made resolves nothing."""
    box = night.tools().tools

    night.watch_application(FailsBehind("copies.compare", "server.move_in"))
    run = box.journal.submit(skip_verification(prepare(night.tools(), ASK)), actor="ops@host", reason="a bad night")
    with pytest.raises(PartlyDone):
        box.journal.drive(run, night.actions(night.tools()), actor="ops@host")
    night.stop_watching()
    assert night.world.fence.live.mark is not None
    night.world.fence.open(night.world.fence.live.mark)
    night.watch_application(FailsBehind("copies.compare"))
    assert recover(night.tools()).state is RunState.DONE
    (incident,) = list_incidents(box.journal, box.runs, "production")
    assert incident.resolved_at is None


def test_without_what_the_second_check_compares_with_nothing_is_stopped(night: Night) -> None:
    """The side instance cannot be read: then it cannot be shown afterwards that it is what answers."""
    night.watch_application(FailsBehind("copies.note"))
    with pytest.raises(PartlyDone, match="the second check does not answer"):
        recover(night.tools())
    night.stop_watching()
    assert night.world.live.sole == night.bad.id
    assert night.server.write()
    assert night.world.fence.live.mark is None


def test_the_deadline_is_told_while_a_step_goes_on(night: Night) -> None:
    """The server is slow to come up; nobody has to look at anything for people to be told."""
    told = threading.Event()

    def come_up_late(name: str) -> None:
        if name == "server.start":
            night.world.clock.sleep(3600)
            until(lambda: [each for each in night.world.notices if "still closed" in each.title], 30, "people are told")
            told.set()

    night.world.before_call = come_up_late
    tools = night.tools()
    box = tools.tools
    run = box.journal.submit(prepare(tools, replace(ASK, deadline_s=600.0)), actor="ops@host", reason="a bad night")
    with deadline.keep_deadline(tools, run, every_s=0.01):
        box.journal.drive(run, night.actions(tools), actor="ops@host")
    assert told.is_set()
    assert len([each for each in night.world.notices if "still closed" in each.title]) == 1
    night.stop_watching()
    assert night.server.write()


def test_the_deadline_is_told_and_nothing_opens_by_itself(night: Night) -> None:
    """Whoever looks is told who closed it; the run goes on when what failed is mended."""

    def fail(name: str) -> None:
        if name == "server.start":
            raise ProviderUnavailable("the server does not start")

    night.world.before_call = fail
    with pytest.raises(PartlyDone):
        recover(night.tools(), replace(ASK, deadline_s=60.0))
    check_closed(night)
    night.world.clock.sleep(3600)
    with pytest.raises(PartlyDone):
        recover(night.tools())
    outage = read_outage(night.tools().tools, shows_page=True)
    assert outage is not None
    assert (outage.actor, outage.deadline - outage.since) == ("ops@host", 60.0)
    assert [notice.title for notice in night.world.notices if "still closed" in notice.title]
    check_closed(night)
    night.stop_watching()
    recover(night.tools())
    check_recovered(night)


def test_a_fence_is_told_on_another_machine_where_no_page_shows_it(night: Night) -> None:
    """The platform has no maintenance page, and this journal does not know of the recovery: the database does."""
    world = night.world
    world.fence.raise_fence(FenceOrder("recover-0f0f0f0f", "ann@other", world.clock.now() + 600.0, ("app",)))
    here = equip(night.tools().tools, maintenance=None, fence=lambda: world.fence)
    outage = read_outage(here, shows_page=False)
    assert outage is not None
    assert (outage.run, outage.actor, outage.fence) == ("recover-0f0f0f0f", "ann@other", True)
    world.fence.live.mark = None
    assert read_outage(here, shows_page=False) is None
