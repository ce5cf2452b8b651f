"""The safety rules on real parts: what is refused and why, what is chosen, and which failures are its fault."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from arranged import migrated
from extent import long
from polling import PATIENCE_S
from streamed import await_line

if TYPE_CHECKING:
    from drillbook import Drillbook, Trial

WHY = ("rollback", "-m", "it fails", "--json")
ROLLBACK = (*WHY, "--confirm", "production", "--no-wait")


def deployed_bad(drillbook: Drillbook) -> Trial:
    """Return a trial in which the bad version just took the good one's place."""
    trial = drillbook.trial()
    trial.make_live(drillbook.good)
    trial.make_live(drillbook.bad)
    return trial


def watching(trial: Trial, watch: str) -> Trial:
    """Return the trial with another watch; one that has to end with a verdict on a bad version is a long one.

    The verdict ends it, and how many requests a slow machine answers in a few seconds is nobody's to say.
    """
    return trial.replace((r'watch = "\d+s"', f'watch = "{watch}"'))


@pytest.mark.calm
def test_two_rollbacks_in_a_row(drillbook: Drillbook) -> None:
    """The second one says that it was done; none returns to the bad version: exit 3 with what may be done instead."""
    trial = deployed_bad(drillbook)
    first = trial.run(*ROLLBACK).json
    assert first["live_version"] == drillbook.good
    typed_again = trial.run(*ROLLBACK)
    assert typed_again.code == 0, typed_again.err
    assert (typed_again.json["already"], typed_again.json["run_id"]) == (True, first["run_id"])
    assert (typed_again.json["live_version"], typed_again.json["further"]) == (drillbook.good, None)
    again = trial.run("rollback", drillbook.bad, *ROLLBACK[1:])
    assert again.code == 3
    assert again.json["rule"] == "5 quarantined"
    assert any("roll forward" in option for option in again.json["options"])
    assert trial.live() == drillbook.good


@pytest.mark.calm
def test_production_without_confirmation(drillbook: Drillbook) -> None:
    """Without a terminal nothing is taken for a yes: exit 3 names the flag, and nothing was changed."""
    trial = deployed_bad(drillbook)
    for more in ((), ("--yes",), ("--no-input",)):
        ended = trial.run(*WHY, *more)
        assert ended.code == 3
        assert "--confirm production" in ended.json["hint"]
    wrong = trial.run(*WHY, "--confirm", "staging")
    assert (wrong.code, wrong.json["rule"]) == (3, "1 identity")
    no_reason = trial.run("rollback", "--confirm", "production", "--json")
    assert (no_reason.code, no_reason.json["hint"]) == (3, 'add -m "WHY"')
    assert trial.live() == drillbook.bad


@pytest.mark.long
@pytest.mark.rotating("scenarios", 3)
@pytest.mark.calm
def test_nothing_proven(drillbook: Drillbook) -> None:
    """Without a stable version: exit 3 names --accept-unproven, which then does it."""
    trial = deployed_bad(drillbook).forget_marks()
    ended = trial.run(*ROLLBACK)
    assert (ended.code, ended.json["rule"]) == (3, "5 unproven")
    assert any("--accept-unproven" in option for option in ended.json["options"])
    assert trial.live() == drillbook.bad
    accepted = trial.run(*ROLLBACK, "--accept-unproven")
    assert accepted.code == 0, accepted.err
    assert trial.live() != drillbook.bad


@pytest.mark.long
def test_migration_since_the_target_was_live(drillbook: Drillbook) -> None:
    """Code is not rolled back over it, by a person or by guard; the named head overrules, and that is recorded."""
    trial = watching(deployed_bad(drillbook), "60s")
    with migrated(trial.book, "20991231000000_drop_orders"):
        ended = trial.run(*ROLLBACK)
        assert (ended.code, ended.json["rule"]) == (3, "4 schema")
        assert "20991231000000_drop_orders" in ended.json["what"]
        assert trial.run(*ROLLBACK, "--force", "schema", "another").code == 3
        watched = trial.run("guard", "--json")
        assert watched.code == 3, watched.err
        assert watched.json["action"] == "refused"
        assert watched.json["verdict"] == "regressed"
        assert Path(watched.json["report_path"]).is_file()
        assert "4 schema" in watched.err
        assert trial.live() == drillbook.bad
        forced = trial.run(*ROLLBACK, "--force", "schema", "20991231000000_drop_orders")
        assert forced.code == 0, forced.err
        shown = trial.run("runs", "show", forced.json["run_id"], "--json")
        assert any("overruled by hand" in note for note in shown.json["plan"]["notes"])
    assert trial.live() == drillbook.good


