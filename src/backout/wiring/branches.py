"""Restores where a vendor runs the database: which path is the one, and its ports, from a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.capability import choose
from backout.model.capability import RecoveryPath
from backout.providers.postgres.branches import PostgresBranches, verified
from backout.providers.postgres.tls_access import parsed
from backout.runbook.branch import direct
from backout.runbook.capability import survey
from backout.runbook.managed import BranchTools
from backout.wiring.managed import CLIENTS, checked_vendor, database_of, looks

if TYPE_CHECKING:
    from backout.config import Config
    from backout.model.branch import SideBranch
    from backout.runbook.restore import RestoreTools


def is_managed(config: Config) -> bool:
    """Return whether a restore goes through the vendor: `db check` chooses it, or there are no base backups of our own.

    Raises:
        UsageError: no database. AuthError: a connection string or key is not set.
    """
    managed = database_of(config).managed
    if managed is None or managed.provider not in CLIENTS:
        return False
    around = survey(looks(config))
    own = around.own.copies + (around.pgbackrest.copies if around.pgbackrest else 0)
    return choose(around).path is RecoveryPath.MANAGED or not own


def branch_tools(config: Config, own: RestoreTools) -> BranchTools:
    """Return the ports of restores at the vendor. Raises as `managed.checked_vendor`."""
    port = checked_vendor(config)
    given = parsed(config.database_admin_url().reveal())

    def url(branch: SideBranch) -> str:
        return verified(port.url(branch, given.get("dbname", ""), given.get("user", "")))

    host = given.get("host", "")
    return BranchTools(own, port, port, PostgresBranches(), url, pooled=direct(host) != host.lower())
