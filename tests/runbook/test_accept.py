"""A shift in what is answered: held whatever the policy says, told at once, ended by a person's word alone."""

from __future__ import annotations

import contextlib
import shlex
from typing import TYPE_CHECKING

import pytest
from crashing import Crash, dies_at
from journal_engines import on_both
from shifted import NAME, held
from values import replace

from backout.analysis.history.remark_text import parse
from backout.errors import BackoutError, Refused, UsageError
from backout.model.guard.answers import AnswerClass
from backout.model.guard.policy import OnInconclusive
from backout.model.guard.shift import Outcome, Shift, ShiftKind
from backout.model.incident.incident import RunState
from backout.model.incident.timeline import EntryKind
from backout.model.plan import PlanKind
from backout.model.remark import RemarkKind
from backout.model.version import Mark
from backout.providers.memory import make_steady
from backout.report.guard.run_end import describe_end
from backout.report.incident.incident import render
from backout.report.incident.timeline_entries import tell
from backout.report.times import format_clock
from backout.runbook.guard.accept import accept, list_open_shifts, list_options
from backout.runbook.incident.diagnose import diagnose_now
from backout.runbook.incident.ends import read_end
from backout.runbook.incident.report import make_incident
from backout.runbook.incident.status import read_status
from backout.runbook.incident.timeline import read_records

from extent import by_extent
from line import POLICY, Story, watch

if TYPE_CHECKING:
    from pathlib import Path

    from backout.runbook.guard.accept import Accepted
    from backout.runbook.toolbox import Toolbox


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return held(tmp_path / "journal.sqlite")


def concluded(tools: Toolbox) -> dict[str, object]:
    run = next(run for run in tools.runs.runs("production") if run.plan.kind is PlanKind.GUARD)
    found = tools.runs.result(run.id, "conclude")
    assert isinstance(found, dict)
    return dict(found)


def stable(tools: Toolbox) -> list[str]:
    return [mark.version for mark in tools.marks.marks("production") if mark.mark is Mark.STABLE]


@pytest.mark.parametrize("policy", list(OnInconclusive))
def test_a_shift_is_held_whatever_the_policy_says(story: Story, policy: OnInconclusive) -> None:
    """Neither accepted nor rolled back by a setting: a report, a notice, both ways out, and said while it goes on."""
    story.policy = replace(POLICY, guard=replace(POLICY.guard, on_inconclusive=policy))
    said: list[str] = []
    tools = replace(story.tools(), say=said.append)
    watch(tools)
    found = concluded(tools)
    assert (found["action"], found["rule"]) == ("hold", "shift in answers")
    assert "answers 404 now" in str(found["why"])
    assert f"backout guard accept {NAME} -e production -m WHY" in str(found["options"])
    assert "backout rollback -e production -m WHY" in str(found["options"])
    assert len([text for text in said if "the health endpoint answered 200" in text]) == 1
    (text,) = story.world.reports.texts.values()
    assert "What is answered otherwise than before" in text
    at_once, at_end = story.world.notices
    assert "answers 404 now" in at_once.text
    assert "answers 404 now" in at_end.text
    assert story.world.live.sole == story.bad.id
    assert stable(tools) == [story.good.id]


def test_a_person_ends_the_hold_as_healthy(story: Story) -> None:
    """Recorded in the journal with its reason, marked here and at the provider; once."""
    watch(story.tools())
    tools = story.tools()
    done = accept(tools, NAME, "it moved to /up")
    assert (done.remaining, done.watching) == ((), False)
    assert stable(tools) == [story.good.id, story.bad.id]
    remark = parse(story.world.live.message)
    assert remark is not None
    assert remark.code is not None
    assert story.bad.id.startswith(remark.code.version)
    assert (
        remark.text
        == "ops@host accepted endpoint:health: it moved to /up; 1 shift in what is answered, see the journal"
    )
    (noted,) = tools.journal.events(environment="production", kind="guard.accept")
    assert (noted.data["shift"], noted.data["why"], noted.data["by"]) == (NAME, "it moved to /up", "ops@host")
    with pytest.raises(Refused, match="accepted already"):
        accept(tools, NAME, "again")


def test_status_says_what_waits_for_a_person(story: Story) -> None:
    """From the end of the watch on, until it is accepted: "nothing needs you" would be wrong."""
    tools = story.tools()
    watch(tools)
    found = read_status(tools)
    assert [each.name for each in found.waiting] == ["endpoint:health"]
    assert any(each.startswith("a person has to say whether this is intended: ") for each in found.troubles)
    accept(tools, "endpoint:health", "it moved")
    assert read_status(tools).waiting == ()


