"""All four parts damaged at once, and one command: a real Postgres, a real S3 store, workerd; a ledger tells."""

from __future__ import annotations

import json
import shlex
import time
from typing import TYPE_CHECKING, Any

import pytest
from kept import template
from recovery_lab import Lab, opened
from recovery_night import Writer
from store_lab import Store, open_store

from backout.journal.sqlite import SqliteJournal
from backout.providers.clock import SystemClock

from arranged import api, upload
from extent import by_extent, drawn
from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import Record
    from drillbook import Drillbook, Trial

PRODUCTION = ("-m", "the night of the drill", "--confirm", "production")
OBJECTS = 30
LOST = "EMAIL_API_KEY"


@pytest.fixture
def drillbook(fresh_drillbook: Drillbook) -> Drillbook:
    """Return a stage of its own: these drills change the secrets of what is live."""
    return fresh_drillbook


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with opened(tmp_path_factory.mktemp("night"), template()) as made:
        with made.connect() as session:
            session.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'")
            session.execute("SELECT pg_reload_conf()")
            session.execute("DROP TABLE ticks")
            session.execute("CREATE ROLE app LOGIN CONNECTION LIMIT 40")
            session.execute("CREATE TABLE orders (id bigserial PRIMARY KEY, name text, total int DEFAULT 7)")
            session.execute("ALTER TABLE orders OWNER TO app")
        yield made


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with open_store(tmp_path_factory.mktemp("s3")) as found:
        yield found


def set_up(drillbook: Drillbook, lab: Lab, store: Store) -> tuple[Trial, str]:
    """Return a trial whose database, bucket and source of secrets are these, and the bucket."""
    trial, bucket = drillbook.trial(), store.make()
    own: dict[str, Path] = {}
    for name, text in (
        ("app-url", lab.dsn.replace("user=postgres", "user=app")),
        ("admin-url", lab.dsn),
        ("access.json", json.dumps(store.access)),
        ("secrets.json", json.dumps({LOST: "re_0123456789"})),
    ):
        own[name] = trial.folder / name
        own[name].touch(mode=0o600)
        own[name].write_text(text, encoding="utf-8")
    start, stop = map(shlex.join, lab.commands)
    database = (
        f'database = {{ provider = "postgres", url_file = "{own["app-url"]}", admin_url_file = "{own["admin-url"]}", '
        f'backup = {{ directory = "{trial.folder / "backups"}", wal = "stream" }}, '
        f"server = {{ data_directory = '{lab.data}', start = '''{start}''', stop = '''{stop}''' }} }}\n"
        f'storage = {{ provider = "s3", bucket = "{bucket}", credentials_file = "{own["access.json"]}" }}\n'
        f'secrets = {{ required = ["{LOST}"], source = {{ from = "file", path = "{own["secrets.json"]}" }} }}'
    )
    trial.replace((r"(?m)^database = .*$", database.replace("\\", "\\\\")), (r'watch = "\d+s"', 'watch = "8s"'))
    return trial, bucket


def put(store: Store, bucket: str, numbers: range, body: bytes) -> None:
    """Write objects as an application does."""
    for number in numbers:
        store.boto.put_object(Bucket=bucket, Key=f"models/{number:03}", Body=body)


def damage(drillbook: Drillbook, trial: Trial, lab: Lab, store: Store, bucket: str) -> str:
    """Damage all four parts at once, and return the bad version: it is live, and lacks a secret."""
    api(drillbook, "DELETE", f"secrets/{LOST}")
    bad = upload(trial, drillbook.bad, without=LOST)
    trial.make_live(bad)
    with lab.connect() as session:
        session.execute("ALTER TABLE orders DROP COLUMN total; UPDATE orders SET name = name || '!'")
    put(store, bucket, range(0, OBJECTS, 3), b"spoiled")
    for number in range(1, OBJECTS, 3):
        store.boto.delete_object(Bucket=bucket, Key=f"models/{number:03}")
    return bad


@pytest.mark.long
def test_a_night_in_which_everything_is_damaged(drillbook: Drillbook, lab: Lab, store: Store) -> None:
    """A bad version without its secret, a dropped column and spoiled rows, two thirds of the objects; under load."""
    trial, bucket = set_up(drillbook, lab, store)
    trial.make_live(drillbook.good)
    put(store, bucket, range(OBJECTS), b"good")
    assert trial.run("db", "wal", "start").code == 0
    drillbook.welcome()
    try:
        assert trial.run("db", "backup").code == 0
        with Writer(lab) as writer:
            until(lambda: len(writer.ledger) > 20, 30, "the application writes")
            began = time.time()
            assert trial.run("recover", "--mark", "before-import").code == 0
            ended, then = time.time(), store.list_live(bucket)
            time.sleep(2.2)
            damage(drillbook, trial, lab, store, bucket)
            time.sleep(1.2)
            assert LOST not in trial.tools().versions.detail(trial.live()).secret_names
            words = ("recover", "--to", "before-import", *PRODUCTION, "--also-back", "slot:lab", "--no-wait")
            shown = trial.run(*words, "--dry-run", "--json")
            assert shown.code == 0, shown.err
            done = trial.run(*words, "--json")
            assert done.code == 0, done.err
            time.sleep(0.5)
        found: dict[str, Any] = done.json
        assert (found["plan_hash"], found["verified"]) == (shown.json["plan_hash"], None)
        assert {name: part["action"] for name, part in found["parts"].items()} == {
            "code": "upload",
            "database": "swap",
            "objects": "restore",
            "secrets": "set",
        }
        check_ledger(trial, lab, writer, found["run_id"], (began, ended))
        assert store.list_live(bucket) == then
        live, good = (trial.tools().versions.detail(each) for each in (trial.live(), drillbook.good))
        assert live.code_hash == good.code_hash
        assert LOST in live.secret_names
        assert 0 < found["fenced_s"] < found["rto_s"]
        assert found["rpo"]["rows"] > 0
        assert found["rpo"]["objects"] == 2 * OBJECTS // 3
    finally:
        trial.run("db", "wal", "stop")
        drillbook.dismiss()


