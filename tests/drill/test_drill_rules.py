"""What of production's configuration holds in its simulation on the twin, and in which order drills go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.config import Environment, load
from backout.config.drills import UNGUARDED, order_drills
from backout.model.drill import DrillPlace
from backout.wiring.drills.catalogue import load_drills
from backout.wiring.drills.simulation import merge_rules, read_rules

if TYPE_CHECKING:
    from pathlib import Path

TOML = """\
[app]
name = "shop"
[environments.staging]
platform = { provider = "cloudflare", script = "y", account_id = "a" }
guard = { down_probes = 9 }
[environments.production]
platform = { provider = "cloudflare", script = "x", account_id = "a" }
services = { database = "critical", cache = "degradable" }
health = { url = "https://shop.example.com/health" }
criteria = { error_rate = { below = 0.02, for = "10m" }, watch = "15m", old_version_quiet = "2m" }
guard = { baseline = "1h", down_probes = 4, mode = "observe", vital = ["GET /pay"], synthetic = { paths = ["/pay"] } }
"""
TWIN = {
    "health": {"url": "http://x.localhost/health"},
    "services": {"database": "critical", "storage": "critical"},
    "criteria": {"error_rate": {"below": 0.01, "for": 3.0}, "watch": 40.0},
    "guard": {"mode": "act", "baseline": 15.0},
}


def test_thresholds_are_productions_and_places_and_times_are_not(tmp_path: Path) -> None:
    """Of the environment that was chosen, production where none was; services that the twin lacks are left out."""
    (tmp_path / "backout.toml").write_text(TOML, encoding="utf-8")
    for chosen in (None, "production"):
        rules = read_rules(load(Environment({}), start=tmp_path, environment=chosen))
        assert merge_rules(TWIN, rules) == {
            "health": {"url": "http://x.localhost/health"},
            "services": {"database": "critical", "storage": "critical"},
            "criteria": {"error_rate": {"below": 0.02, "for": 3.0}, "watch": 40.0},
            "guard": {"mode": "act", "baseline": 15.0, "down_probes": 4},
        }
    rules = read_rules(load(Environment({}), start=tmp_path, environment="staging"))
    assert rules["guard"] == {"down_probes": 9}
    assert merge_rules(TWIN, read_rules(None)) == TWIN


def test_after_one_that_spoils_the_past_comes_one_that_needs_none(tmp_path: Path) -> None:
    """All that are given, each once; while the others wait for nothing."""
    drills = load_drills(tmp_path)
    ordered = order_drills(drills)
    assert sorted(each.name for each in ordered) == sorted(each.name for each in drills)
    names = [each.name for each in ordered]
    calm = next(each for each in ordered[names.index("two-bad-targets") + 1 :])
    assert calm.file.procedure in UNGUARDED
    assert names.index("throws") < names.index("two-bad-targets")


def test_what_breaks_what_both_use_is_run_alone(tmp_path: Path) -> None:
    """Services, the API, database and bucket are those of every drill on the twin; a Worker is a drill's own."""
    drills = [each for each in load_drills(tmp_path) if each.file.environment is DrillPlace.TWIN]
    alone = {each.name for each in drills if each.file.needs_twin_alone}
    assert alone >= {"email-down", "api-limited", "token-revoked", "rows-corrupted", "objects-lost", "on-call-gone"}
    assert alone >= {"leaking-connections", "destructive-migration", "post-mortem-cloudflare-2019", "wal-gap"}
    assert alone >= {"slow-tail", "journal-lost"}  # how long answers take decides there
    assert not alone & {"throws", "blip-that-heals", "two-bad-targets", "rotated-secret", "no-traffic"}
