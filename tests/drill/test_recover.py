"""All four parts damaged at once, and one command: a real Postgres, a real S3 store, workerd; a ledger tells."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from recovery_night import Writer
from recovery_stage import (
    LOST,
    OBJECTS,
    PRODUCTION,
    RECOVER,
    begin_night,
    check_ledger,
    damage,
    find_times,
    kill_in,
    mark_point,
    open_lab,
    put,
    set_up,
)
from store_lab import Store, open_store

from extent import by_extent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from recovery_lab import Lab

    from conftest import Record
    from drillbook import Drillbook, Trial

MOST_FENCED_S = 30.0
ALONE = ("recover", "--to", "before-import", "--only", "objects", *PRODUCTION, "--no-wait")
ROWS = by_extent(0, 0, proof=6_600_000)
"""Of a table beside the application's own: in `make proof` so many that the database has 1 GB."""


@pytest.fixture
def drillbook(fresh_drillbook: Drillbook) -> Drillbook:
    """Return a stage of its own: the drill changes the secrets of what is live."""
    return fresh_drillbook


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with open_lab(tmp_path_factory.mktemp("night")) as made:
        yield made


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(tmp_path_factory.mktemp("s3")) as found:
        yield found


def fill(lab: Lab, rows: int) -> int:
    """Make a table of so many rows, as pgbench has them; return how large the database is, in bytes."""
    with lab.connect() as session:
        session.execute(
            "CREATE TABLE accounts AS SELECT number AS aid, number / 100 AS bid, 0 AS abalance, "
            "repeat(' ', 84)::char(84) AS filler FROM generate_series(1, %s) AS number",
            [rows],
        )
        session.execute("ALTER TABLE accounts ADD PRIMARY KEY (aid)")
        session.execute("ALTER TABLE accounts OWNER TO app")
    ((size,),) = lab.rows("SELECT pg_database_size(current_database())")
    return int(size)


def list_longest(trial: Trial, run: str, most: int = 4) -> str:
    """Return which steps took longest while nobody could write, each with its seconds."""
    found = trial.tools().runs.find(run)
    assert found is not None
    actions = [step.action for step in found.plan.steps]
    behind = actions[actions.index("recover_fence") : actions.index("recover_open") + 1]
    took = {
        action: find_times(trial, run, action, "step.ok")[-1] - find_times(trial, run, action)[0]
        for action in dict.fromkeys(behind)
    }
    return ", ".join(
        f"{action} {took[action]:.1f} s" for action in sorted(took, key=took.__getitem__)[: -most - 1 : -1]
    )


@pytest.mark.long
@pytest.mark.proof
@pytest.mark.timeout(2400)
def test_a_night_in_which_everything_is_damaged(drillbook: Drillbook, lab: Lab, store: Store, proof: Record) -> None:
    """A bad version without its secret, a dropped column and spoiled rows, two thirds of the objects; under load."""
    trial, bucket = set_up(drillbook, lab, store)
    size = fill(lab, ROWS)
    drillbook.welcome()
    with begin_night(drillbook, trial, store, bucket):
        with Writer(lab) as writer:
            marked, then = mark_point(trial, writer), store.list_live(bucket)
            damage(drillbook, trial, lab, store, bucket)
            time.sleep(1.2)
            assert LOST not in trial.tools().versions.detail(trial.live()).secret_names
            shown = trial.run(*RECOVER, "--dry-run", "--json")
            assert shown.code == 0, shown.err
            done = trial.run(*RECOVER, "--json", timeout_s=1200)
            assert done.code == 0, done.err
            time.sleep(0.5)
        found: dict[str, Any] = done.json
        assert (found["plan_hash"], found["verified"]) == (shown.json["plan_hash"], None), shown.out
        assert {name: part["action"] for name, part in found["parts"].items()} == {
            "code": "upload",
            "database": "swap",
            "objects": "restore",
            "secrets": "set",
        }
        check_ledger(trial, lab, writer, found["run_id"], marked)
        assert store.list_live(bucket) == then
        live, good = (trial.tools().versions.detail(each) for each in (trial.live(), drillbook.good))
        assert live.code_hash == good.code_hash
        assert LOST in live.secret_names
        assert 0 < found["fenced_s"] < found["rto_s"]
        assert found["rpo"]["rows"] > 0
        listed = [each["table"] for each in found["lost"] or ()]
        assert listed in ([], ["public.orders"]), "by key, or the machine is so busy that they are only counted"
        longest = list_longest(trial, found["run_id"])
        assert found["rpo"]["objects"] == 2 * OBJECTS // 3
    drillbook.dismiss()
    rpo = found["rpo"]
    proof(
        f"a night in which everything is damaged: nobody writes for {MOST_FENCED_S:g} s at most, and what was written "
        "since is listed by key",
        trials=1,
        failures=int(found["fenced_s"] > MOST_FENCED_S or not listed),
        note=f"a database of {size / 1e9:.2f} GB: fenced {found['fenced_s']:.1f} s, RTO {found['rto_s']:.1f} s, RPO "
        f"{rpo['seconds']:.1f} s ({rpo['rows']} rows, {rpo['objects']} objects); behind the fence: {longest}",
    )


@pytest.mark.rotating("recoveries without versions", 3)
@pytest.mark.long
@pytest.mark.timeout(1200)
def test_the_objects_of_a_bucket_without_versions_go_back_and_come_again(drillbook: Drillbook, store: Store) -> None:
    """Killed while it brings them back, it is taken back; and once more when it came to its end."""
    trial, bucket = drillbook.trial(), store.make(versions=False)
    for name, text in (("access.json", json.dumps(store.access)), ("key", "k" * 40)):
        (trial.folder / name).touch(mode=0o600)
        (trial.folder / name).write_text(text, encoding="utf-8")
    storage = (
        f'storage = {{ provider = "s3", bucket = "{bucket}", history = "{store.make(versions=False)}", '
        f'credentials_file = "{trial.folder / "access.json"}", history_key_file = "{trial.folder / "key"}" }}'
    )
    trial.replace((r"(?m)^database = .*$", storage), (r'watch = "\d+s"', 'watch = "8s"'))
    trial.make_live(drillbook.good)
    put(store, bucket, range(OBJECTS), b"good")
    good = store.list_live(bucket)
    time.sleep(1.1)
    assert trial.run("objects", "snapshot").code == 0
    assert trial.run("recover", "--mark", "before-import").code == 0
    time.sleep(2.2)
    put(store, bucket, range(OBJECTS // 3), b"spoiled")
    put(store, bucket, range(OBJECTS, OBJECTS + 3), b"created")
    store.boto.delete_object(Bucket=bucket, Key=f"models/{OBJECTS - 1:03}")
    damaged = store.list_live(bucket)
    kill_in(trial, "restore_objects", ALONE, 0.05)
    undone = trial.run("recover", "--undo", *PRODUCTION, "--no-wait", "--json")
    assert undone.code == 0, undone.err
    assert store.list_live(bucket) == damaged
    done = trial.run(*ALONE, "--json")
    assert done.code == 0, done.err
    assert store.list_live(bucket) == good
    time.sleep(1.1)
    undone = trial.run("runs", "undo", done.json["run_id"], *PRODUCTION, "--json")
    assert undone.code == 0, undone.err
    assert undone.json["parts"]["objects"]["action"] == "undo"
    assert store.list_live(bucket) == damaged
