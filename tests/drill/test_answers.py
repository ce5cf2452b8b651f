"""Answers on real parts: a health endpoint that is gone, a person's word, an old version that is held back."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest

from fm5_app import FM5

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drillbook import Drillbook

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
    wrong = trial.run("guard", "accept", "GET:/:404", "-m", "why not", "--json")
    assert wrong.code == 2
    assert "endpoint:health" in wrong.err + wrong.out
    done = trial.run("guard", "accept", "endpoint:health", "-m", "it moved to /up", "--json")
    assert done.code == 0, done.err
    assert (done.json["action"], done.json["remaining"]) == ("stable", [])
    assert done.json["provider_mark"]["deployment"]
    listed = trial.run("deployments", "list", "--json").json["deployments"]
    assert any(each["remark"] == "stable" and "accepted endpoint:health" in each["message"] for each in listed)


@pytest.mark.long
def test_an_old_version_keeps_a_part_of_a_cut_over_for_its_first_minutes(drillbook: Drillbook) -> None:
    """90 and 10 % at the provider, visitors on both, then everything for the new one, which is marked stable."""
    new = drillbook.stage.deploy("good-2")
    drillbook.await_a_clean_past()
    trial = drillbook.trial().replace((r"\[journal\]", "[environments.production.guard.synthetic]\n\n[journal]"))
    trial.replace(('probe_every = "1s"', 'probe_every = "1s"\nholdback = 10'))
    trial.make_live(new)
    ended = trial.run("guard", "--mode", "act", "--json", timeout_s=240)
    assert ended.code == 0, ended.err
    assert ended.json["action"] == "stable"
    assert ended.json["live_version"] == new
    listed = trial.run("deployments", "list", "--json").json["deployments"]
    shares = [{s["version"]: s["percentage"] for s in d["versions"]} for d in listed if d["remark"] is None]
    assert shares[:2] == [{new: 100}, {new: 90, drillbook.good: 10}]
