"""What guard asks itself, on real parts: versions that fail where nobody counts, /health that is gone, a holdback."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING

import pytest
from canaries import CANARIES, leaks_below

from backout.model.plan import PlanKind

from fm5_app import FM5
from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drillbook import Drillbook, Trial

pytestmark = pytest.mark.rotating("synthetic requests", 3)

PATH = "/api/models"
SENT = f'probe_every = "1s"\nsynthetic = {{ every = "200ms", paths = ["{PATH}", "/"] }}'


def recorded_pairs(trial: Trial) -> dict[str, int]:
    """Return what the journal has of the pairs of the newest watch: {what they said of the new version: how many}."""
    tools = trial.tools()
    watch = next(run for run in tools.runs.runs("production") if run.plan.kind is PlanKind.GUARD)
    kept = tools.checkpoints.load_checkpoint("production", "looks")
    assert isinstance(kept, dict)
    assert kept["run"] == watch.id
    return dict(kept["looks"]["shifts"]["pairs"]["compared"])  # type: ignore[call-overload,index,arg-type]


@pytest.mark.long
def test_a_route_that_fails_is_found_without_any_source_of_counts(drillbook: Drillbook) -> None:
    """Health is well and nobody counts requests; the probes that guard waits and watches with are enough."""
    trial = drillbook.trial()
    trial.make_live(drillbook.good)
    trial.replace((r"traffic = \{[^\n]*\}", 'traffic = { provider = "none" }'), ('probe_every = "1s"', SENT))
    process = trial.start("guard", "--next", "--json")
    until(lambda: trial.is_known_well(drillbook.good, [PATH]), 30, "the path is answered well", every_s=0.2)
    trial.make_live(drillbook.bad)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, err
    result = json.loads(out.splitlines()[-1])
    decision = result["decision"]
    assert (decision["verdict"], decision["cause"], decision["requests"]) == ("regressed", "health", 0)
    assert "probes failed against 1" in decision["reason"]  # 1 %, or a little more where few were sent before
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
    until(lambda: trial.is_known_well(drillbook.good, [PATH]), 30, "the path is answered well", every_s=0.2)
    trial.make_live(bad)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, err
    result = json.loads(out.splitlines()[-1])
    assert (result["decision"]["verdict"], result["decision"]["cause"]) == ("regressed", "answers"), result
    compared = recorded_pairs(trial)  # whichever was sure first, both versions were asked
    assert compared.pop("new worse") >= 1
    assert set(compared.values()) == {0}
    assert result["live_version"] == drillbook.good
    secret.unlink()
    assert leaks_below(trial.folder) == []
    assert all(canary not in out + err for canary in CANARIES.values())


WITHOUT_HEALTH = """
import { createApp } from "./app.js";
export default createApp({ routes: { "GET /health": () => new Response("<p>gone</p>", {
  status: 404, headers: { "content-type": "text/html" } }) } });
"""


@contextlib.contextmanager
def variant(text: str) -> Iterator[str]:
    """Lay a variant into the application's folder, where wrangler bundles, until the block ends."""
    file = FM5 / "src" / f"drill-answers-{os.getpid()}.js"
    try:
        file.write_text(text, encoding="utf-8")
        yield f"../{file.stem}"
    finally:
        file.unlink()


@pytest.mark.long
def test_a_health_endpoint_that_is_gone_is_held_and_a_person_ends_that(drillbook: Drillbook) -> None:
    """Every request is answered, /health is 404: exit 3 with both ways out; accepted, it is stable on every machine."""
    with variant(WITHOUT_HEALTH) as name:
        bad = drillbook.stage.deploy(name)
    drillbook.await_a_clean_past()
    trial = drillbook.trial()
    trial.make_live(bad)
    ended = trial.run("guard", "--mode", "act", "--json")
    assert ended.code == 3, ended.err
    result = ended.json if "verdict" in ended.json else {}
    assert "answers 404 now" in ended.out
    assert "backout guard accept endpoint:health" in ended.out
    assert result.get("live_version", bad) == bad
    for wrong in (trial.run("guard", "accept"), trial.run("guard", "accept", "GET:/:404", "-m", "why not", "--json")):
        assert wrong.code == 2
        assert "endpoint:health" in wrong.err + wrong.out
    done = trial.run("guard", "accept", "endpoint:health", "-m", "it moved to /up", "--json")
    assert done.code == 0, done.err
    assert (done.json["action"], done.json["remaining"]) == ("stable", [])
    assert done.json["provider_mark"]["deployment"]
    listed = trial.run("deployments", "list", "--json").json["deployments"]
    assert any(each["remark"] == "stable" and "accepted endpoint:health" in each["message"] for each in listed)
    typed = [each["text"] for each in trial.run("timeline", "--json").json["events"] if each["kind"] == "command"]
    assert [text for text in typed if text.startswith("shift endpoint:health ") and text.endswith(": it moved to /up")]
    report = str(trial.run("incident", "show", "--json").json["markdown"])
    assert "accepted the shift `endpoint:health` of version" in report.split("## Root Cause", maxsplit=1)[0]
    assert ": it moved to /up" in report.split("## Resolution")[1]


@pytest.mark.long
def test_an_old_version_keeps_a_part_of_a_cut_over_for_its_first_minutes(drillbook: Drillbook) -> None:
    """90 and 10 % at the provider, visitors on both, then everything for the new one, which is marked stable."""
    new = drillbook.deploy("good-2")
    drillbook.await_a_clean_past()
    trial = drillbook.trial().replace((r"\[journal\]", "[environments.production.guard.synthetic]\n\n[journal]"))
    trial.replace(('probe_every = "1s"', 'probe_every = "1s"\nholdback = 10'))
    trial.make_live(new)
    ended = trial.run("guard", "--mode", "act", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["action"] == "stable"
    assert ended.json["live_version"] == new
    listed = trial.run("deployments", "list", "--json").json["deployments"]
    shares = [{s["version"]: s["percentage"] for s in d["versions"]} for d in listed if d["remark"] is None]
    assert shares[:2] == [{new: 100}, {new: 90, drillbook.good: 10}]
