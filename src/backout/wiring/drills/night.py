"""What a night brings beside a bad version: guard is killed, the journal is lost, others deploy and change secrets."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError
from backout.private import make_private_folder, write_over
from backout.wiring.drills.deployment import (
    broken_after,
    broken_before,
    deploy,
    measure,
    start_guard,
)
from backout.wiring.drills.witness import Witness

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.drill import Measured
    from backout.wiring.drills.deployment import Scene

_SECRET: Final = "PAYMENTS_API_KEY"  # noqa: S105 - the name of one
_ROTATED: Final = "EMAIL_API_KEY"
_MIGRATION: Final = "20991231000000_rename_price"


def perform_hotfix(scene: Scene) -> Measured:
    """Deploy another version while guard watches the drill's: its verdict is void, and the hotfix stays live.

    Raises:
        BackoutError: as `measure`; the hotfix is not live in the end.
    """
    guard = start_guard(scene)
    _, since = deploy(scene)
    guard.await_words('"type":"tick"')
    hotfix = scene.ground.home.deploy("good")
    scene.say("deployed the hotfix")
    with Witness(scene.ground.stage) as witness:
        ended = guard.await_end()
    if scene.trial.find_live() != hotfix:
        raise BackoutError("the hotfix is not live any more", where=scene.drill.name)
    return measure(scene, ended, hotfix, since, witness.measure_loss())


def perform_killed_guard(scene: Scene) -> Measured:
    """Kill guard in the middle of the rollback, and type the same command again.

    Raises:
        BackoutError: as `measure`; the rollback was made twice.
    """
    guard = start_guard(scene)
    version, since = deploy(scene)
    with Witness(scene.ground.stage) as witness:
        guard.await_words('"run_id":"rollback-')
        guard.kill()
        scene.say("killed guard in the middle of the rollback")
        ended = scene.trial.run("guard", "--mode", "act", "--json")
    history = scene.trial.tools().deployments.history()
    made = [each for each in history if each.created_at > since and each.sole == scene.ground.good]
    if len(made) > 1:
        raise BackoutError(f"the good version was made live {len(made)} times", where=scene.drill.name)
    return measure(scene, ended, version, since, witness.measure_loss())


def perform_lost_journal(scene: Scene) -> Measured:
    """Have guard prove the good version, lose the journal, and deploy the drill's version: the provider still knows.

    Raises:
        BackoutError: as `measure`; the good version was not proven.
    """
    proof = scene.trial.run("guard", "--early", "--mode", "act", "--json")
    if proof.record.get("action") != "stable":
        why = proof.record.get("why") or proof.err.strip()[-300:]
        raise BackoutError(f"the good version was not proven: {why}", where=scene.drill.name)
    for file in scene.trial.folder.glob("journal.sqlite*"):
        file.unlink()
    scene.say("lost the journal")
    guard = start_guard(scene)
    version, since = deploy(scene)
    with Witness(scene.ground.stage) as witness:
        ended = guard.await_end()
    return measure(scene, ended, version, since, witness.measure_loss())


def perform_rotated_secret(scene: Scene) -> Measured:
    """Change a secret with the bad deployment: a rollback would bring the old one back, which a person decides.

    Raises:
        BackoutError: as `measure`.
    """
    guard = start_guard(scene)
    with scene.ground.stage.rotated(_ROTATED), Witness(scene.ground.stage) as witness:
        version, since = deploy(scene)
        ended = guard.await_end()
    return measure(scene, ended, version, since, witness.measure_loss())


def make_secret_source(folder: Path) -> dict[str, object]:
    """Return the tables of an environment whose source of secrets has the one that is missing; `folder` is made."""
    make_private_folder(folder)
    file = folder / "secrets.json"
    write_over(file, json.dumps({_SECRET: os.urandom(16).hex()}).encode())
    return {"secrets": {"required": [_SECRET], "source": {"from": "file", "path": str(file)}}}


def perform_missing_secret(scene: Scene) -> Measured:
    """Deploy code that needs a secret which nobody has set, but the configured source has it.

    Raises:
        BackoutError: as `measure`.
    """
    guard = start_guard(scene)
    version, since = deploy(scene)
    try:
        with Witness(scene.ground.stage) as witness:
            ended = guard.await_end()
        return measure(scene, ended, version, since, witness.measure_loss())
    finally:  # what is uploaded next would inherit it
        with suppress(BackoutError):
            scene.ground.home.remove_secret(_SECRET)


def perform_destructive_migration(scene: Scene) -> Measured:
    """Rename a column of the live database just after the deployment: the old code would fail as the new one does.

    Before it, the old version would have failed for as long as the deployment takes, and be no baseline.

    Raises:
        BackoutError: as `measure`.
    """
    stage, guard = scene.ground.stage, start_guard(scene)
    version, since = deploy(scene)
    with Witness(stage) as witness:
        stage.query(
            "INSERT INTO public._prisma_migrations (id, checksum, finished_at, migration_name, started_at, "
            "applied_steps_count) VALUES (gen_random_uuid()::text, 'x', now(), %s, now(), 1)",
            _MIGRATION,
        )
        stage.query("ALTER TABLE public.models RENAME COLUMN price_cents TO price")
        try:
            scene.say("renamed a column")
            ended = guard.await_end()
        finally:
            stage.query("ALTER TABLE public.models RENAME COLUMN price TO price_cents")
            stage.query("DELETE FROM public._prisma_migrations WHERE migration_name = %s", _MIGRATION)
            scene.ground.mark_disturbed()
    return measure(scene, ended, version, since, witness.measure_loss())


def perform_resumed(scene: Scene) -> Measured:
    """Have the API fail while guard wants to act, and resume its run when the API is back.

    Raises:
        BackoutError: as `measure`.
    """
    guard = start_guard(scene)
    with broken_before(scene), Witness(scene.ground.stage) as witness:
        version, since = deploy(scene)
        with broken_after(scene):
            ended = guard.await_end()
        if ended.record.get("action") != "rollback":
            scene.say(f"guard could not act: exit code {ended.code}; the same command again")
            ended = scene.trial.run("guard", "--mode", "act", "--json")
    return measure(scene, ended, version, since, witness.measure_loss())


def make_dead_channels(folder: Path) -> dict[str, object]:
    """Return the table `notify` of channels that take nothing: nobody listens at their addresses; `folder` is made."""
    make_private_folder(folder)
    url, secret = folder / "url", folder / "secret"
    for file, text in ((url, "http://127.0.0.1:9/hook"), (secret, os.urandom(16).hex())):
        write_over(file, text.encode())
    return {
        "webhook": {"url_file": str(url), "secret_file": str(secret)},
        "smtp": {"host": "127.0.0.1", "port": 9, "security": "none", "from": "a@example.com", "to": ["b@example.com"]},
    }
