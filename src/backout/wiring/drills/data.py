"""Objects are damaged on purpose, brought back by the real command, and read again; what every recovery tells."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from backout.analysis.drills import BadAnswers, find_bad
from backout.decoding import decode_json
from backout.model.drill import DrillAction, Loss, Measured
from backout.providers.clock import SystemClock
from backout.providers.s3.client import S3Client
from backout.providers.s3.sigv4 import S3Credentials
from backout.providers.s3.transport import S3Settings
from backout.report.times import format_time
from backout.wiring.drills.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.wiring.drills.deployment import Scene
    from backout.wiring.drills.ground import Ground
    from backout.wiring.drills.trial import Ended

_OBJECTS: Final = 40
_NAMES: Final = tuple(f"drill/{number:03}" for number in range(_OBJECTS))
APART_S: Final = 2.2
"""The store tells versions apart by whole seconds."""
WHY: Final = ("-m", "a drill", "--confirm", "production")


class _AccessKey(msgspec.Struct):
    access_key_id: str
    secret_access_key: str


def make_storage(ground: Ground) -> dict[str, object]:
    """Return the tables of an environment whose bucket can be brought back."""
    credentials = str(ground.twin.s3_credentials_file)
    return {"storage": {"provider": "s3", "bucket": ground.home.bucket, "credentials_file": credentials}}


def perform_lost_objects(scene: Scene) -> Measured:
    """Delete a half of the bucket's objects and overwrite the other half, and bring them back to the moment before.

    Raises:
        BackoutError: the objects could not be damaged.
    """
    with open_bucket(scene.ground) as bucket:
        put_objects(bucket)
        time.sleep(APART_S)
        moment = format_time(int(time.time()))[:19].replace("T", " ")
        time.sleep(APART_S)
        with Witness(scene.ground.stage) as witness:
            damaged_at = time.time()
            alter_objects(bucket)
            scene.say(f"deleted and overwrote {_OBJECTS} objects")
            time.sleep(APART_S)
            over = format_time(int(time.time()))[:19].replace("T", " ")
            time.sleep(APART_S)
            began = time.time()
            ended = scene.trial.run("objects", "restore", "--to", moment, "--until", over, *WHY, "--json")
            restored_at = time.time()
        spoiled = count_spoiled(bucket)
    loss = witness.measure_loss()
    found = replace(loss, objects=(loss.objects or 0) + spoiled)
    return tell(scene, ended, (damaged_at, began, restored_at), found)


class Bucket:
    """The application's bucket, with a client of its store."""

    def __init__(self, client: S3Client, name: str) -> None:
        self.client = client
        self.name = name


def put_objects(bucket: Bucket) -> None:
    """Store the objects that are to be damaged, in a bucket that keeps versions."""
    bucket.client.set_versioning(bucket.name, enabled=True)
    for name in _NAMES:
        bucket.client.put(bucket.name, name, name.encode())


def alter_objects(bucket: Bucket) -> None:
    """Delete a half of them, and overwrite the other half."""
    for number, name in enumerate(_NAMES):
        if number % 2:
            bucket.client.delete(bucket.name, name)
        else:
            bucket.client.put(bucket.name, name, b"overwritten")


def count_spoiled(bucket: Bucket) -> int:
    """Return how many of them are not as they were."""
    return sum(read_object(bucket, name) != name.encode() for name in _NAMES)


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


@contextlib.contextmanager
def open_bucket(ground: Ground) -> Iterator[Bucket]:
    """Lend the application's bucket until the block ends."""
    twin = ground.twin
    key = decode_json(Path(str(twin.s3_credentials_file)).read_bytes(), _AccessKey)
    credentials = S3Credentials(key.access_key_id, key.secret_access_key)
    with S3Client(S3Settings(str(twin.s3_endpoint), credentials), SystemClock()) as client:
        yield Bucket(client, ground.home.bucket)


def read_object(bucket: Bucket, name: str) -> bytes | None:
    """Return the content of an object, None where there is none."""
    if bucket.client.head(bucket.name, name) is None:
        return None
    with bucket.client.get(bucket.name, name) as body:
        return body.read()
