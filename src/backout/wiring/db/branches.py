"""Restores where a vendor runs the database: the right path and its ports, from a configuration."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from backout.analysis.recovery.capability import choose
from backout.errors import AuthError
from backout.model.database.capability import RecoveryPath
from backout.providers.postgres.comparison.comparer import PostgresCopies
from backout.providers.postgres.restore.branches import PostgresBranches
from backout.providers.postgres.server.template import SUPERUSER
from backout.providers.postgres.tls.access import add_verification, parse_dsn
from backout.runbook.recovery.branch import drop_pooler
from backout.runbook.recovery.capability import survey
from backout.runbook.recovery.finalize_check import FinalizeCheck
from backout.runbook.recovery.managed import BranchTools
from backout.runbook.recovery.steps.branch_copy import NOTES
from backout.wiring.db.managed import CLIENTS, get_database, make_looks, open_checked_vendor

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.config import Config
    from backout.model.database.branch import SideBranch
    from backout.ports import VendorBackups
    from backout.runbook.recovery.tools import RestoreTools


def find_parameters(
    config: Config, port: VendorBackups, branch: SideBranch, database: str | None, role: str | None
) -> dict[str, str]:
    """Return how a branch is connected to, by libpq's names: with the server's certificate checked.

    Args:
        database: None: the one in the environment's connection string; so with `role`.

    Raises:
        AuthError: no connection string is set, or one is none.
    """
    own = parse_dsn(config.database_url().reveal())
    return parse_dsn(_verify(config, port.url(branch, database or own.get("dbname", ""), role or own.get("user", ""))))


def is_managed(config: Config) -> bool:
    """Return whether a restore goes through the vendor: `db check` chooses it, or there are no base backups of our own.

    Raises:
        UsageError: no database.
        AuthError: a connection string or key is not set.
    """
    managed = get_database(config).managed
    if managed is None or managed.provider not in CLIENTS:
        return False
    around = survey(make_looks(config))
    own = around.own.copies + (around.pgbackrest.copies if around.pgbackrest else 0)
    return choose(around).path is RecoveryPath.MANAGED or not own


def make_branch_tools(config: Config, own: RestoreTools) -> BranchTools:
    """Return the ports of restores at the vendor. Raises as `managed.checked_vendor`."""
    port = open_checked_vendor(config, own.say)
    url, pooled = _locate_branches(config, port)

    def live() -> str:
        """Return the direct address: a session of the second check does not last through a pooler."""
        return url(next(each for each in port.branches() if each.live))

    copies = PostgresCopies(live) if pooled else own.copies
    return BranchTools(own, port, port, PostgresBranches(), url, copies, pooled=pooled)


def finalize_check(config: Config, port: VendorBackups) -> FinalizeCheck:
    """Return the second check of a branch that a person puts in place."""
    url, pooled = _locate_branches(config, port)

    def copies(live: SideBranch) -> PostgresCopies:
        return PostgresCopies(lambda: url(live)) if pooled else PostgresCopies(config.database_admin_url().reveal)

    database = parse_dsn(config.database_admin_url().reveal()).get("dbname", "") or SUPERUSER
    return FinalizeCheck(copies, url, config.places.restore / NOTES, database)


def _verify(config: Config, url: str) -> str:
    """Return a vendor's connection string with what it leaves out: the certificate is checked, the password masked."""
    with suppress(AuthError):  # an unreadable one is reported by who connects
        if password := parse_dsn(url).get("password"):
            config.variables.on_secret(password)
    return add_verification(url)


def _locate_branches(config: Config, port: VendorBackups) -> tuple[Callable[[SideBranch], str], bool]:
    """Return what gives a branch's connection string, and whether the configured one leads through a pooler."""
    given = parse_dsn(config.database_admin_url().reveal())

    def url(branch: SideBranch) -> str:
        return _verify(config, port.url(branch, given.get("dbname", ""), given.get("user", "")))

    host = given.get("host", "")
    return url, drop_pooler(host) != host.lower()
