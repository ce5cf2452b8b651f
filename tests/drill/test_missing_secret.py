"""Scenario 5 on real parts: guard sets a secret that a deployment lacks; the same code stays live, and is well."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from canaries import CANARIES, leaks_below, leaks_in

from backout.model.guard.signals import sum_counts

from arranged import api
from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from drillbook import Drillbook, Result, Trial

pytestmark = pytest.mark.rotating("drills", 5)

NAME = "PAYMENTS_API_KEY"
VALUE = CANARIES["JWT_SECRET"]
"""A planted value under another name: the canary check looks for it everywhere, in every spelling."""


@pytest.fixture(scope="module")
def drillbook(own_drillbook: Drillbook) -> Drillbook:
    """Return a stage of its own: these drills change the secrets of what is live."""
    return own_drillbook


@pytest.fixture(scope="module")
def lacking(drillbook: Drillbook) -> str:
    """Return the version whose code asks for a secret that nobody has set."""
    return drillbook.stage.deploy("missing-variable")


@pytest.fixture
def _gone_again(drillbook: Drillbook) -> Iterator[None]:
    """Take the secret away in the end: whatever is uploaded next would inherit it."""
    yield
    tools = drillbook.trial().tools()
    if NAME in tools.versions.detail(tools.deployments.history()[0].main).secret_names:
        api(drillbook, "DELETE", f"secrets/{NAME}")
    tools.deployments.activate(drillbook.good, message="back", force=True)


def with_source(drillbook: Drillbook, held: str) -> tuple[Trial, Path]:
    """Return a trial with a source of secrets that holds this, and the source."""
    trial = drillbook.trial()
    planted = trial.folder / "planted"
    planted.mkdir(mode=0o700)
    source = planted / "secrets.json"
    source.touch(mode=0o600)
    source.write_text(held, encoding="utf-8")
    line = f'secrets = {{ required = ["{NAME}"], source = {{ from = "file", path = "{source}" }} }}\n'
    return trial.replace((r"(?m)^health = ", f"{line}health = ")), source


def watched(drillbook: Drillbook, trial: Trial, version: str) -> Result:
    """Deploy it after the good one, and return how guard's watch of it ended."""
    trial.make_live(drillbook.good)
    trial.make_live(version)
    return trial.run("guard", "--json")


@pytest.mark.long
@pytest.mark.usefixtures("_gone_again")
def test_the_source_holds_it(drillbook: Drillbook, lacking: str) -> None:
    """It is set; errors stop; nothing is rolled back; the report quotes the line; the value is nowhere."""
    trial, _ = with_source(drillbook, json.dumps({NAME: VALUE}))
    versions = trial.tools().versions
    ended = watched(drillbook, trial, lacking)
    assert ended.code == 1, ended.err
    found = ended.json
    assert (found["action"], found["verified"]) == ("push_secret", True), ended.out
    live = trial.live()
    assert live not in (lacking, drillbook.good)
    now, then = versions.detail(live), versions.detail(lacking)
    assert now.code_hash == then.code_hash
    assert set(now.secret_names) == {*then.secret_names, NAME}
    history = trial.tools().deployments.history()
    served = [each.main for each in history[: [each.main for each in history].index(lacking)]]
    assert set(served) == {live}  # the good version was not live in between

    traffic, since = trial.tools().traffic, int(trial.tools().clock.now())
    assert traffic is not None

    def answered() -> tuple[int, int] | None:
        requests, errors = sum_counts(row for row in traffic.read(since, since + 60).counts if row.version == live)
        return (requests, errors) if requests >= 150 else None

    _, errors = until(answered, 30, "visitors are answered with it", every_s=0.2)
    assert errors == 0

    (report,) = trial.reports()
    text = report.read_text(encoding="utf-8")
    assert f"ReferenceError: {NAME} is not defined" in text
    assert "missing_env_var" in text
    assert "ithout a rollback" in text or "not rolled back" in text, text
    checked = trial.run("secrets", "check", "--json")
    assert (checked.json["missing"], checked.json["missing_in_target"]) == ([], [NAME])  # the good one never had it
    assert leaks_below(trial.folder) == []
    assert leaks_in(ended.out + ended.err + text + checked.out + checked.err, "all that was said") == []
    calm = trial.run("diagnose", "--json")
    # On a busy machine answers may be slower than before, and that is said where no error is.
    assert (calm.code, calm.json["scenario"]) == (0, "S0_no_action") or calm.json["title"].startswith("slower: "), (
        calm.out
    )


@pytest.mark.long
def test_the_source_lacks_it(drillbook: Drillbook, lacking: str) -> None:
    """Nothing can be set, so it is rolled back as always, and the report still says which secret was missing."""
    trial, _ = with_source(drillbook, '{"ANOTHER": "not it, but long enough"}')
    ended = watched(drillbook, trial, lacking)
    assert ended.code == 1, ended.err
    assert ended.json["action"] == "rollback", ended.out
    assert f"{NAME}: the configured source of secrets does not hold it" in ended.err + ended.out
    assert trial.live() == drillbook.good
    (report,) = trial.reports()
    assert f"ReferenceError: {NAME} is not defined" in report.read_text(encoding="utf-8")