@pytest.mark.long
@pytest.mark.rotating("scenarios", 3)
@pytest.mark.calm
def test_database_unreachable(drillbook: Drillbook) -> None:
    """The migration head cannot be read, so nobody knows: exit 3, and `unknown` overrules it."""
    trial = deployed_bad(drillbook)
    with drillbook.fault("service-down", "database"):
        ended = trial.run(*ROLLBACK)
        assert (ended.code, ended.json["rule"]) == (3, "4 schema")
        assert "cannot be read" in ended.json["what"]
        assert any("--force=schema unknown" in option for option in ended.json["options"])
        assert trial.live() == drillbook.bad
        assert trial.run(*ROLLBACK, "--force", "schema", "unknown").code == 0
    assert trial.live() == drillbook.good


@pytest.mark.long
@pytest.mark.rotating("scenarios", 3)
def test_observe(drillbook: Drillbook) -> None:
    """Guard says what it would do, with exit 1, and changes nothing."""
    trial = watching(deployed_bad(drillbook), "60s")
    ended = trial.run("guard", "--observe", "--json")
    assert ended.code == 1, ended.err
    assert ended.json["would"] == f"roll back to version {drillbook.good}"
    assert trial.live() == drillbook.bad


@pytest.mark.long
@pytest.mark.rotating("scenarios", 3)
def test_hotfix_during_the_watch(drillbook: Drillbook) -> None:
    """Another deployment makes the verdict void, a bad one too: exit 6, nothing is rolled back, and none is advised."""
    trial = watching(deployed_bad(drillbook), "20s")
    process = trial.start("guard", "--json")
    await_line(process, '"tick"')
    hotfix = trial.make_live(drillbook.good)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 6, err
    assert json.loads(out.splitlines()[-1])["action"] == "void"
    assert "backout rollback" not in err
    assert trial.tools().deployments.history()[0].id == hotfix.id


@pytest.mark.long
@pytest.mark.rotating("scenarios", 3)
@pytest.mark.calm
def test_hotfix_between_plan_and_switch(drillbook: Drillbook) -> None:
    """An interrupted rollback that finds another deployment live changes nothing: exit 6."""
    from api_gate import Answer, api_gate  # noqa: PLC0415 - only here

    with api_gate(str(drillbook.stage.twin.api_base_url)) as gate:
        trial = deployed_bad(drillbook).behind(gate.url)
        gate.when("POST", "/deployments", Answer(), after_posts=gate.posts() + 1)  # the first one is the proof
        assert trial.run(*ROLLBACK).code == 5
        hotfix = trial.make_live(drillbook.bad)
        resumed = trial.run("runs", "resume", trial.newest()["run_id"], "--json")
        assert resumed.code in (3, 5, 6), resumed.err
        assert resumed.json["schema"] == "backout.error/1"
        assert trial.tools().deployments.history()[0].id == hotfix.id


@pytest.mark.long
@pytest.mark.rotating("scenarios", 3)
@pytest.mark.calm
def test_secret_only_change(drillbook: Drillbook) -> None:
    """The previous version is the same code, so it is passed over; an older secret is a person's decision."""
    trial = drillbook.trial()
    trial.make_live(drillbook.bad)
    drillbook.deploy("good")  # a secret can only be changed on the version that was uploaded last
    trial.book.rotate("EMAIL_API_KEY", "canary-rotated")
    changed = trial.live()
    try:
        assert changed not in (drillbook.bad, drillbook.good)
        refused = trial.run(*ROLLBACK)
        assert refused.code == 3
        assert any(drillbook.good in option and "same code" in option for option in refused.json["options"]) or (
            "same code" in refused.json["what"]
        )
        ended = trial.run(*ROLLBACK, "--accept-unproven", "--yes")
        assert ended.code == 3, ended.err
        assert ended.json["error"] == "SecretsChanged"
        assert any("--restore-secrets" in option for option in ended.json["options"])
        assert "canary-rotated" not in ended.out + ended.err
        assert trial.live() == changed
        restored = trial.run(*ROLLBACK, "--accept-unproven", "--restore-secrets")
        assert restored.code == 0, restored.err
        assert trial.live() == drillbook.bad
    finally:
        trial.tools().deployments.activate(drillbook.good, message="back", force=True)


