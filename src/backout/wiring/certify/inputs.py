"""What a trial is made of: code, migrations, requests, statements and rows, from the configuration and the options."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from backout.analysis.certify.requests import make_requests, parse_requests
from backout.errors import Refused, UsageError
from backout.model.secrets import SecretValues
from backout.model.setting import describe_setting
from backout.model.value import Value
from backout.providers.caddy.machine import LocalMachine
from backout.providers.files.bundles import FileBundleStore
from backout.providers.files.sql_migrations import SqlMigrations
from backout.providers.postgres.schema.statements import StatementFile
from backout.rules import SafetyRule
from backout.wiring.caddy import open_home
from backout.wiring.certify.hosts import HostsCertifyStage
from backout.wiring.certify.staging import StagingStage
from backout.wiring.db.history import find_folder, make_postgres_history
from backout.wiring.platform import LateBundles, make_reader
from backout.wiring.secrets import read_values

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.config import Config
    from backout.model.bundle import Bundle
    from backout.model.database.certificate import TrialRequest
    from backout.model.database.compatibility import MigrationFile
    from backout.wiring.certify.twin import CertifyStage, Code

    AnyStage = CertifyStage | HostsCertifyStage | StagingStage

_LIVE_WITHIN_S = 30.0
NO_VALUES: Final = SecretValues({})
_REQUESTS_HINT = "docs/certify.md shows the lines; `certify.requests` in backout.toml names the file"


class Source(Value, frozen=True):
    """Where code comes from: a project's folder, or a version of the environment's Worker.

    Args:
        name: as a person calls it.
        version: its id, "" for a folder.
    """

    name: str
    folder: Path | None = None
    version: str = ""


class TrialOptions(Value, frozen=True):
    """What was typed.

    Args:
        new, old: a folder or a version id; None: the live version.
        migrations: a folder or a file; None: those of the configured tool.
        after: the last migration that the old code runs with; None: the database's head.
        requests, statements, seed: files; None: those of the configuration.
        run: what runs a release on hosts; "": as the configuration says.
        env_file: of variables that releases have in a trial on hosts, None: of none.
    """

    new: str
    old: str | None = None
    migrations: Path | None = None
    after: str | None = None
    requests: Path | None = None
    statements: Path | None = None
    seed: Path | None = None
    run: str = ""
    env_file: Path | None = None


class TrialInputs(Value, frozen=True):
    """Everything that a trial needs beside its stage.

    Args:
        before: the migrations that the old code runs with; `head` is the last one.
        pending: those that are tried.
        known: statements of the old code, from a file; those in its code come beside.
        run: what runs a release on hosts, "" for Workers.
        variables: that releases on hosts have.
    """

    old: Source
    new: Source
    before: tuple[MigrationFile, ...]
    pending: tuple[MigrationFile, ...]
    requests: tuple[TrialRequest, ...]
    known: tuple[str, ...]
    seed: str
    run: str = ""
    variables: SecretValues = NO_VALUES

    @property
    def head(self) -> str:
        """The last migration that the old code runs with, "" for none."""
        return self.before[-1].name if self.before else ""


def read_inputs(config: Config, folder: Path, options: TrialOptions, place: Config | None = None) -> TrialInputs:
    """Return them; nothing is started, and nothing is asked but the platform and the database where they must be.

    Args:
        folder: what relative paths are relative to.
        options: as typed.
        place: the environment in which the trial takes place, None for a local twin.

    Raises:
        UsageError: a file or folder is missing or cannot be read, the head is none of the migrations, or the code runs
            elsewhere than on Workers or behind Caddy.
        AuthError, ProviderUnavailable, ProviderRejected: the platform or the database does not tell.
    """
    settings, platform = config.environment.certify, config.environment.platform
    if not platform.is_cloudflare and platform.caddy is None:
        raise UsageError(
            f"a trial runs code as Workers or releases on a local twin, and {config.name} runs elsewhere "
            f"({platform.provider})",
            where=f"{config.path.name}: environments.{config.name}.platform",
            hint=f"backout db migrations check -e {config.name}  # whether old code runs after them, by their SQL",
        )
    _check_options(config, options, place)
    _check_database(config, options)
    if place is not None and settings.data == "clone":
        raise UsageError(
            "rows of the database are copied to this host alone, never to another environment",
            where=f"{config.path.name}: environments.{config.name}.certify.data",
            hint=f"backout certify -e {config.name}  # on this host",
        )
    files = folder / options.migrations if options.migrations is not None else find_folder(config)
    head = options.after
    if head is None:
        head = make_postgres_history(config, config.database_url().reveal).read().head
    before, pending = _split(SqlMigrations(files).read(), head)
    named = settings.requests if options.requests is None else folder / options.requests
    seed = settings.seed if options.seed is None else folder / options.seed
    statements = StatementFile(folder / options.statements).read() if options.statements is not None else ()
    return TrialInputs(
        old=_find_live(place or config) if options.old is None else _find_source(config, folder, options.old),
        new=_find_source(config, folder, options.new),
        before=before,
        pending=pending,
        requests=_make_requests(config)
        if named is None
        else parse_requests(_read_text(named, _REQUESTS_HINT), named.name),
        known=tuple(statement.sql for statement in statements),
        seed=_read_text(seed, "certify.seed") if seed is not None else "",
        run=options.run or (platform.caddy.run or "" if platform.caddy else ""),
        variables=NO_VALUES if options.env_file is None else read_values(config, folder / options.env_file),
    )


def _check_options(config: Config, options: TrialOptions, place: Config | None) -> None:
    """Raise UsageError for what does not belong together on the environment's platform."""
    caddy = config.environment.platform.caddy
    if caddy is None:
        if options.run or options.env_file is not None:
            what = "--run and --env-file are for releases behind Caddy"
            raise UsageError(what, where=config.name, hint="leave them out: secrets of Workers are made up")
        return
    if place is not None:
        raise UsageError("a trial of releases takes place on a local twin", where="--on", hint="leave the option out")
    if not (options.run or caddy.run):
        raise UsageError(
            "what runs a release in a trial is not known: here units or commands of yours do",
            where=f"{config.path.name}: environments.{config.name}.platform.caddy",
            hint="backout certify --new DIR --run 'node server.js'  # what a unit's ExecStart= has",
        )


