"""Synthetic requests on real parts: a version that fails where nobody counts is found by what guard asks itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

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
