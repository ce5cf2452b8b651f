"""Damaged data: rows and objects are damaged on purpose, brought back by the real commands, and read again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from backout.analysis.drills import BadAnswers, find_bad
from backout.decoding import decode_json
from backout.errors import BackoutError
from backout.model.drill import DrillAction, Loss, Measured
from backout.providers.clock import SystemClock
from backout.providers.s3.client import S3Client
from backout.providers.s3.sigv4 import S3Credentials
from backout.providers.s3.transport import S3Settings
from backout.report.times import format_time
from backout.wiring.drills.witness import Witness

if TYPE_CHECKING:
    from backout.twin.lifecycle import TwinStatus
    from backout.wiring.drills.deployment import Scene
    from backout.wiring.drills.ground import Ground
    from backout.wiring.drills.trial import Ended

BUCKET: Final = "fm5-models"
_OBJECTS: Final = 40
_APART_S: Final = 2.2
"""The store tells versions apart by whole seconds."""
_TRIES: Final = 15
_WHY: Final = ("-m", "a drill", "--confirm", "production")


class _AccessKey(msgspec.Struct):
    access_key_id: str
    secret_access_key: str


def make_storage(ground: Ground) -> dict[str, object]:
    """Return the tables of an environment whose bucket can be brought back."""
    return {
        "storage": {"provider": "s3", "bucket": BUCKET, "credentials_file": str(ground.twin.s3_credentials_file)},
    }


def make_backups(ground: Ground) -> dict[str, object]:
    """Return the tables of an environment whose database is backed up into a folder."""
    stage = ground.directory / "stage"
    backup = {"directory": str(ground.directory / "backups"), "wal": "stream"}
    url = {"provider": "postgres", "url_file": str(stage / "database-url"), "migrations": "prisma"}
    return {"database": {**url, "backup": backup}}


def perform_lost_objects(scene: Scene) -> Measured:
    """Delete a half of the bucket's objects and overwrite the other half, and bring them back to the moment before.

    Raises:
        BackoutError: the objects could not be damaged.
    """
    names = [f"drill/{number:03}" for number in range(_OBJECTS)]
    with open_bucket(scene.ground.twin) as bucket:
        bucket.set_versioning(BUCKET, enabled=True)
        for name in names:
            bucket.put(BUCKET, name, name.encode())
        time.sleep(_APART_S)
        moment = format_time(int(time.time()))[:19].replace("T", " ")
        time.sleep(_APART_S)
        with Witness(scene.ground.stage) as witness:
            damaged_at = time.time()
            for number, name in enumerate(names):
                if number % 2:
                    bucket.delete(BUCKET, name)
                else:
                    bucket.put(BUCKET, name, b"overwritten")
            scene.say(f"deleted and overwrote {_OBJECTS} objects")
            time.sleep(_APART_S)
            over = format_time(int(time.time()))[:19].replace("T", " ")
            time.sleep(_APART_S)
            began = time.time()
            ended = scene.trial.run("objects", "restore", "--to", moment, "--until", over, *_WHY, "--json")
            restored_at = time.time()
        wrong = [name for name in names if read_object(bucket, name) != name.encode()]
    loss = witness.measure_loss()
    found = replace(loss, objects=(loss.objects or 0) + len(wrong))
    return tell(scene, ended, (damaged_at, began, restored_at), found)


def perform_corrupted_rows(scene: Scene) -> Measured:
    """Overwrite a column of all orders in one transaction, and rescue the rows while the application goes on writing.

    Raises:
        BackoutError: the backups that this rests on could not be made.
    """
    stage, trial = scene.ground.stage, scene.trial
    stage.query("ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'")
    stage.query("SELECT pg_catalog.pg_reload_conf()")
    receiver = trial.start("db", "wal", "run", "--json")
    try:
        taken = trial.run("db", "backup", "--full", "--json")
        if taken.code != 0:
            raise BackoutError(f"no base backup: {taken.err.strip()[-500:]}", where=scene.drill.name)
        scene.say("took a base backup")
        with Witness(stage) as witness:
            while len(witness.rows) < 3:
                time.sleep(0.2)
            before = {row[0]: row[1] for row in stage.query("SELECT id, total_cents FROM public.orders")}
            damaged_at = time.time()
            (found, *_) = stage.query(
                "WITH bad AS (UPDATE public.orders SET total_cents = -1 RETURNING id) "
                "SELECT pg_current_xact_id()::text, count(*) FROM bad"
            )
            scene.say(f"overwrote {found[1]} rows")
            began = time.time()
            ended = _rescue(scene, str(found[0]))
            restored_at = time.time()
        now = {row[0]: row[1] for row in stage.query("SELECT id, total_cents FROM public.orders")}
    finally:
        receiver.kill()
        trial.run("db", "wal", "stop", "--json")
    wrong = sum(now.get(key) != total for key, total in before.items())
    loss = witness.measure_loss()
    return tell(scene, ended, (damaged_at, began, restored_at), replace(loss, rows=(loss.rows or 0) + wrong))


def _rescue(scene: Scene, transaction: str) -> Ended:
    """Rescue what a transaction damaged; its WAL is received in some seconds, as the refusal says before that."""
    for _ in range(_TRIES):
        ended = scene.trial.run("db", "restore", transaction, *_WHY, "--json")
        if ended.record.get("rule") != "preflight":
            break
        time.sleep(1)
    return ended


def tell(scene: Scene, ended: Ended, times: tuple[float, float, float], loss: Loss) -> Measured:
    """Return what a recovery did.

    Args:
        times: of the damage, of the beginning of the recovery and of its end, Unix seconds.
        loss: what is not there, or wrong, after it.
    """
    damaged_at, began, restored_at = times
    record = ended.record
    bad = find_bad(scene.visits, BadAnswers(), damaged_at, restored_at)
    recovered = ended.code == 0 and record.get("verified") is not False
    return Measured(
        action=DrillAction.RECOVER if recovered else DrillAction.REFUSE,
        decide_s=round(began - damaged_at, 3),
        act_s=round(restored_at - began, 3),
        rto_s=round(restored_at - damaged_at, 3),
        rpo=loss,
        bad_requests=len(bad),
        requests=len(scene.visits),
        detail=str(record.get("what") or f"exit code {ended.code}, verified: {record.get('verified')}"),
    )


def open_bucket(twin: TwinStatus) -> S3Client:
    """Return a client of the twin's object store."""
    key = decode_json(Path(str(twin.s3_credentials_file)).read_bytes(), _AccessKey)
    credentials = S3Credentials(key.access_key_id, key.secret_access_key)
    return S3Client(S3Settings(str(twin.s3_endpoint), credentials), SystemClock())


def read_object(bucket: S3Client, name: str) -> bytes | None:
    """Return the content of an object, None where there is none."""
    if bucket.head(BUCKET, name) is None:
        return None
    with bucket.get(BUCKET, name) as body:
        return body.read()
