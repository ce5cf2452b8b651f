"""The parts around a diagnosis: what is slower, what is recent, what is gone, which secrets are meant, builds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from values import replace

from backout.analysis.detector.slower import describe_slower
from backout.analysis.diagnosis.build import diagnose_build
from backout.analysis.diagnosis.diagnosis import diagnose
from backout.analysis.diagnosis.missing_secrets import list_wanted_names
from backout.analysis.diagnosis.recent import keep_recent, select_versions
from backout.analysis.diagnosis.signatures import Classifier
from backout.model.guard.signals import Counts, find_bucket
from backout.model.incident.diagnosis import UNKNOWN, Clue, Diagnosis, RollbackAdvice, Scenario, Surroundings
from backout.model.incident.events import EventCounts, InvocationCounts, Origin, Seen, Template, TemplateKey
from backout.wiring.diagnosis import load_catalogue

if TYPE_CHECKING:
    from collections.abc import Mapping

CATALOGUE = load_catalogue()
CLASSIFIER = Classifier(CATALOGUE)
GONE, OLD, NEW = "gone", "old", "new"
TABLE = 'error: relation "modelz" does not exist'
THROWN = "TypeError: Cannot read properties of null (reading 'trim')"


def seconds(version: str, latencies: Mapping[float, int]) -> Counts:
    """Return one second in which so many answers took so many milliseconds."""
    histogram: dict[int, int] = {}
    for ms, count in latencies.items():
        histogram[find_bucket(ms)] = histogram.get(find_bucket(ms), 0) + count
    return Counts(version, 1, sum(latencies.values()), 0, latency=histogram)


def test_every_answer_is_slower() -> None:
    """The median is told, and both figures."""
    told = describe_slower([seconds(OLD, {8: 200}), seconds(NEW, {114: 200})], old=OLD, new=NEW)
    assert told.startswith("slower: half of the answers take 1")
    assert told.endswith(" ms in the version before")


def test_few_answers_are_slower() -> None:
    """The p99 is told where the median stays."""
    told = describe_slower([seconds(OLD, {8: 200}), seconds(NEW, {8: 190, 400: 10})], old=OLD, new=NEW)
    assert told.startswith("slower: one answer in a hundred takes 4")


@pytest.mark.parametrize(
    ("before", "after", "old"),
    [
        pytest.param({8: 200}, {40: 200}, OLD, id="not-by-50-ms"),
        pytest.param({400: 200}, {600: 200}, OLD, id="not-twice"),
        pytest.param({8: 99}, {800: 200}, OLD, id="too-few-before"),
        pytest.param({8: 200}, {800: 99}, OLD, id="too-few-now"),
        pytest.param({8: 280, 44: 4}, {8: 280, 105: 4}, OLD, id="a-handful"),
        pytest.param({8: 200}, {800: 200}, None, id="no-version-before"),
        pytest.param({800: 200}, {8: 200}, OLD, id="faster"),
    ],
)
def test_nothing_is_slower(before: dict[float, int], after: dict[float, int], old: str | None) -> None:
    assert describe_slower([seconds(OLD, before), seconds(NEW, after)], old=old, new=NEW) == ""


def template(text: str, **seen: int) -> Template:
    """Return a template that so many invocations of each version failed with."""
    by_minute = {(version, 100): count for version, count in seen.items()}
    key = TemplateKey("", text)
    return Template(key, Origin.EXCEPTION, text, {v: Seen(n, n) for v, n in seen.items()}, by_minute, first_seen=6000.0)


def events(*templates: Template, **invocations: int) -> EventCounts:
    """Return events of versions with so many invocations each."""
    errors = {version: sum(t.by_version.get(version, Seen()).errors for t in templates) for version in invocations}
    by_version = {version: InvocationCounts(n, errors[version]) for version, n in invocations.items()}
    return EventCounts(by_version=by_version, templates=templates, first_at=6000.0, last_at=6119.0)


def test_of_one_version_only_what_is_recent_counts() -> None:
    """Others stay as they were; what only that version did earlier is away; what is recent is in, with both sides."""
    whole = events(template("a", old=3, new=90), template("b", new=5), old=100, new=1000)
    recent = events(template("a", new=2, old=1), template("c", new=1), old=10, new=50)
    found = keep_recent(NEW, whole, recent)
    assert {each.key.message: dict(each.by_version) for each in found.templates} == {
        "a": {OLD: Seen(3, 3), NEW: Seen(2, 2)},
        "c": {NEW: Seen(1, 1)},
    }
    assert (found.by_version[OLD].invocations, found.by_version[NEW].invocations) == (100, 50)
    assert keep_recent(NEW, whole, EventCounts()).by_version.keys() == {OLD}


def test_what_other_versions_did_is_left_out() -> None:
    found = select_versions(
        events(template("a", gone=7, new=1), template("b", gone=9), gone=10, new=5), frozenset({NEW})
    )
    assert found.by_version.keys() == {NEW}
    assert [(each.key.message, each.invocations) for each in found.templates] == [("a", 1)]
    assert found.templates[0].by_minute == {(NEW, 100): 1}


AROUND = Surroundings(old=OLD, new=NEW, deployed_at=6060.0)


def diagnosed(counts: EventCounts, **around: Any) -> Diagnosis:
    return diagnose(counts, replace(AROUND, **around), CATALOGUE, CLASSIFIER)


def test_a_version_that_was_gone_before_is_not_blamed_on_these_two() -> None:
    """A third version failed badly, and was replaced: nothing is wrong with the two that came after it."""
    found = diagnosed(events(template(TABLE, gone=150), gone=300, old=800, new=800))
    assert (found.scenario, found.cause) == (Scenario.NO_ACTION, UNKNOWN)
    assert found.counts == {OLD: (800, 0), NEW: (800, 0)}
    alone = diagnosed(events(template(TABLE, gone=150), gone=300, older=9, new=800), old=None)
    assert (alone.scenario, alone.counts) == (Scenario.NO_ACTION, {NEW: (800, 0)})
    found = diagnosed(events(template(TABLE, gone=150), template(THROWN, new=60), gone=300, old=800, new=800))
    assert found.cause == "worker_script_error"


def test_a_version_that_nobody_has_asked_yet_is_not_blamed_for_what_was_before_it() -> None:
    """Errors rose while another version was live, and ended with it: no cause, and it is said that nothing is known."""
    rose = replace(template(THROWN, older=322), first_seen=5000.0, last_seen=6050.0, by_minute={("older", 98): 322})
    counts = replace(
        events(rose, older=1035, old=848), by_minute={minute: InvocationCounts(95) for minute in range(81, 101)}
    )
    found = diagnosed(counts)
    assert (found.scenario, found.cause) == (Scenario.NO_ACTION, UNKNOWN)
    assert found.title == "nothing is known to be wrong, but no invocation of new was seen in the time looked at"
    assert any("no invocation of new was seen" in note for note in found.notes)
    going_on = diagnosed(replace(counts, templates=(replace(rose, last_seen=6070.0),)))
    assert going_on.cause == "worker_script_error"


def test_a_rollback_that_is_useless_is_not_suggested() -> None:
    """What rose in both versions at one moment is not mended by going back: the command for it is not given."""
    minutes = {minute: InvocationCounts(100) for minute in range(81, 111)}
    rose = replace(
        template(THROWN, old=300, new=30),
        by_minute={**{("old", minute): 50 for minute in range(95, 101)}, ("new", 101): 30},
        last_seen=6100.0,
    )
    found = diagnosed(replace(events(rose, old=2000, new=200), by_minute=minutes))
    assert (found.cause, found.rollback) == ("worker_script_error", RollbackAdvice.USELESS)
    assert found.next
    assert not any("backout rollback" in step for step in found.next)
    apart = diagnosed(events(template(THROWN, new=60), old=800, new=800))
    assert any("backout rollback" in step for step in apart.next)


def test_what_the_version_before_did_and_this_one_never_does_is_over() -> None:
    """A deployment that mended something is well, whatever it changed, unless another source still says so."""
    mended = events(template(TABLE, old=150), old=300, new=800)
    assert diagnosed(mended).scenario is Scenario.NO_ACTION
    still = Clue("db_schema_mismatch", 4.0, "the table is not there", "schema")
    assert diagnosed(mended, clues=(still,)).cause == "db_schema_mismatch"


def test_a_rise_in_time_that_the_new_version_never_saw_is_over() -> None:
    """The storage was away for a minute while the version before was live, and came back before this one was."""
    away = "Error: get: We encountered an internal error. Please try again. (10001)"
    counts = events(template(away, old=40), old=40_000, new=1000)
    counts = replace(counts, first_at=6000.0 - 3000)
    assert diagnosed(counts).scenario is Scenario.NO_ACTION


def found(cause: str, *, service: str | None = None, names: tuple[str, ...] = (), sure: float = 0.99) -> Diagnosis:
    return Diagnosis(Scenario.ENVIRONMENT, cause, sure, service, RollbackAdvice.USELESS, "", names=names)


KNOWN = {"expected": ("JWT_SECRET", "RESEND_KEY", "NEW_KEY"), "present": ("JWT_SECRET", "RESEND_KEY", "DATABASE_URL")}


@pytest.mark.parametrize(
    ("diagnosis", "names"),
    [
        pytest.param(found("missing_env_var", names=("NEW_KEY", "NOT_OURS")), ("NEW_KEY",), id="named"),
        pytest.param(found("missing_env_var", names=("NOT_OURS",)), ("NEW_KEY",), id="named-by-nobody"),
        pytest.param(found("missing_env_var"), ("NEW_KEY",), id="all-that-is-missing"),
        pytest.param(found("secret_invalid", service="email"), ("RESEND_KEY",), id="of-the-service"),
        pytest.param(found("secret_invalid", service="database"), ("DATABASE_URL",), id="of-the-database"),
        pytest.param(found("secret_invalid", service="auth"), ("JWT_SECRET",), id="of-sessions"),
        pytest.param(found("secret_invalid", service="storage"), (), id="of-no-known-name"),
        pytest.param(found("secret_invalid"), (), id="of-nobody"),
        pytest.param(found("missing_env_var", names=("NEW_KEY",), sure=0.79), (), id="not-sure"),
        pytest.param(found("db_unreachable", names=("DATABASE_URL",)), (), id="another-cause"),
    ],
)
def test_which_secrets_are_meant(diagnosis: Diagnosis, names: tuple[str, ...]) -> None:
    assert list_wanted_names(diagnosis, **KNOWN) == names


def test_two_names_of_a_service_are_one_too_many() -> None:
    """Which of them is wrong nobody knows."""
    both = ("RESEND_KEY", "SMTP_PASSWORD")
    assert list_wanted_names(found("secret_invalid", service="email"), expected=both, present=()) == ()


TSC = """\
> shop@1.0.0 build
> tsc --noEmit

