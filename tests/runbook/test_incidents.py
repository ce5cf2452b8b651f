"""Incidents on the memory World with a real journal: what guard and people did, its impact, and who was told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from recovery_story import Night, recover
from values import replace

from backout import config
from backout.analysis.history.dora import compute_dora
from backout.errors import UsageError
from backout.model.drill import DrillPlace
from backout.model.guard.policy import Mode
from backout.model.incident import record
from backout.model.incident.impact import Exactness
from backout.model.incident.notice import NoticeKind, QueuedNotice, QueueState
from backout.model.incident.record import IncidentState, Origin, Severity
from backout.model.incident.vendor import VendorIncident
from backout.report.incident.case import format_text, list_impact, make_record
from backout.runbook.hindsight.dora import read_history
from backout.runbook.incident.case import IncidentRecords, add_action, add_remark, open_incident, read_case
from backout.runbook.incident.drills import record_breaking, record_failure, record_start
from backout.runbook.incident.records import choose_incident
from backout.runbook.incident.report import make_incident_records, write_page
from backout.wiring.helps import list_helps

from line import POLICY, Story, equip, roll_back, watch
from private import write_private

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.incident.case import Case

OBSERVE = replace(POLICY, guard=replace(POLICY.guard, mode=Mode.OBSERVE))


def open_records(story: Story) -> IncidentRecords:
    """Return the records of the story's environment; what was told arrived on one channel at once."""
    tools, world = story.tools(), story.world

    def list_queued() -> tuple[QueuedNotice, ...]:
        return tuple(QueuedNotice(each, "slack", QueueState.DELIVERED, 1, each.at) for each in world.notices)

    ports = {name: getattr(tools, name) for name in ("journal", "runs", "counts", "checkpoints", "notifier")}
    return IncidentRecords(
        "production", "ada@host", world.clock, reports=world.reports, list_queued=list_queued, **ports
    )


class StatusPage:
    """Port VendorStatus with the incidents that a test names."""

    def __init__(self, announced: tuple[VendorIncident, ...]) -> None:
        self._announced = announced

    def incidents(self) -> tuple[VendorIncident, ...]:
        return self._announced


def newest(records: IncidentRecords) -> Case:
    return read_case(records, records.list_records()[0])


def test_guard_opens_an_incident_and_its_verified_rollback_resolves_it(quick_path: Path) -> None:
    """One incident of both runs: the journal's timeline, exact counts, and what was told."""
    story = Story(quick_path / "journal.sqlite")
    ended = watch(story.tools())
    records = open_records(story)
    (found,) = records.list_records()
    case = newest(records)
    assert found.state is IncidentState.RESOLVED
    assert found.runs[-1] == ended.id
    assert (found.opened_by, case.severity) == ("guard", Severity.MAJOR)
    texts = [line.text for line in case.timeline]
    assert any(text.startswith("Issue detected") for text in texts)
    assert any(text.startswith("Service restored") for text in texts)
    assert {line.source for line in case.timeline} == {Origin.JOURNAL}
    told = make_record(case)
    assert [each["channel"] for each in told["told"]] == ["slack"]  # type: ignore[index,attr-defined]
    failed = sum(row.errors for row in story.world.traffic.read(0, int(story.world.clock.now()) + 1).counts)
    assert (case.impact.requests_failed, case.impact.exactness["requests_failed"]) == (failed, Exactness.EXACT)
    assert case.impact.duration_s is not None
    assert case.impact.duration_s > 0
    assert any("requests failed" in line for line in list_impact(case.impact))


def test_people_take_over_what_guard_only_observed(quick_path: Path) -> None:
    """Acknowledged, two notes, one sentence for customers, a rollback by hand, resolved: who and when."""
    story = Story(quick_path / "journal.sqlite", policy=OBSERVE)
    watch(story.tools())
    records = open_records(story)
    found = choose_incident(records.list_records(), None, "production")
    assert found.state is IncidentState.OPEN
    story.world.clock.sleep(30)
    add_remark(records, found, record.ACKNOWLEDGED, "")
    add_remark(records, found, record.NOTED, "the deploy of 10:00")
    add_remark(records, found, record.NOTED, "the deploy of 10:00")
    add_remark(records, found, record.UPDATED, "Payments fail; we are going back.")
    assert newest(records).record.state is IncidentState.ACKNOWLEDGED
    roll_back(story.tools())
    assert add_action(records, found, "alert on failed payments", "detect", "ada", "2026-12-24") == 1
    found = choose_incident(records.list_records(), found.id[:12], "production")
    assert add_action(records, found, "test the import", "prevent", "", "") == 2
    case = newest(records)
    assert (case.record.state, len(case.record.runs)) == (IncidentState.RESOLVED, 2)
    people = [line.text for line in case.timeline if line.source is Origin.PERSON]
    assert people == [
        "Acknowledged",
        "the deploy of 10:00",
        "the deploy of 10:00",
        "Told customers: Payments fail; we are going back.",
        "Action item 1 (detect): alert on failed payments",
        "Action item 2 (prevent): test the import",
    ]
    observed = next(each for each in case.told if "slack" in each.channel)
    assert observed.acknowledged_at == case.record.acknowledged_at
    update = next(each for each in story.world.notices if each.kind is NoticeKind.UPDATE)
    assert (update.text, update.next) == ("Payments fail; we are going back.", ())
    shown = format_text(case, width=70)
    assert max(map(len, shown.splitlines())) <= 100
    assert "1. alert on failed payments (detect, ada, 2026-12-24)" in shown


