"""Each bad variant and each fault is diagnosed on real parts: scenario, cause, and the line that proves it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from backout.analysis.diagnosis.missing_secrets import SURE
from backout.model.guard.signals import sum_counts
from backout.twin import wrangler

from drillbook import PROGRAM, Result
from extent import long, rotated
from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from drillbook import Drillbook, Trial

pytestmark = pytest.mark.rotating("diagnoses", 3)

ASK = ("diagnose", "--json", "--since", "7s")
ANSWERED_IN_S = 25
"""A variant or a fault is known by then: some hundred requests, what the tail and the counts lag behind, and asking."""
ENOUGH = 150
"""Requests that a version's own past consists of before another one takes its place."""
EMAIL, MEMORY, NO_CAUSE = "email_failure", "worker_memory_exceeded", "unknown"


@dataclass(frozen=True)
class Expected:
    """What the diagnosis must say. `line`: part of a quoted line, "" where there is none, and then of the title."""

    scenario: str
    cause: str
    line: str = ""
    rollback: str = "code_ok"
    title: str = ""
    service: str | None = None
    criticality: str | None = None
    names: tuple[str, ...] = ()

    def met_by(self, found: dict[str, Any]) -> bool:
        """Whether it is that answer already, and not one that was made of too few requests."""
        quoted = any(self.line in quote["text"] for quote in found["evidence"])
        return (
            (found["scenario"], found["cause"]) == (self.scenario, self.cause)
            and (quoted or not self.line)
            and found["rollback"] == self.rollback
            and found["title"].startswith(self.title)
            and found["confidence"] >= (0.0 if self.cause == NO_CAUSE else SURE)
        )


@dataclass
class Two:
    """Two versions of the same good code that no other drill has used: one to compare with, one to break."""

    before: str
    victim: str


@pytest.fixture(scope="module")
def two(drillbook: Drillbook) -> Two:
    return Two(drillbook.deploy("good-2"), drillbook.deploy("good"))


def seen(trial: Trial, version: str, requests: int = ENOUGH) -> None:
    """Return when a version is live and has answered so many requests, ever."""
    if trial.live() != version:
        trial.make_live(version)
    traffic, since = trial.tools().traffic, int(trial.tools().clock.now()) - 600
    assert traffic is not None

    def answered() -> bool:
        rows = traffic.read(since, since + 700).counts
        return sum_counts(row for row in rows if row.version == version)[0] >= requests

    until(answered, 30, f"{version} has answered {requests} requests", every_s=0.2)


def diagnosed(trial: Trial, expected: Expected) -> dict[str, Any]:
    """Ask until the answer is the expected one, and check all that it says; the last answer is shown otherwise."""
    answers: list[Result] = []

    def asked() -> bool:
        answers.append(trial.run(*ASK))
        return answers[-1].code in (0, 1) and expected.met_by(answers[-1].json)

    try:
        until(asked, ANSWERED_IN_S, f"it is {expected.scenario} {expected.cause}", every_s=0.3)
    except AssertionError as late:
        late.add_note(answers[-1].out + answers[-1].err)
        raise
    answer = answers[-1]
    found = answer.json
    assert found["schema"] == "backout.diagnosis/1"
    assert answer.code == (0 if expected.scenario == "S0_no_action" else 1)
    assert found["rollback"] == expected.rollback, found
    assert tuple(found["names"]) == expected.names
    assert expected.service in (None, found["service"])
    assert found["criticality"] == expected.criticality
    assert expected.cause != NO_CAUSE or found["confidence"] < 0.5
    return found


EVERY_DAY = {"throws-on-one-route", "missing-variable", "wrong-table", ("service-down", "database")}
"""One of each scenario; of the others a few."""
UNKNOWN_LINE = "price rules could not be applied"
VARIANTS = {
    "throws-on-one-route": Expected(
        "S3_runtime_errors", "worker_script_error", "TypeError: Cannot read properties of null (reading 'trim')"
    ),
    "missing-variable": Expected(
        "S5_env_vars",
        "missing_env_var",
        "ReferenceError: PAYMENTS_API_KEY is not defined",
        "useless",
        names=("PAYMENTS_API_KEY",),
    ),
    "wrong-table": Expected("S4_migration", "db_schema_mismatch", "does not exist", "blocked", service="database",
                            criticality="critical"),
    "errors-5-percent": Expected("S3_runtime_errors", NO_CAUSE, UNKNOWN_LINE),
    "errors-all": Expected("S3_runtime_errors", NO_CAUSE, UNKNOWN_LINE),
    "health-email-down": Expected("S1_health_check", EMAIL, "email is degraded (may degrade)", "useless",
                                  service="email", criticality="degradable"),
    "slow-all": Expected("S3_runtime_errors", NO_CAUSE, title="slower: half of the answers take"),
    "leak": Expected("S3_runtime_errors", MEMORY, "RangeError: Array buffer allocation failed"),
}  # fmt: skip


