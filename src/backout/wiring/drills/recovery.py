"""Everything is damaged at once, or the one who was bringing it back is gone: `backout recover`."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from msgspec.structs import replace

from backout.analysis.drills import find_bad
from backout.errors import BackoutError
from backout.model.drill import Loss
from backout.private import make_private_folder, write_over
from backout.wiring.drills.backups import backed_up, count_wrong, make_backups, write_over_rows
from backout.wiring.drills.data import (
    APART_S,
    WHY,
    alter_objects,
    count_spoiled,
    make_storage,
    open_bucket,
    put_objects,
    tell,
)
from backout.wiring.drills.deployment import deploy, make_bad
from backout.wiring.drills.witness import Witness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.model.drill import Measured
    from backout.wiring.drills.backups import Damage
    from backout.wiring.drills.deployment import Scene
    from backout.wiring.drills.ground import Ground
    from backout.wiring.drills.trial import Ended

_ROLE: Final = "app"
_SECRET: Final = "EMAIL_API_KEY"  # noqa: S105 - the name of one
_POINT: Final = "before-the-night"
_FENCED: Final = "raise the fence"


def make_recovery(ground: Ground) -> dict[str, object]:
    """Return the tables of an environment in which all four parts can be taken back.

    The application gets a role of its own, which a fence can keep out.
    """
    password, stage, folder = os.urandom(16).hex(), ground.stage, ground.planted
    make_private_folder(folder)
    stage.query(f"DROP OWNED BY {_ROLE}" if _has_role(ground) else f"CREATE ROLE {_ROLE} LOGIN")
    stage.query(f"ALTER ROLE {_ROLE} LOGIN PASSWORD '{password}'")  # no value can stand there otherwise; hexadecimal
    for what in ("TABLES", "SEQUENCES"):
        stage.query(f"GRANT ALL ON ALL {what} IN SCHEMA public TO {_ROLE}")
    to = urlsplit(str(ground.twin.postgres_dsn))
    write_over(folder / "app-url", f"postgresql://{_ROLE}:{password}@{to.hostname}:{to.port}{to.path}".encode())
    write_over(folder / "secrets.json", json.dumps({_SECRET: os.urandom(12).hex()}).encode())
    database = make_backups(ground)["database"]
    assert isinstance(database, dict)
    return {
        **make_storage(ground),
        "database": {**database, "url_file": str(folder / "app-url"), "admin_url_file": database["url_file"]},
        "secrets": {"required": [_SECRET], "source": {"from": "file", "path": str(folder / "secrets.json")}},
    }


def _has_role(ground: Ground) -> bool:
    return bool(ground.stage.query("SELECT FROM pg_roles WHERE rolname = %s", _ROLE))


def perform_everything(scene: Scene) -> Measured:
    """Deploy a bad version, lose a secret, overwrite rows, spoil objects; one command takes all of it back.

    Raises:
        BackoutError: what this rests on could not be made, or a part was not taken back.
    """
    with _prepared(scene) as witness, open_bucket(scene.ground) as bucket:
        version, _ = deploy(scene)
        scene.ground.home.remove_secret(_SECRET)
        damage = _alter_data(scene, witness)
        began = time.time()
        ended = scene.trial.run("recover", *_name_damage(damage), "--json")
        restored_at = time.time()
        spoiled = count_spoiled(bucket)
    details = scene.trial.tools().versions
    live, good = (details.detail(each) for each in (scene.trial.find_live(), scene.ground.good))
    if live.code_hash != good.code_hash or _SECRET not in live.secret_names:
        raise BackoutError("code or secret of before is not live", where=scene.drill.name)
    return _tell(scene, ended, version, damage, (began, restored_at), witness, spoiled)


def perform_left_fence(scene: Scene) -> Measured:
    """Kill a recovery, and its person's terminal with it, while the fence is up; a colleague looks, and goes on.

    Raises:
        BackoutError: as `perform_everything`; `status` does not say that the application is closed.
    """
    with _prepared(scene) as witness, open_bucket(scene.ground) as bucket:
        live, damage = scene.trial.find_live(), _alter_data(scene, witness)
        began = time.time()
        gone = scene.trial.start("recover", *_name_damage(damage), "--json")
        gone.await_words(_FENCED, on_stderr=True, times=2)  # once in the plan
        gone.kill()
        closed = scene.trial.run("status", "--json").record.get("closed")
        if not isinstance(closed, dict) or closed.get("fence") is not True:
            raise BackoutError(f"status does not say that the fence is up: {closed}", where=scene.drill.name)
        scene.say(f"the on-call engineer is gone; status: closed by {closed['actor']} for {closed['run']}")
        ended = scene.trial.run("recover", "--json")
        restored_at = time.time()
        spoiled = count_spoiled(bucket)
    return _tell(scene, ended, live, damage, (began, restored_at), witness, spoiled)


@contextlib.contextmanager
def _prepared(scene: Scene) -> Iterator[Witness]:
    """Have backups, objects, and a recovery point, and the application log in by its own role, until the block ends."""
    home = scene.ground.home
    home.log_in_as(_ROLE, urlsplit((scene.ground.planted / "app-url").read_text(encoding="ascii")))
    try:
        with backed_up(scene), Witness(scene.ground.stage) as witness:
            with open_bucket(scene.ground) as bucket:
                put_objects(bucket)
            marked = scene.trial.run("recover", "--mark", _POINT, "--json")
            if marked.code != 0:
                raise BackoutError(f"no recovery point: {marked.err.strip()[-500:]}", where=scene.drill.name)
            time.sleep(APART_S)
            yield witness
    finally:
        if scene.trial.run("status", "--json").record.get("closed") is not None:  # else no other drill could go on
            scene.trial.run("unfence", *WHY, "--json")
        home.log_in_as(None)
        scene.ground.mark_disturbed()


def _alter_data(scene: Scene, witness: Witness) -> Damage:
    with open_bucket(scene.ground) as bucket:
        alter_objects(bucket)
    damage = write_over_rows(scene, witness)
    time.sleep(APART_S)
    return damage


def _name_damage(damage: Damage) -> tuple[str, ...]:
    return ("--to", _POINT, "--damage", damage.transaction, "--no-wait", *WHY)


def _tell(
    scene: Scene, ended: Ended, version: str, damage: Damage, times: tuple[float, float], witness: Witness, spoiled: int
) -> Measured:
    """Return what a recovery did; its RTO is what visitors saw, from the first bad answer to the last.

    Args:
        version: that was live and bad.
        times: of the beginning of the recovery and of its end, Unix seconds.
        spoiled: how many objects are not as they were.
    """
    lost = witness.measure_loss()
    rows, objects = (lost.rows or 0) + count_wrong(scene, damage), (lost.objects or 0) + spoiled
    measured = tell(scene, ended, (damage.at, *times), Loss(rows, objects, lost.seconds))
    bad = find_bad(scene.visits, make_bad(scene.drill.file.bad, version), damage.at, times[1])
    fenced = ended.record.get("fenced_s")
    detail = measured.detail if fenced is None else f"the database was fenced for {fenced} s"
    return replace(measured, rto_s=round(bad[-1] - bad[0], 3) if bad else measured.rto_s, detail=detail)