def check_ledger(trial: Trial, lab: Lab, writer: Writer, run_id: str, marked: tuple[float, float]) -> None:
    """No acknowledged write is lost that was made before the moment or since the opening, and none came through."""
    run = trial.tools().runs.find(run_id)
    rows = {str(name) for (name,) in lab.rows("SELECT name FROM orders")}
    fenced_at, opened_at = find_time(trial, run, "recover_fence"), find_time(trial, run, "recover_open", "step.start")
    assert {name for name, at in writer.ledger if at < marked[0]} <= rows
    assert not {name for name, at in writer.ledger if marked[1] < at <= fenced_at} & rows
    after = [(name, at) for name, at in writer.ledger if at > fenced_at]
    assert after
    assert {name for name, _ in after} <= rows
    assert min(at for _, at in after) > opened_at, "through the fence"
    assert lab.rows("SELECT count(*) FROM orders WHERE total IS NULL") == [(0,)]


def find_time(trial: Trial, run: Any, action: str, kind: str = "step.ok") -> float:
    """Return when a step of a run ended, or began, in Unix seconds."""
    place = next(number for number, step in enumerate(run.plan.steps) if step.action == action)
    events = trial.tools().journal.events(run=run.id, kind=kind)
    return next(event.at for event in events if event.step == place)


PHASES = (
    "db_side",
    "recover_maintenance",
    "recover_fence",
    "db_exchange",
    "db_start_server",
    "restore_objects",
    "recover_open",
    "recover_go_live",
)
"""Each is killed in once in so many days; in `make proof` five times each, 40 in all."""


@pytest.mark.long
@pytest.mark.rotating("recover kills", len(PHASES))
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("number", range(by_extent(1, 1, proof=5)))
@pytest.mark.parametrize("phase", PHASES)
def test_killed_in_a_phase_and_typed_again(
    drillbook: Drillbook, lab: Lab, store: Store, phase: str, number: int, proof: Record
) -> None:
    """Kill -9 in that step; typed again it ends as if nothing had been, and no write came through the fence."""
    chance = drawn(f"recover {phase} {number}")
    trial, bucket = set_up(drillbook, lab, store)
    trial.make_live(drillbook.good)
    put(store, bucket, range(OBJECTS), b"good")
    assert trial.run("db", "wal", "start").code == 0
    try:
        assert trial.run("db", "backup").code == 0
        with Writer(lab) as writer:
            until(lambda: len(writer.ledger) > 20, 30, "the application writes")
            began = time.time()
            assert trial.run("recover", "--mark", "before-import").code == 0
            ended, then = time.time(), store.list_live(bucket)
            time.sleep(2.2)
            damage(drillbook, trial, lab, store, bucket)
            time.sleep(1.2)
            words = ("recover", "--to", "before-import", *PRODUCTION, "--also-back", "slot:lab", "--no-wait")
            kill_in(trial, phase, words, chance.random() / 5)
            done = trial.run("recover", "--json")
            assert done.code in (0, 2), done.err  # 2: it was done before
            time.sleep(0.5)
        run = trial.newest()
        assert run["state"] == "done", (phase, number)
        check_ledger(trial, lab, writer, run["run_id"], (began, ended))
        assert store.list_live(bucket) == then
    finally:
        trial.run("db", "wal", "stop")
    proof(
        f"a recovery on real parts killed with -9 in {phase}, then typed again: same end, no acknowledged write lost",
        trials=1,
        failures=0,
    )


def kill_in(trial: Trial, phase: str, words: tuple[str, ...], after_s: float) -> None:
    """Begin a recovery, and kill it so many seconds after a step has begun."""
    process = trial.start(*words)
    journal = SqliteJournal(trial.folder / "journal.sqlite", SystemClock())

    def has_begun() -> bool:
        begun = journal.events(environment="production", kind="step.start")
        return process.poll() is not None or any(event.data.get("action") == phase for event in begun)

    until(has_begun, 300, f"{phase} begins", every_s=0.1)
    time.sleep(after_s)
    process.kill()
    process.communicate()
    journal.close()