@pytest.mark.parametrize(
    "variant",
    [
        *(name if name == "throws-on-one-route" else long(name) for name in VARIANTS if name in EVERY_DAY),
        *map(long, rotated([name for name in VARIANTS if name not in EVERY_DAY], 2)),
    ],
)
def test_a_variant(drillbook: Drillbook, two: Two, variant: str) -> None:
    """What a deployment broke is told from what was there before it."""
    trial = drillbook.trial()
    seen(trial, two.before)
    drillbook.stage.deploy(variant, LEAK_FAILS_AFTER_S="2")
    found = diagnosed(trial, VARIANTS[variant])
    assert found["is_new"] in (True, None)
    assert "secrets: all 2 there" in found["clean"]
    if VARIANTS[variant].cause == NO_CAUSE and VARIANTS[variant].line:
        assert any(UNKNOWN_LINE in quote["text"] for quote in found["new_templates"])
        assert found["title"].startswith("unknown: ")


@pytest.mark.long
def test_a_good_version(drillbook: Drillbook, two: Two) -> None:
    """Nothing is wrong: scenario 0, exit 0, and what was looked at is told."""
    trial = drillbook.trial()
    seen(trial, two.before)
    seen(trial, two.victim)
    found = diagnosed(trial, Expected("S0_no_action", NO_CAUSE, rollback="not_needed"))
    assert [line.partition(":")[0] for line in found["clean"]] == ["health", "migrations", "secrets"]
    # What earlier drills broke may be among the counts of the version before it, which are read for longer.
    assert found["counts"][two.victim]["errors"] == 0, found["counts"]


FAULTS: dict[tuple[str, str | None], Expected] = {
    ("service-down", "database"): Expected(
        "S1_health_check", "db_unreachable", "the database is down", "useless", service="database",
        criticality="critical"),
    ("service-down", "storage"): Expected(
        "S1_health_check", "storage_unreachable", "storage is down (critical)", "useless", service="storage",
        criticality="critical"),
    ("service-down", "email"): Expected(
        "S1_health_check", EMAIL, "email is degraded (may degrade)", "useless", service="email",
        criticality="degradable"),
    ("storage-denied", None): Expected(
        "S1_health_check", "storage_permission", "Access Denied", "useless", service="storage",
        criticality="critical"),
    ("errors", None): Expected("S3_runtime_errors", NO_CAUSE, "HTTP 503 without a logged error"),
    ("worker-crash", None): Expected("S3_runtime_errors", MEMORY, "exceeded memory limit"),
    ("latency", None): Expected("S3_runtime_errors", NO_CAUSE, title="slower: half of the answers take"),
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize(
    "fault",
    [
        *(fault for fault in FAULTS if fault in EVERY_DAY),
        *rotated([fault for fault in FAULTS if fault not in EVERY_DAY], 2),
    ],
    ids=lambda fault: "-".join(filter(None, fault)),
)
def test_a_fault(drillbook: Drillbook, two: Two, fault: tuple[str, str | None]) -> None:
    """What broke around a version that was well, with the same code before it."""
    trial = drillbook.trial()
    seen(trial, two.before)
    seen(trial, two.victim)
    with drillbook.fault(*fault):
        diagnosed(trial, FAULTS[fault])


@pytest.mark.long
@pytest.mark.calm
def test_code_that_does_not_start(drillbook: Drillbook) -> None:
    """The upload is refused: nothing is live of it, and `diagnose build` runs the very command and says why."""
    stage = drillbook.stage
    twin = stage.twin
    tool = wrangler.find(
        stage.application,
        str(twin.api_base_url),
        str(twin.account_id),
        drillbook.directory / "stage" / "twin" / "api-token",
        drillbook.directory / "wrangler",
    )
    live = drillbook.trial().live()
    deploy = tool.argv("deploy", "src/variants/broken-start.js", "--env", "production")
    done = subprocess.run(
        [str(PROGRAM), "diagnose", "build", "--json", "--", *deploy],
        cwd=tool.cwd, env=tool.environment(), capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    found = Result(done.returncode, done.stdout, done.stderr).json
    assert (found["scenario"], found["cause"]) == ("S2_build_failure", "deploy_validation_failed")
    assert any("settings.currency" in q["text"] or "reading 'currency'" in q["text"] for q in found["evidence"]), found
    assert found["rollback"] == "not_needed"
    assert "reading 'currency'" in done.stderr  # shown while it ran
    assert drillbook.trial().live() == live