def test_a_diagnosis_names_no_shift_that_a_person_accepted(story: Story) -> None:
    """It says what holds the version, as `status` does, and no more of it once that is accepted."""
    watch(story.tools())

    def named() -> bool:
        found = diagnose_now(story.tools())
        return any("answers 404 now" in text for text in (found.title, *found.notes))

    assert named()
    accept(story.tools(), NAME, "it moved")
    assert not named()


def test_a_wrong_name_lists_the_right_ones(story: Story) -> None:
    """And changes nothing."""
    watch(story.tools())
    with pytest.raises(UsageError, match=f"those that hold it: '{NAME}'"):
        accept(story.tools(), "GET:/:404", "why not")
    assert stable(story.tools()) == [story.good.id]


def test_without_an_open_hold_nothing_is_accepted(story: Story) -> None:
    """The watch ended well, or another deployment took the place of what it watched."""
    story.world.health_rule = story.world._tell_services
    watch(story.tools())
    with pytest.raises(Refused, match="not for a shift in what is answered"):
        accept(story.tools(), NAME, "why not")
    story.world.deploy(story.good)
    with pytest.raises(Refused, match="another deployment took the place"):
        accept(story.tools(), NAME, "why not")


@pytest.mark.parametrize("before_its_end_s", [45.0, 0.5])
def test_a_watch_that_goes_on_takes_it_in(story: Story, before_its_end_s: float) -> None:
    """Accepted by another process meanwhile, in its last second too: it ends healthy, and the shift stands beside."""
    ends = story.world.live.created_at + POLICY.criteria.watch_s
    story.world.traffic_rule = make_steady(1000)
    tools = story.tools()
    story.world.clock.at(ends - before_its_end_s, lambda: accept(story.tools(), NAME, "it moved"))
    watch(tools)
    found = concluded(tools)
    assert (found["action"], tools.runs.runs("production")[0].state) == ("stable", RunState.DONE), found["why"]
    assert found["measured"]["good_share"] == 1.0  # type: ignore[index]
    assert found["measured"]["requests"] > 10_000  # type: ignore[index]
    assert stable(tools)[-1] == story.bad.id


def test_what_is_accepted_before_a_watch_is_concluded_counts(story: Story) -> None:
    """The process died between the end of the watch and what follows; a person accepts, and it is taken up again."""

    def die(name: str) -> None:
        if name == "reports.write":
            raise Crash

    story.world.before_call = die
    with pytest.raises(Crash):
        watch(story.tools())
    story.world.before_call = None
    done = accept(story.tools(), NAME, "it moved to /up")
    assert (done.watching, done.ended, done.interrupted) == (True, True, True)
    tools = story.tools()
    watch(tools)
    assert concluded(tools)["action"] == "stable"
    assert stable(tools)[-1] == story.bad.id
    assert "ops@host accepted endpoint:health: it moved to /up" in str(concluded(tools)["why"])


def test_what_is_accepted_while_a_watch_is_concluded_is_not_lost(story: Story) -> None:
    """What was accepted had been read already: it says that it is too soon to tell, and counts when typed again."""
    done: list[Accepted] = []

    def meanwhile(name: str) -> None:
        if name == "reports.write" and not done:
            story.world.before_call = None
            done.append(accept(story.tools(), NAME, "it moved"))

    story.world.before_call = meanwhile
    watch(story.tools())
    assert (done[0].watching, done[0].ended, done[0].interrupted) == (True, True, False)
    assert concluded(story.tools())["action"] == "hold"
    again = accept(story.tools(), NAME, "it moved")
    assert again.result is not None
    assert (again.watching, again.result.action) == (False, "stable")
    assert stable(story.tools())[-1] == story.bad.id


def test_nothing_is_accepted_of_a_version_that_is_being_rolled_back(tmp_path: Path) -> None:
    """Its watch ended with more than a shift: a person's word comes too late, and that is said."""
    story, said = Story(tmp_path / "journal.sqlite"), list[str]()

    def meanwhile(name: str) -> None:
        tools = story.tools()
        run = tools.runs.runs("production")[0]
        if not run.state.is_over and tools.runs.result(run.id, "watch") is not None and not said:
            story.world.before_call = None
            with pytest.raises(Refused) as refused:
                accept(tools, NAME, "it moved")
            said.append(refused.value.what)

    story.world.before_call = meanwhile
    watch(story.tools())
    assert "found the version regressed" in said[0]


def test_a_name_that_visitors_made_is_quoted_where_it_is_to_be_pasted(story: Story) -> None:
    """A path may hold whatever a URL can: what a person pastes into a shell names the shift and does nothing else."""
    shift = Shift(ShiftKind.ANSWERS, "GET /it's;reboot", AnswerClass.NOT_FOUND, Outcome.HOLD, 9, 9, 0, 9, 9.0, "404")
    told, _ = list_options(story.tools(), [shift])
    line = str(told).partition("`")[2].partition("`")[0]
    assert shlex.split(line)[:4] == ["backout", "guard", "accept", shift.name]


