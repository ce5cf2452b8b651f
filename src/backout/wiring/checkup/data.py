"""The questions of the database and the bucket, from a configuration: a lane for each connection."""

from __future__ import annotations

import shlex
from contextlib import closing
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.analysis.checkup import data
from backout.errors import BackoutError
from backout.model.checkup import Level, should
from backout.model.hint import suggest_command, suggest_setting
from backout.model.setting import describe_setting
from backout.providers.clock import SystemClock
from backout.runbook.incident.checkup import Lane, Question
from backout.wiring.platform import make_reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.config import Config
    from backout.model.checkup import Check
    from backout.model.database.capability import Surroundings
    from backout.model.database.compatibility import MigrationVerdict
    from backout.model.database.schema import SchemaState

PATIENCE_S: Final = 12.0
"""How long the platform is asked in all; a check ends before it."""


def list_database_lanes(config: Config) -> tuple[Lane, ...]:
    """Return a lane for each connection: what one of them waits for, the others do not."""
    settings, name = config.environment.database, config.name
    if settings is None:
        why = "no database is set up: whether the schema allows a rollback cannot be read, and nothing is backed up"
        absent = should("database").not_set_up(
            why,
            suggest_setting(
                describe_setting("environments", name, "database", provider="postgres", url_env="DATABASE_URL")
            ),
        )
        return ((Question("database", Level.SHOULD, lambda: [absent]),),)
    status = suggest_command("db migrations status", name)
    history = _History(config)
    found: list[Lane] = [
        (
            Question("migrations", Level.MUST, history.whole, status),
            Question("pending_migrations", Level.MUST, history.pending, status),
        )
    ]
    if settings.provider != "postgres":
        return tuple(found)
    server, receives = _Server(config), settings.backup.wal != "off"
    needed, look = Level.MUST if receives else Level.SHOULD, suggest_command("db check", name)
    found.insert(
        0,
        (
            Question("database", Level.MUST, server.database, look),
            Question("database_role", needed, server.role, look),
            Question("recovery", needed, server.recovery, look),
            Question("restore_point", needed, server.restore_point, look),
        ),
    )
    if config.environment.platform.is_cloudflare and not config.protected:
        found.append((Question("trial", Level.SHOULD, lambda: [_check_trial(config)]),))
    found.append((Question("wal", needed, lambda: _check_wal(config), suggest_command("db wal status", name)),))
    if settings.server or settings.admin_url_env or settings.admin_url_file:
        look = suggest_command("unfence --dry-run", name)
        found.append((Question("fence", Level.SHOULD, lambda: [_check_fence(config)], look),))
    return tuple(found)


def _check_fence(config: Config) -> Check:
    from backout.analysis.checkup.fence import check_fence
    from backout.wiring.db.fence import make_fence

    with closing(make_fence(config)) as fence:
        return check_fence(fence.survey(), fence.read(), config.name)


def _check_trial(config: Config) -> Check:
    from backout.analysis.checkup.deployment import check_drill_left, check_trial
    from backout.wiring.certify.left import look_for_trial

    found = look_for_trial(config, within_s=PATIENCE_S)
    if found.broken is not None:
        return check_drill_left(config.name, found.broken.name, found.broken.good)
    return check_trial(config.name, runs=found.runs, is_left=found.is_left, unread=found.unread)


def list_objects_lane(config: Config, *, deploys: bool) -> tuple[Lane, ...]:
    """Return the lane of the application's bucket, or none where there is no bucket.

    Args:
        deploys: a deployment is to be made, and snapshots that are set up have to be there before it.
    """
    storage = config.environment.storage
    if storage is None:
        return ()
    look = suggest_command("objects check", config.name)
    must_be_kept = deploys and storage.history is not None
    level = Level.MUST if must_be_kept else Level.SHOULD
    return ((Question("objects", level, lambda: [_check_objects(config, must_be_kept=must_be_kept)], look),),)