_BY_HAND: Final = {
    "alembic": "alembic upgrade FROM:TO --sql > trial/0002_name.sql",
    "django": "python manage.py sqlmigrate APP MIGRATION > trial/0002_name.sql",
}
"""What prints a migration that is Python as SQL; with the ones before it in files that come before by name."""


def _check_database(config: Config, options: TrialOptions) -> None:
    """Raise UsageError for what cannot be tried, with what can be done about it."""
    database, here = config.environment.database, f"{config.path.name}: environments.{config.name}.database"
    if database is not None and database.provider == "d1":
        raise UsageError(
            "a trial needs Postgres, and this is D1",
            where=here,
            hint=f"`backout db migrations check -e {config.name}` has the verdicts on their texts; to try old and new "
            "code, `backout twin up` has D1",
        )
    if database is None or database.provider != "postgres":
        what = describe_setting("environments", config.name, "database", provider="postgres", url_env="DATABASE_URL")
        raise UsageError("a trial needs Postgres", where=here, hint=what)
    if options.migrations is None and database.migrations in _BY_HAND:
        raise UsageError(
            f"the migrations of {database.migrations} are Python, which backout does not run",
            where=here,
            hint=f"print them as SQL: `{_BY_HAND[database.migrations]}`, then: "
            "backout certify --new DIR --migrations trial --after 0001_name.sql",
        )


def deploy(stage: AnyStage, config: Config, source: Source, wrangler_environment: str | None) -> Code:
    """Bring code onto the stage. Raises as `deploy_folder`, `upload` and `use_version` of the stage."""
    if isinstance(stage, HostsCertifyStage):
        assert source.folder is not None
        return stage.deploy_folder(source.folder, config.environment.secrets.required)
    if isinstance(stage, StagingStage):
        if source.folder is None:
            return stage.use_version(source.version)
        return stage.deploy_folder(source.folder, wrangler_environment)
    if source.folder is not None:
        names = config.environment.secrets.required
        return stage.deploy_folder(source.folder, names, wrangler_environment)
    return stage.upload(_fetch_bundle(config, source.version))


def open_stage(config: Config, place: Config | None, inputs: TrialInputs) -> AnyStage:
    """Return where the trial takes place: a local twin, or the environment `place`."""
    if config.environment.platform.caddy is not None:
        return HostsCertifyStage(inputs.run, inputs.variables)
    if place is None:
        from backout.wiring.certify.twin import CertifyStage

        return CertifyStage()
    names = config.settings.environments
    others = [replace(config, chosen=name) for name in names if name != place.name]
    return StagingStage(place, [each for each in others if each.protected or each.name == config.name])