def test_what_was_accepted_is_so_in_the_next_watch_of_the_version(story: Story) -> None:
    """A watch of the same version, later: it is not held for the same again."""
    watch(story.tools())
    accept(story.tools(), NAME, "it moved")
    story.world.traffic_rule = make_steady(1000)
    story.world.clock.sleep(100)
    watch(story.tools())
    assert concluded(story.tools())["action"] == "stable"


@pytest.mark.proof
@on_both
def test_crash_while_a_shift_is_accepted(quick_path: Path) -> None:
    """Whatever the moment: the same command typed again marks the version stable, or says that it is."""
    for moment in range(3, 200, by_extent(5, 3, proof=1)):
        story = held(quick_path / f"{moment}.sqlite")
        watch(story.tools())
        if not dies_at(story, moment + 1, lambda tools: accept(tools, NAME, "it moved")):
            break
        with contextlib.suppress(Refused):
            accept(story.tools(), NAME, "it moved")
        assert stable(story.tools()) == [story.good.id, story.bad.id], moment
        remark = parse(story.world.live.message)
        assert remark is not None, moment
        assert remark.kind is RemarkKind.STABLE, moment
    assert moment > 5


def test_the_report_and_the_timeline_say_who_accepted_what_and_why(story: Story) -> None:
    """The report was written by the watch, and a person wrote into it since: that stays."""
    watch(story.tools())
    tools, pages = story.tools(), story.world.reports.texts
    ((path, page),) = pages.items()
    assert " - The watch ended inconclusive: the health endpoint answered 200" in page
    pages[path] = page.replace("## Prevention\n", "## Prevention\n\nWe shall tell the platform team.\n")
    story.world.clock.sleep(60)
    accept(tools, NAME, "it moved\nto /up")
    page = pages[path]
    assert "We shall tell the platform team." in page
    at = tools.clock.now()
    said = f"- {format_clock(at)} - `ops@host` accepted the shift `{NAME}` of version {story.bad.id[:8]} as intended: "
    assert f"{said}it moved to /up" in page
    assert "Accepted as intended:" in page.split("## Resolution")[1].split("## Prevention")[0]
    assert render(make_incident(tools, tools.runs.runs("production")[0].id)).count("it moved to /up") == 2
    records = read_records(
        "production",
        since=0.0,
        now=at,
        book=tools.journal,  # type: ignore[arg-type] # the journal of these tools is all three ports
        listed=lambda: (),
        queued=lambda: (),
        holds=lambda: (),
    )
    (entry,) = (each for each in tell(records, since=0.0, until=at + 1).entries if each.kind is EntryKind.COMMAND)
    assert (entry.by, entry.at) == ("ops@host", at)
    assert entry.text.startswith(f"shift {NAME} of version {story.bad.id[:8]} is accepted as intended (guard-")
    assert entry.text.endswith(": it moved to /up")


def test_a_report_that_cannot_be_written_keeps_nobody_from_accepting(story: Story) -> None:
    """It is recorded, and said."""
    watch(story.tools())
    said: list[str] = []

    def full(name: str) -> None:
        if name == "reports.amend":
            raise BackoutError("the report cannot be amended: no space", where="/x")

    story.world.before_call = full
    accept(replace(story.tools(), say=said.append), NAME, "it moved")
    assert stable(story.tools()) == [story.good.id, story.bad.id]
    assert [text for text in said if "does not stand in the incident report: the report cannot be amended" in text]


def test_a_run_that_was_held_says_who_accepted_it(story: Story) -> None:
    """In the words of `runs list` and `status`; while something else holds it, in part."""
    watch(story.tools())
    tools = story.tools()
    run = tools.runs.runs("production")[0]
    assert describe_end(run, read_end(tools.journal, tools.runs, run)) == "inconclusive, held"
    accept(tools, NAME, "it moved")
    end = read_end(tools.journal, tools.runs, run)
    assert (describe_end(run, end), end.settled) == ("inconclusive, accepted by ops@host", True)
    assert describe_end(run, replace(end, settled=False)) == "inconclusive, held, in part accepted by ops@host"


def test_the_names_are_told(story: Story) -> None:
    """Who does not know what guard called it is told, as long as something waits."""
    watch(story.tools())
    run, names = list_open_shifts(story.tools())
    assert run.startswith("guard-")
    assert names == (NAME,)
    accept(story.tools(), NAME, "it moved")
    with pytest.raises(Refused, match="accepted already"):
        list_open_shifts(story.tools())