def _check_objects(config: Config, *, must_be_kept: bool) -> Check:
    from backout.analysis.checkup.objects import name_missing_key
    from backout.wiring.objects_check import check_bucket

    storage = config.environment.storage
    assert storage is not None
    if not (storage.credentials_env or storage.credentials_file):
        return name_missing_key(config.name)
    return check_bucket(config, must_be_kept=must_be_kept)


class _Server:
    """The database's server, asked once for several questions."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._found: Surroundings | None = None

    @property
    def _around(self) -> Surroundings:
        if self._found is None:
            from backout.runbook.recovery.capability import survey
            from backout.wiring.db.managed import make_looks

            self._found = survey(make_looks(self._config))
        return self._found

    @property
    def _receives(self) -> bool:
        return self._around.wal != "off"

    def database(self) -> Iterator[Check]:
        """Ask whether it answers."""
        yield data.check_database(self._around)

    def role(self) -> Iterator[Check]:
        """Ask what the role may."""
        yield data.check_role(self._around, receives=self._receives)

    def recovery(self) -> Iterator[Check]:
        """Ask what it could be brought back from."""
        database = self._config.environment.database
        assert database is not None
        every_s, now = float(database.backup.full_every), SystemClock().now()
        yield from data.check_recovery(self._around, now=now, full_every_s=every_s, receives=self._receives)

    def restore_point(self) -> Iterator[Check]:
        """Ask for the newest moment that it could be returned to."""
        database = self._config.environment.database
        assert database is not None
        every_s, now = float(database.backup.full_every), SystemClock().now()
        yield from data.check_restore_point(self._around, now=now, full_every_s=every_s)


class _History:
    """The migrations, read once for both questions."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._state: SchemaState | None = None

    def whole(self) -> Iterator[Check]:
        """Ask whether the history is whole."""
        from backout.wiring.db.database import make_schema

        history = make_schema(self._config, lambda: make_reader(self._config, PATIENCE_S), hurried=True)
        if history is None:
            why = "which migrations are applied is not read: whether the schema allows a rollback is unknown"
            prisma = suggest_setting(
                describe_setting("environments", self._config.name, "database", migrations="prisma")
            )
            yield should("migrations").not_set_up(why, replace(prisma, note="or alembic, django, drizzle, d1"))
            return
        self._state = history.read()
        yield data.check_migrations(self._state, self._config.name)

    def pending(self) -> Iterator[Check]:
        """Ask what is to be applied, and what it does to the code that is live."""
        from backout.analysis.checkup.deployment import check_pending_migrations
        from backout.analysis.recovery.migrations import assess
        from backout.wiring.certify.certificates import list_trials
        from backout.wiring.db.history import find_folder, list_known_migrations

        if self._state is None:
            return  # `migrations` says why
        report = assess(self._state, list_known_migrations(self._config))
        verdicts, unjudged = _judge_files(self._config)
        folder = find_folder(self._config)
        here = self._config.path.parent
        typed = folder.relative_to(here) if folder.is_relative_to(here) else folder
        yield check_pending_migrations(
            report,
            verdicts,
            unjudged=unjudged,
            folder=shlex.quote(str(typed)),
            environment=self._config.name,
            trials=list_trials(self._config, self._state, report, within_s=PATIENCE_S),
        )


def _judge_files(config: Config) -> tuple[dict[str, MigrationVerdict], str]:
    """Return the verdicts on the migrations of the working copy, and why there are none ("" where there are)."""
    from backout.analysis.compatibility import judge
    from backout.wiring.db.history import find_files

    settings = config.environment.database
    try:
        files = find_files(config).read()
    except BackoutError as error:
        return {}, error.what
    found = judge(files, app_checks_head=settings is not None and settings.app_checks_head)
    return {verdict.name: verdict for verdict in found}, ""


def _check_wal(config: Config) -> Iterator[Check]:
    from backout.wiring.db.database import make_protection

    database, asked = config.environment.database, make_protection(config)
    if asked is None and database is not None and database.managed is not None:
        return  # the vendor keeps it: `recovery` says what it offers
    yield data.check_wal(None if asked is None else asked(), config.name)
