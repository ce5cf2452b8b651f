"""A diagnosis in words: for a terminal, for a report, as a record."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec.structs import fields
from values import replace

from backout.model.incident.diagnosis import UNKNOWN, Alternative, Diagnosis, Quote, RollbackAdvice, Scenario
from backout.report.incident.diagnosis import format_text, list_sentences, make_record

AT = datetime(2026, 3, 1, 10, 0, 12, tzinfo=UTC).timestamp()
NEW, OLD = "a91d77c2-1111-4111-8111-111111111111", "8f2c0b1e-2222-4222-8222-222222222222"
LINE = "ReferenceError: PAYMENTS_API_KEY is not defined: missing environment variable"
FOUND = Diagnosis(
    scenario=Scenario.ENVIRONMENT,
    cause="missing_env_var",
    confidence=0.991,
    service="config",
    rollback=RollbackAdvice.USELESS,
    title="A variable, secret or binding is missing",
    is_new=True,
    novelty="never before",
    first_seen=AT,
    deployed_at=AT - 4,
    share=0.18107,
    evidence=(
        Quote(LINE, AT, NEW, 1044),
        Quote("secrets that were there before are gone: A_KEY", None, "", 1, "secrets"),
    ),
    alternatives=(Alternative("secret_invalid", 0.008),),
    next=("backout secrets check -e production", "look at the source of secrets"),
    confirm="backout secrets check -e production",
    names=("PAYMENTS_API_KEY",),
    counts={OLD: (5586, 0), NEW: (1136, 206)},
    unreadable={"JSON is malformed": 2},
    clean=("health: all 3 services ok",),
    notes=("the source left out events: counts are of a sample",),
)
NOBODY_KNOWS = Diagnosis(
    scenario=Scenario.RUNTIME_ERRORS,
    cause=UNKNOWN,
    confidence=0.2,
    service=None,
    rollback=RollbackAdvice.CODE_OK,
    title="unknown: 1 new template",
    fresh=(Quote("price rules could not be applied to /", AT, NEW, 12),),
    evidence=(Quote("price rules could not be applied to /", AT, NEW, 12),),
)


def test_a_terminal_of_80_columns() -> None:
    """What it is stands first; then why, how new, what else; the lines; what to do; what limits it."""
    assert (
        format_text(FOUND)
        == """\
S5, environment and secrets: A variable, secret or binding is missing

  cause     missing_env_var, 99 % sure
  service   config
  names     PAYMENTS_API_KEY
  new       never before
  seen      in 18 % of invocations, first 10:00:12 UTC, 4.0 s after the
            deployment
  rollback  not what it takes: a value is missing or wrong, and setting it needs
            no rollback
  or        secret_invalid 0.8 %
  confirm   backout secrets check -e production
  well      health: all 3 services ok
  counted   8f2c0b1e: 0 of 5,586 failed; a91d77c2: 206 of 1,136 failed

Evidence
  1,044 x  ReferenceError: PAYMENTS_API_KEY is not defined: missing environment
          variable  [10:00:12, a91d77c2]
      1 x  secrets that were there before are gone: A_KEY  [secrets]

To do
  look at the source of secrets

Mind
  the source left out events: counts are of a sample
  2 x not read: JSON is malformed"""
    )


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("found", [FOUND, NOBODY_KNOWS], ids=["known", "unknown"])
def test_no_line_is_longer_than_the_terminal(found: Diagnosis, width: int) -> None:
    assert max(map(len, format_text(found, width=width).splitlines())) <= width


def test_what_no_signature_knows_is_quoted_once() -> None:
    """It is the evidence; a template that is not among it has a place of its own."""
    shown = format_text(NOBODY_KNOWS)
    assert shown.startswith("S3, runtime errors: unknown: 1 new template\n")
    assert shown.count("price rules") == 1
    assert "known to no signature" not in shown
    apart = format_text(replace(NOBODY_KNOWS, evidence=()))
    assert apart.count("price rules") == 1
    assert "New, and known to no signature\n" in apart


def test_nothing_is_wrong() -> None:
    calm = Diagnosis(Scenario.NO_ACTION, UNKNOWN, 0.0, None, RollbackAdvice.NOT_NEEDED, "no errors")
    assert format_text(calm) == "S0, nothing to do: no errors\n\n  rollback  not needed"
    assert list_sentences(calm) == ("Diagnosis: no errors.",)
    assert list_sentences(replace(calm, title="")) == ()


def test_the_sentences_of_a_report() -> None:
    (said,) = list_sentences(FOUND)
    assert said == (
        "Diagnosis: A variable, secret or binding is missing (`missing_env_var`, S5, environment and secrets; "
        "99 % sure); service: config; missing or wrong: PAYMENTS_API_KEY; compared with the version before: never "
        "before; a rollback is not what it takes: a value is missing or wrong, and setting it needs no rollback."
    )
    down = replace(FOUND, scenario=Scenario.HEALTH_CHECK, cause="storage_unreachable", service="storage",
                   criticality="critical", names=(), novelty="")  # fmt: skip
    (said,) = list_sentences(down)
    assert "service: storage (critical)" in said
    assert said.endswith("a rollback does not help: the version before meets it as well.")
    (said,) = list_sentences(replace(down, rollback=RollbackAdvice.CODE_OK))
    assert "rollback" not in said


def test_the_record_has_every_field() -> None:
    """Times in RFC 3339; None where something is not known; whatever a diagnosis holds is in it."""
    told = make_record(FOUND)
    assert told["first_seen"] == "2026-03-01T10:00:12.000Z"
    assert told["share"] == 0.18107
    assert told["evidence"] == [
        {"text": LINE, "at": "2026-03-01T10:00:12.000Z", "version": NEW, "count": 1044, "source": "events"},
        {"text": FOUND.evidence[1].text, "at": None, "version": None, "count": 1, "source": "secrets"},
    ]
    assert told["counts"] == {
        OLD: {"invocations": 5586, "errors": 0},
        NEW: {"invocations": 1136, "errors": 206},
    }
    renamed = {"fresh": "new_templates"}
    assert set(told) == {renamed.get(each.name, each.name) for each in fields(Diagnosis)}
    nothing = make_record(NOBODY_KNOWS)
    assert (nothing["service"], nothing["first_seen"], nothing["novelty"], nothing["confirm"]) == (None,) * 4
