"""A trial with a real database, bucket and secrets of its own, the damage to all of them, and what a ledger tells."""

from __future__ import annotations

import contextlib
import json
import shlex
import time
from typing import TYPE_CHECKING, Protocol

from kept import template
from recovery_lab import Lab, opened

from backout.journal.sqlite import SqliteJournal
from backout.providers.clock import SystemClock

from arranged import api, upload
from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from recovery_night import Writer
    from store_lab import Store

    from backout.runbook.toolbox import Toolbox

    from drillbook import Drillbook, Trial


class Ended(Protocol):
    """How a command ended."""

    @property
    def code(self) -> int:
        """Its exit code."""


class Place(Protocol):
    """An environment that commands are run in, on any platform."""

    def tools(self) -> Toolbox:
        """Return its tools, in this process."""

    def run(self, *words: str) -> Ended:
        """Run a command to its end."""


PRODUCTION = ("-m", "the night of the drill", "--confirm", "production")
RECOVER = ("recover", "--to", "before-import", *PRODUCTION, "--also-back", "slot:lab", "--no-wait")
OBJECTS = 30
LOST = "EMAIL_API_KEY"


@contextlib.contextmanager
def open_lab(folder: Path) -> Iterator[Lab]:
    """Start a Postgres with the application's table and role, for the length of a `with` block."""
    with opened(folder, template()) as made:
        with made.connect() as session:
            session.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'")
            session.execute("SELECT pg_reload_conf()")
            session.execute("DROP TABLE ticks")
            session.execute("CREATE ROLE app LOGIN CONNECTION LIMIT 40")
            session.execute("CREATE TABLE orders (id bigserial PRIMARY KEY, name text, total int DEFAULT 7)")
            session.execute("ALTER TABLE orders OWNER TO app")
        yield made


def set_up(drillbook: Drillbook, lab: Lab, store: Store) -> tuple[Trial, str]:
    """Return a trial whose database, bucket and source of secrets are these, and the bucket."""
    trial, bucket = drillbook.trial(), store.make()
    parts = describe_parts(trial.folder, lab, store, bucket)
    trial.replace((r"(?m)^database = .*$", parts.replace("\\", "\\\\")), (r'watch = "\d+s"', 'watch = "8s"'))
    return trial, bucket


def describe_parts(folder: Path, lab: Lab, store: Store, bucket: str) -> str:
    """Return the lines of an environment whose database, bucket and source of secrets are these."""
    own: dict[str, Path] = {}
    for name, text in (
        ("app-url", lab.dsn.replace("user=postgres", "user=app")),
        ("admin-url", lab.dsn),
        ("access.json", json.dumps(store.access)),
        ("secrets.json", json.dumps({LOST: "re_0123456789"})),
    ):
        own[name] = folder / name
        own[name].touch(mode=0o600)
        own[name].write_text(text, encoding="utf-8")
    start, stop = map(shlex.join, lab.commands)
    return (
        f'database = {{ provider = "postgres", url_file = "{own["app-url"]}", admin_url_file = "{own["admin-url"]}", '
        f'backup = {{ directory = "{folder / "backups"}", wal = "stream" }}, '
        f"server = {{ data_directory = '{lab.data}', start = '''{start}''', stop = '''{stop}''' }} }}\n"
        f'storage = {{ provider = "s3", bucket = "{bucket}", credentials_file = "{own["access.json"]}" }}\n'
        f'secrets = {{ required = ["{LOST}"], source = {{ from = "file", path = "{own["secrets.json"]}" }} }}'
    )


def put(store: Store, bucket: str, numbers: range, body: bytes) -> None:
    """Write objects as an application does."""
    for number in numbers:
        store.boto.put_object(Bucket=bucket, Key=f"models/{number:03}", Body=body)


def damage(drillbook: Drillbook, trial: Trial, lab: Lab, store: Store, bucket: str) -> str:
    """Damage all four parts at once, and return the bad version: it is live, and lacks a secret."""
    api(drillbook, "DELETE", f"secrets/{LOST}")
    bad = upload(trial, drillbook.bad, without=LOST)
    trial.make_live(bad)
    damage_data(lab, store, bucket)
    return bad