def find_place(config: Config, name: str, *, restores: bool = False) -> Config:
    """Return the configuration of an environment in which a trial is to take place.

    Args:
        restores: what a trial left there is only put back, whichever environment that was for.

    Raises:
        UsageError: there is none of that name, or it is the one that the trial is for.
        Refused: it is protected.
    """
    is_for_itself = not restores and config.chosen is not None and name == config.name
    if name not in config.settings.environments or is_for_itself:
        known = ", ".join(each for each in config.settings.environments if each != config.chosen)
        hint = f"one of: {known}" if known else "write [environments.staging] into it, or leave --on out: a local twin"
        raise UsageError(f"no other environment {name!r}", where=str(config.path), hint=hint)
    place = replace(config, chosen=name)
    if place.protected:
        raise Refused(
            f"{name} is protected: a trial never takes place there",
            where=str(config.path),
            rule=SafetyRule.IDENTITY,
            options=("`--on` names a staging of your own; without it the trial takes place on a local twin",),
        )
    return place


def make_copy(config: Config) -> Callable[[str], None] | None:
    """Return what copies the database's rows to a connection string; None where rows are generated."""
    if config.environment.certify.data != "clone":
        return None

    def copy(target: str) -> None:
        from backout.providers.postgres.certify.cloning import copy_rows
        from backout.providers.postgres.server.binaries import find_binaries

        settings = config.environment.database
        copy_rows(
            config.database_url().reveal(), target, find_binaries(settings.binaries if settings is not None else None)
        )

    return copy


def _split(files: tuple[MigrationFile, ...], head: str) -> tuple[tuple[MigrationFile, ...], tuple[MigrationFile, ...]]:
    names = [file.name for file in files]
    if not head:
        return (), files
    if head not in names:
        known = ", ".join(names[-3:]) or "none"
        raise UsageError(
            f"migration {head!r} is none of these: {known}",
            where="the migrations",
            hint="`backout certify --new DIR --after NAME`: the last one that the old code runs with",
        )
    at = names.index(head) + 1
    return files[:at], files[at:]


def _find_source(config: Config, folder: Path, named: str) -> Source:
    path = folder / named
    if path.is_dir():
        return Source(named, path)
    if config.environment.platform.caddy is not None and named.isalnum():
        return _find_release(config, named, f"release {named}")
    if "/" in named or path.exists():
        raise UsageError(
            "no such folder", where=named, hint="name a folder with wrangler's configuration, or a version id"
        )
    return Source(f"version {named}", version=named)


def _find_release(config: Config, release: str, name: str) -> Source:
    """Return the code of a release that lies on this host. Raises UsageError: it lies on others."""
    for host in open_home(config).hosts:
        if isinstance(host.releases.machine, LocalMachine):
            return Source(name, host.releases.get_code(host.releases.get(release).id), release)
    raise UsageError(
        f"the code of {name} lies on other hosts",
        where=config.name,
        hint="`backout certify --new DIR --old DIR`, with a folder of that code on this one",
    )


def _find_live(config: Config) -> Source:
    from backout.providers.cloudflare.deployments import CloudflareDeployments

    is_hosts = config.environment.platform.caddy is not None
    if is_hosts:
        history = open_home(config).make_deployments().history()
    else:
        reader = make_reader(config, _LIVE_WITHIN_S)
        history = CloudflareDeployments(reader, config.account_id, config.environment.platform.script).history()
    if not history:
        raise UsageError(
            "nothing is live, so there is no old code",
            where=config.name,
            hint="`backout certify --new DIR --old DIR` names it",
        )
    live = history[0].main
    if is_hosts:
        return _find_release(config, live, f"release {live}, which is live")
    return Source(f"version {live}, which is live", version=live)


def _fetch_bundle(config: Config, version: str) -> Bundle:
    """Return the code of a version: the kept copy, else the provider's."""
    application = f"{config.account_id}-{config.environment.platform.script}"
    kept = FileBundleStore(config.places.bundles, application).find(version)
    return kept if kept is not None else LateBundles(config).fetch(version)


def _make_requests(config: Config) -> tuple[TrialRequest, ...]:
    environment = config.environment
    guard = environment.guard
    health = str(environment.health.url) if environment.health is not None else ""
    path = "/" + health.split("://", 1)[-1].partition("/")[2].partition("?")[0] if health else "/"
    found = make_requests([path, *guard.vital, *guard.expect, *guard.synthetic.paths])
    return found or make_requests(["/"])


def _read_text(path: Path, hint: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read it: {error.strerror}", where=str(path), hint=hint) from None
    except UnicodeDecodeError:
        raise UsageError("it is not UTF-8", where=str(path), hint=hint) from None
