"""All four parts damaged at once on a host behind a real Caddy, and one command: a real Postgres, a real S3 store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from caddy_home import caddy_home, wait_for_visits
from recovery_night import Writer
from recovery_stage import (
    LOST,
    OBJECTS,
    RECOVER,
    check_ledger,
    damage_data,
    describe_parts,
    mark_point,
    open_lab,
    put,
)
from store_lab import open_store

from backout.model.clock import to_utc

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Record


def test_code_goes_back_behind_a_page_that_is_in_no_count_and_no_target(tmp_path: Path) -> None:
    """Caddy answers 503 meanwhile; afterwards neither a rollback nor a prune takes the page for a release of ours."""
    with caddy_home(tmp_path) as shop:
        first, then, second = shop.push("one").json["live"], time.time(), shop.push("two").json["live"]
        words = ("recover", "--to", to_utc(then).isoformat(), "-m", "the wrong release", "--confirm", "production")
        plan = shop.run(*words, "--dry-run").out
        assert "show the maintenance page: 503 to every request" in plan
        assert f"unix/{shop.host.releases.folder}/.503.sock" in plan
        with shop.visited() as answers:
            wait_for_visits(answers, 10)
            found = shop.run(*words, "--no-wait", "--json").json
            opened = len(answers)
            wait_for_visits(answers, opened + 20)
        tools = shop.tools()
        listed = tools.versions.recent()
        live = tools.deployments.history()[0]
        assert tools.versions.detail(live.main).code_hash == tools.versions.detail(str(first)).code_hash
        assert [each.is_maintenance for each in tools.deployments.history()][:4] == [False, True, True, False]
        assert set(answers[opened + 2 :]) == {(200, live.main)}
        assert {status for status, _ in answers} <= {200, 503}
        (page,) = [each.id for each in listed if each.is_maintenance]
        assert found["parts"]["code"]["action"] == "upload"  # type: ignore[index]
        gone = shop.run("release", "prune", "--keep", "0", "--json").json["removed"]
        assert {str(each["id"]) for each in gone} == {page, first}  # type: ignore[attr-defined]
        refused = shop.run("rollback", page, "-m", "to a page", code=None)
        assert refused.code != 0
        assert second in [each["id"] for each in shop.run("release", "list", "--json").json["releases"]]  # type: ignore[attr-defined]


@pytest.mark.long
@pytest.mark.rotating("caddy recover", 3)
@pytest.mark.proof
@pytest.mark.timeout(1200)
def test_a_night_in_which_everything_is_damaged_behind_caddy(tmp_path: Path, proof: Record) -> None:
    """A bad release without its secret, a dropped column and spoiled rows, two thirds of the objects; with visitors."""
    folder = tmp_path / "shop"
    folder.mkdir()
    with open_lab(tmp_path / "lab") as lab, open_store(tmp_path / "s3") as store:
        bucket = store.make()
        with caddy_home(folder, describe_parts(folder, lab, store, bucket), watch="8s", apart=True) as shop:
            shop.push("good")
            shop.run("secrets", "push", "-m", "the first values", "--yes")
            good = shop.tools().versions.detail(shop.tools().deployments.history()[0].main)
            assert LOST in good.secret_names
            put(store, bucket, range(OBJECTS), b"good")
            shop.run("db", "wal", "start")
            try:
                shop.run("db", "backup")
                with shop.visited() as answers, Writer(lab) as writer:
                    marked, then = mark_point(shop, writer), store.list_live(bucket)
                    shop.push_without_secrets("bad")
                    damage_data(lab, store, bucket)
                    time.sleep(1.2)
                    shown = shop.run(*RECOVER, "--dry-run", "--json").json
                    done = shop.run(*RECOVER, "--json")
                    opened = len(answers)
                    wait_for_visits(answers, opened + 50)
            finally:
                shop.run("db", "wal", "stop", code=None)
            found: dict[str, Any] = done.json
            assert (found["plan_hash"], found["verified"]) == (shown["plan_hash"], None)
            assert {name: part["action"] for name, part in found["parts"].items()} == {
                "code": "upload",
                "database": "swap",
                "objects": "restore",
                "secrets": "set",
            }
            check_ledger(shop, lab, writer, found["run_id"], marked)
            assert store.list_live(bucket) == then
            tools = shop.tools()
            live = tools.versions.detail(tools.deployments.history()[0].main)
            assert (live.code_hash, LOST in live.secret_names) == (good.code_hash, True)
            assert 0 < found["fenced_s"] < found["rto_s"]
            assert {status for status, _ in answers[:opened]} == {200, 500, 503}
            assert set(answers[opened + 2 :]) == {(200, live.id)}
            refused = [number for number, (status, _) in enumerate(answers) if status == 503]
            assert {status for status, _ in answers[refused[0] : refused[-1]]} == {503}, "the page, and nothing else"
            assert not any(each.is_maintenance for each in tools.deployments.history()[:1])
            assert shop.run("release", "list", "--json").json["releases"]
    proof(
        "a night in which everything is damaged, behind Caddy: nobody gets anything but the page meanwhile",
        trials=1,
        failures=0,
        note=f"fenced {found['fenced_s']:.1f} s, RTO {found['rto_s']:.1f} s, RPO {found['rpo']['seconds']:.1f} s",
    )
