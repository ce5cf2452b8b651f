"""Synthetic requests on real parts: a version that fails where nobody counts is found by what guard asks itself."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest
from canaries import CANARIES, leaks_below

from fm5_app import FM5
from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from drillbook import Drillbook, Trial

PATH = "/api/models"
SENT = f'probe_every = "1s"\nsynthetic = {{ every = "200ms", paths = ["{PATH}", "/"] }}'


def asked_well(trial: Trial, version: str) -> bool:
    """Whether a waiting guard has learnt that the path answers."""
    kept = trial.tools().checkpoints.load_checkpoint("production", f"looks of {version}")
    ended = kept.get("ended") if isinstance(kept, dict) else None
    return isinstance(ended, dict) and PATH in ended


def test_a_route_that_fails_is_found_without_any_source_of_counts(drillbook: Drillbook) -> None:
    """Health is well and nobody counts requests; the probes that guard waits and watches with are enough."""
    trial = drillbook.trial()
    trial.make_live(drillbook.good)
    trial.replace((r"traffic = \{[^\n]*\}", 'traffic = { provider = "none" }'), ('probe_every = "1s"', SENT))
    process = trial.start("guard", "--next", "--json")
    until(lambda: asked_well(trial, drillbook.good), 30, "the path was asked of the good version", every_s=0.2)
    trial.make_live(drillbook.bad)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, err
    result = json.loads(out.splitlines()[-1])
    decision = result["decision"]
    assert (decision["verdict"], decision["cause"], decision["requests"]) == ("regressed", "health", 0)
    assert "probes failed against 1 %" in decision["reason"]
    assert result["live_version"] == drillbook.good


CHECKED = f"""[environments.production.guard.synthetic]
every = "200ms"
paths = ["{PATH}", "/"]

[[environments.production.guard.synthetic.checks]]
path = "/api/session"
status = [200, 401]
headers_env = {{ Authorization = "SMOKE" }}

[journal]"""
NOT_FOUND = """
import { createApp } from "./app.js";
export default createApp({
  around: (answer) => async (request, env, ctx) =>
    new URL(request.url).pathname === "/health" ? await answer(request, env, ctx) : new Response("no", { status: 404 }),
});
"""


@pytest.mark.long
def test_a_version_that_answers_404_is_found_beside_the_one_before(drillbook: Drillbook) -> None:
    """/health is well and no request is an error; guard asks the old version the same at 0 %, and rolls back.

    The credentials of a check reach the application, and no file and no line of guard's own.
    """
    file = FM5 / "src" / f"drill-{os.getpid()}.js"  # wrangler bundles what lies in the application's folder
    try:
        file.write_text(NOT_FOUND, encoding="utf-8")
        bad = drillbook.stage.deploy(f"../{file.stem}")
    finally:
        file.unlink()
    drillbook.await_a_clean_past()
    trial = drillbook.trial()
    secret = trial.folder / "credentials"
    secret.write_text(CANARIES["EMAIL_API_KEY"], encoding="utf-8")
    secret.chmod(0o600)
    trial.replace((r"\[journal\]", CHECKED))
    process = trial.start("guard", "--next", "--mode", "act", "--json", SMOKE_FILE=str(secret))
    until(lambda: asked_well(trial, drillbook.good), 30, "the path was asked of the good version", every_s=0.2)
    trial.make_live(bad)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, err
    result = json.loads(out.splitlines()[-1])
    assert (result["decision"]["verdict"], result["decision"]["cause"]) == ("regressed", "answers"), result
    assert "were asked side by side" in result["decision"]["reason"]
    assert result["live_version"] == drillbook.good
    secret.unlink()
    assert leaks_below(trial.folder) == []
    assert all(canary not in out + err for canary in CANARIES.values())