@pytest.mark.long
@pytest.mark.rotating("scenarios", 3)
@pytest.mark.calm
def test_every_way_to_name_the_target(drillbook: Drillbook) -> None:
    """A version id or the start of one, a deployment id, a number, a time; an unknown one is a usage error."""
    trial = drillbook.trial()
    deployment = trial.make_live(drillbook.good)
    between = time.time()
    trial.make_live(drillbook.bad)
    number = trial.tools().versions.detail(drillbook.good).number
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(between)) + f".{int(between % 1 * 1e6):06d}Z"
    for target in (drillbook.good, drillbook.good[:8], deployment.id, str(number), f"v{number}", moment):
        ended = trial.run("rollback", target, "--dry-run", "--json")
        assert ended.code == 0, (target, ended.err)
        assert ended.json["to_version"] == drillbook.good, target
    unknown = trial.run("rollback", "nonsense", "--dry-run", "--json")
    assert unknown.code == 2
    assert unknown.json["hint"].startswith("backout deployments list")
    live = trial.run("rollback", drillbook.bad, "--dry-run", "--json")
    assert live.code == 0
    assert (live.json["already"], live.json["live_version"]) == (True, drillbook.bad)


@pytest.mark.parametrize(("service", "action"), [long("database", "refused"), long("storage", "rollback")])
def test_critical_service_down_after_the_deployment(drillbook: Drillbook, service: str, action: str) -> None:
    """It was up before, so it is a reason by itself; with the database down the schema is unknown, and rule 4 holds."""
    trial = watching(deployed_bad(drillbook).forget_marks(), "60s")
    trial.make_live(drillbook.good)
    trial.replace(
        (r"below = 0.05", "below = 0.9"), (r"\[environments.production.guard\]\n", "\\g<0>accept_unproven = true\n")
    )
    process = trial.start("guard", "--json")
    await_line(process, '"health":"ok"')
    with drillbook.fault("service-down", service):
        if action == "rollback":  # the version that gets the traffic is proven by the same service
            await_line(process, '"verdict":"regressed"')
        else:
            out, err = process.communicate(timeout=PATIENCE_S)
    if action == "rollback":
        out, err = process.communicate(timeout=PATIENCE_S)
    ended = json.loads(out.splitlines()[-1])
    assert ended["verdict"] == "regressed", out[-3000:] + err
    assert f"service {service}" in ended["reason"] or "failed" in ended["reason"]
    assert ended["action"] == action, err
    assert process.returncode == (3 if action == "refused" else 1)


@pytest.mark.long
@pytest.mark.rotating("scenarios", 3)
def test_degradable_service_down(drillbook: Drillbook) -> None:
    """Email is no reason."""
    trial = watching(drillbook.trial(), "8s")
    trial.make_live(drillbook.good)
    process = trial.start("guard", "--json")
    await_line(process, '"health":"ok"')
    with drillbook.fault("service-down", "email"):
        out, err = process.communicate(timeout=PATIENCE_S)
    ended = json.loads(out.splitlines()[-1])
    assert ended["verdict"] in ("healthy", "inconclusive"), err
    assert ended["action"] in ("stable", "hold")
    assert trial.live() == drillbook.good


@pytest.mark.long
@pytest.mark.rotating("scenarios", 3)
def test_service_that_was_down_before(drillbook: Drillbook) -> None:
    """A service that was down already says nothing about the deployment: hold."""
    trial = watching(drillbook.trial(), "10s")
    trial.make_live(drillbook.bad)
    with drillbook.fault("service-down", "storage"):
        process = trial.start("guard", "--next", "--json")
        await_line(process, "waiting for the next deployment", stream=process.stderr)
        seen = time.monotonic() + 4  # long enough for a look at the health before
        while time.monotonic() < seen:
            trial.run("deployments", "list", "--json")
        trial.make_live(drillbook.good)
        out, err = process.communicate(timeout=PATIENCE_S)
    ended = json.loads(out.splitlines()[-1])
    assert ended["verdict"] == "inconclusive", out[-3000:] + err
    assert "not the deployment" in ended["reason"]
    assert ended["action"] == "hold"
    assert process.returncode == 7


@pytest.mark.long
@pytest.mark.rotating("scenarios", 3)
@pytest.mark.calm
def test_what_a_dry_run_shows_is_what_runs(drillbook: Drillbook) -> None:
    """Nobody is asked why on an environment that is not protected, so the plan is the same to the last word."""
    trial = drillbook.trial().replace((r"\[environments.production\]\n", "\\g<0>protected = false\n"))
    trial.make_live(drillbook.bad)
    shown = trial.run("rollback", "--dry-run", "--no-wait", "--json")
    assert shown.code == 0, shown.err
    ended = trial.run("rollback", "--no-wait", "--yes", "--json")
    assert (ended.code, ended.json["verified"]) == (0, None), ended.err
    run = trial.tools().runs.find(ended.json["run_id"])
    assert run is not None
    assert run.plan.hash == shown.json["plan"]["hash"]