def test_a_person_opens_one_and_resolves_it(quick_path: Path) -> None:
    """Without any run; its severity is the person's, and nothing is counted that nobody measured."""
    records = open_records(Story(quick_path / "journal.sqlite"))
    name = open_incident(records, "checkout is slow", Severity.MINOR)
    found = choose_incident(records.list_records(), name, "production")
    add_remark(records, found, record.RESOLVED, "the vendor mended it")
    case = newest(records)
    assert (case.title, case.severity, case.record.state) == ("checkout is slow", Severity.MINOR, "resolved")
    assert case.impact.exactness["duration_s"] is Exactness.ESTIMATED


def test_what_is_typed_wrong(quick_path: Path) -> None:
    """Each with what to type in its place."""
    records = open_records(Story(quick_path / "journal.sqlite"))
    with pytest.raises(UsageError, match="no incident is known in production"):
        choose_incident(records.list_records(), None, "production")
    open_incident(records, "a", None)
    found = records.list_records()[0]
    with pytest.raises(UsageError, match="no incident of production is called 'x'"):
        choose_incident(records.list_records(), "x", "production")
    with pytest.raises(UsageError, match="at most 280 characters"):
        add_remark(records, found, record.UPDATED, "x" * 281)


def test_what_follows_is_written_into_the_same_report(quick_path: Path) -> None:
    """Guard only observed, somebody wrote into its report, and rolled back: one incident, one page."""
    story = Story(quick_path / "journal.sqlite", policy=OBSERVE)
    watch(story.tools())
    pages = story.world.reports.texts
    ((path, page),) = pages.items()
    assert "Nothing was changed by backout." in page
    pages[path] = page.replace("### What went well\n", "### What went well\n\nAda was awake.\n")
    records = open_records(story)
    add_remark(records, records.list_records()[0], record.NOTED, "it is the deploy of 10:00")
    roll_back(story.tools())
    ((path, page),) = pages.items()
    assert "Ada was awake." in page
    assert "it is the deploy of 10:00" in page
    assert "Rolled back to version" in page
    assert "Nothing was changed by backout." not in page
    assert page.count("<!-- facts ") == 10
    assert f"]({path.with_suffix('.svg').name})" in page
    (picture,) = story.world.reports.pictures.values()
    assert [f">{number}</text>" in picture for number in range(1, 6)] == [True] * 4 + [False]
    assert newest(open_records(story)).report == str(path)


def test_what_no_run_has_counted_is_counted_for_the_report(quick_path: Path) -> None:
    """A restore counts nothing; the report has numbers and picture all the same, where the source answers."""
    story = Story(quick_path / "journal.sqlite", policy=OBSERVE)
    watch(equip(story.tools(), traffic=story.world.traffic))
    roll_back(equip(story.tools(), traffic=None))
    records = open_records(story)
    (found,) = records.list_records()
    last = replace(found, runs=found.runs[-1:], opened_at=found.opened_at)
    assert read_case(records, last).impact.exactness["requests_failed"] is Exactness.ESTIMATED
    assert records.open_traffic() is None
    write_page(replace(records, open_traffic=lambda: story.world.traffic), last)
    assert read_case(records, last).impact.exactness["requests_failed"] is Exactness.EXACT
    ((_, page),) = story.world.reports.texts.items()
    assert "requests failed" in page


def test_the_picture_of_an_incident_marks_its_recovery(quick_path: Path) -> None:
    """When it was closed, what came back, and when it was open again."""
    night = Night(quick_path)
    recover(night.tools())
    box = night.tools().tools
    records = replace(make_incident_records(box), open_traffic=lambda: night.world.traffic)
    (incident,) = records.list_records()
    write_page(records, incident)
    (picture,) = night.world.reports.pictures.values()
    (marked,) = re.findall(r"Marked: (.*)\.</desc>", picture)
    words = [each.rpartition(" ")[0] for each in marked.split(", ")]
    assert words[-5:-1] == ["closed", "database exchanged", "objects restored", "open again"], words
    assert words[-1] == "verified"