src/app.ts(1,7): error TS2322: Type 'string' is not assignable to type 'number'.
"""


def build(log: str, **more: str) -> Diagnosis | None:
    return diagnose_build(log, CATALOGUE, CLASSIFIER, **more)


def test_a_failed_build_names_its_step_and_quotes_the_line() -> None:
    answer = build(TSC, step="deploy: Run npm run build", environment="production")
    assert answer is not None
    assert (answer.scenario, answer.cause) == (Scenario.BUILD_FAILURE, "build_typescript_error")
    assert answer.rollback is RollbackAdvice.NOT_NEEDED
    assert "deploy: Run npm run build, `tsc --noEmit`" in answer.title
    assert [(quote.text[:10], quote.source) for quote in answer.evidence] == [("src/app.ts", "line 4")]
    assert not any("{environment}" in step for step in answer.next)


def test_a_step_that_failed_without_a_known_reason_is_named_all_the_same() -> None:
    answer = build("made 3 widgets\n", step="pack")
    assert answer is not None
    assert (answer.scenario, answer.cause) == (Scenario.BUILD_FAILURE, UNKNOWN)
    assert answer.confidence < 0.5
    assert answer.title == "the step failed, and no signature knows why (step: pack)"


@pytest.mark.parametrize("log", ["", "added 41 packages in 2s\nfound 0 vulnerabilities\n"])
def test_a_log_without_a_failure(log: str) -> None:
    assert build(log) is None


def test_the_cause_of_a_long_log_is_what_stands_near_the_failure() -> None:
    """What an earlier part prints, and survives, is not the cause."""
    noise = "npm warn deprecated one@1.0.0: it is old\n" * 2000
    answer = build(f"error TS1005: ';' expected.\n{noise}npm error code EUSAGE\n"
                   "npm error Missing: one@1.0.0 from lock file\n")  # fmt: skip
    assert answer is not None
    assert answer.cause == "build_lockfile_mismatch"