def damage_data(lab: Lab, store: Store, bucket: str) -> None:
    """Damage the rows, and two thirds of the objects."""
    with lab.connect() as session:
        session.execute("ALTER TABLE orders DROP COLUMN total; UPDATE orders SET name = name || '!'")
    put(store, bucket, range(0, OBJECTS, 3), b"spoiled")
    for number in range(1, OBJECTS, 3):
        store.boto.delete_object(Bucket=bucket, Key=f"models/{number:03}")


@contextlib.contextmanager
def begin_night(drillbook: Drillbook, trial: Trial, store: Store, bucket: str) -> Iterator[None]:
    """Have everything good, with WAL that is streamed and a base backup, for the length of a `with` block."""
    trial.make_live(drillbook.good)
    put(store, bucket, range(OBJECTS), b"good")
    assert trial.run("db", "wal", "start").code == 0
    try:
        assert trial.run("db", "backup").code == 0
        yield
    finally:
        trial.run("db", "wal", "stop")


def mark_point(trial: Place, writer: Writer) -> tuple[float, float]:
    """Record the point `before-import` while the application writes; return when, from and to (Unix seconds)."""
    until(lambda: len(writer.ledger) > 20, 30, "the application writes")
    began = time.time()
    assert trial.run("recover", "--mark", "before-import").code == 0
    ended = time.time()
    time.sleep(2.2)
    return began, ended


def check_ledger(trial: Place, lab: Lab, writer: Writer, run_id: str, marked: tuple[float, float]) -> None:
    """No acknowledged write is lost that was made before the moment or since the opening, and none came through."""
    rows = {str(name) for (name,) in lab.rows("SELECT name FROM orders")}
    fenced_at = find_times(trial, run_id, "recover_fence", "step.ok")[-1]
    opened_at = find_times(trial, run_id, "recover_open")[0]
    assert {name for name, at in writer.ledger if at < marked[0]} <= rows
    assert not {name for name, at in writer.ledger if marked[1] < at <= fenced_at} & rows
    after = [(name, at) for name, at in writer.ledger if at > fenced_at]
    assert after
    assert {name for name, _ in after} <= rows
    assert min(at for _, at in after) > opened_at, "through the fence"
    assert lab.rows("SELECT count(*) FROM orders WHERE total IS NULL") == [(0,)]


def find_times(trial: Place, run: str, action: str, kind: str = "step.start") -> list[float]:
    """Return when a step of a run began, or ended, each time (Unix seconds); none: it has no such step."""
    tools = trial.tools()
    found = tools.runs.find(run)
    assert found is not None
    places = {number for number, step in enumerate(found.plan.steps) if step.action == action}
    return [event.at for event in tools.journal.events(run=run, kind=kind) if event.step in places]


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


def check_once(trial: Trial, good: str, run: str) -> None:
    """Each effect of a recovery at the platform was made once: the page, the upload, the target at 0 %, the switch."""
    tools = trial.tools()
    listed = [tools.versions.detail(each.id) for each in tools.versions.recent()]
    code = tools.versions.detail(good).code_hash
    assert sum(each.is_maintenance for each in listed) == 1
    assert sum(each.code_hash == code for each in listed) == 3, "of then, the same without its secret, one upload"
    assert sum(run in str(each.message) for each in tools.deployments.history()) == 3


def check_taken_back(trial: Trial, lab: Lab, writer: Writer, run: str) -> None:
    """Everything that was acknowledged until the fence of a run that was taken back is there; none came through it."""
    rows = {str(name).removesuffix("!") for (name,) in lab.rows("SELECT name FROM orders")}
    fenced_at = find_times(trial, run, "recover_fence", "step.ok")
    kept = [name for name, at in writer.ledger if not fenced_at or at <= fenced_at[0]]
    assert set(kept) <= rows
    undo = trial.newest()["run_id"]
    opened_at = find_times(trial, run, "recover_open") + find_times(trial, undo, "recover_open")
    if fenced_at and opened_at:
        assert not [name for name, at in writer.ledger if fenced_at[0] < at < min(opened_at)], "through the fence"
    assert writer.write("after it was taken back"), "the application writes again"
    assert lab.rows("SELECT count(*) FROM information_schema.columns WHERE column_name = 'total'") == [(0,)]