def test_the_report_names_who_helps_with_what(quick_path: Path, tmp_path: Path) -> None:
    """The vendors of the configuration with their links and status, the contacts beside what they help with."""
    platform = 'platform = { provider = "cloudflare", script = "fm5", account_id = "a" }'
    ci = 'ci = { provider = "github", repository = "acme/fm5" }'
    database = 'database = { provider = "postgres", url_env = "X" }'
    people = '[contacts]\non_call = "+49 30 0"\n[contacts.db]\nname = "Ada"\nreach = "ada@x"\nhelps = ["database"]\n'
    text = f'[app]\nname = "fm5"\n[environments.production]\n{platform}\n{ci}\n{database}\n{people}'
    write_private(tmp_path / "backout.toml", text)
    helps = list_helps(config.load(config.Environment(), start=tmp_path))
    assert [(each.subject, each.vendor, [who.label for who in each.contacts]) for each in helps] == [
        ("code", "Cloudflare", ["on_call"]),
        ("secrets", "Cloudflare", ["on_call"]),
        ("database", "", ["on_call", "Ada"]),
        ("pipeline", "GitHub", ["on_call"]),
    ]
    story = Story(quick_path / "journal.sqlite")
    trouble = VendorIncident("Cloudflare", "Workers fail", "major", 1_795_600_800.0)
    records = replace(open_records(story), helps=helps, vendors=StatusPage((trouble,)))
    open_incident(records, "checkout is slow", None)
    write_page(records, records.list_records()[0])
    (page,) = story.world.reports.texts.values()
    section = page.split("## People and vendors")[1]
    assert "[support](https://support.cloudflare.com)" in section
    assert "| database |  | on_call: +49 30 0; Ada: `ada@x` |" in section
    assert "Cloudflare: Workers fail (major), since 10:00:00." in section


def test_dora_counts_nothing_that_a_drill_or_a_trial_deployed_here(quick_path: Path) -> None:
    """The runbook's rollback test in staging, and old and new code in a trial there: nobody's deployments."""
    story = Story(quick_path / "journal.sqlite")
    world, tools = story.world, story.tools()

    def count() -> int:
        history, _ = read_history(tools, world.clock.now() - 86_400, lambda _commit: None)
        return compute_dora(history).metrics["deployment_frequency"].n

    before = count()
    for name, message in (("old", "trial by backout: old code"), ("new", "trial by backout: new code")):
        world.clock.sleep(60)
        world.deploy(world.upload(name), message=message)
    world.clock.sleep(60)
    record_start(tools.journal, "drill-1", "ours", DrillPlace.STAGING, actor="ops@host")
    record_breaking(tools.journal, "drill-1", "ours", tools.environment, story.good.id, actor="ops@host")
    world.clock.sleep(5)
    world.deploy(world.upload("broken"))
    world.clock.sleep(5)
    record_failure(tools.journal, "drill-1", "ours", DrillPlace.STAGING, "it was stopped", actor="ops@host")
    world.clock.sleep(60)
    assert count() == before
    world.deploy(world.upload("real"))
    world.clock.sleep(60)
    assert count() == before + 1


def test_dora_counts_what_the_journal_and_the_provider_tell(quick_path: Path) -> None:
    """One deployment, which guard rolled back; the oldest is not counted, nor is the rollback."""
    story = Story(quick_path / "journal.sqlite")
    watch(story.tools())
    tools = story.tools()
    record_start(tools.journal, "drill-1", "throws", DrillPlace.TWIN, actor="ops@host")
    history, notes = read_history(tools, story.world.clock.now() - 86_400, lambda _commit: None)
    found = compute_dora(history).metrics
    assert notes == ()
    assert (found["deployment_frequency"].n, found["change_failure_rate"].count) == (1, 1)
    assert found["deployment_frequency"].excluded == {"rollbacks and changes of secrets": 1, "oldest known": 1}
    assert found["lead_time"].excluded == {"no commit is known": 1}
    assert found["recovery_time"].excluded == {"drills": 1}
    assert (found["guard_precision"].count, found["guard_precision"].n) == (1, 1)
    case = newest(open_records(story))
    assert found["recovery_time"].value == pytest.approx(case.impact.duration_s)
    assert found["guard_bad_requests"].value == case.impact.requests_failed
