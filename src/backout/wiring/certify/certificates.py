"""The certificate of what is about to be deployed, for the checks before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.history.remarks import list_of_application
from backout.errors import BackoutError
from backout.model.bundle import hash_modules
from backout.model.database.migrations import MigrationState
from backout.providers.clock import SystemClock
from backout.providers.cloudflare.deployments import CloudflareDeployments
from backout.providers.files.bundles import FileBundleStore
from backout.runbook.certify.certificates import is_about_old, list_counting
from backout.wiring.caddy import open_home
from backout.wiring.db.history import find_files
from backout.wiring.platform import make_reader
from backout.wiring.records import open_journal

if TYPE_CHECKING:
    from backout.config import Config
    from backout.model.database.certificate import Certificate
    from backout.model.database.migrations import MigrationReport
    from backout.model.database.schema import SchemaState


def list_trials(
    config: Config, state: SchemaState, report: MigrationReport, *, within_s: float
) -> tuple[Certificate, ...]:
    """Return the trials of a way back to what is live, over just what is pending, that count: of each code the newest.

    The one that ended last comes last.
    """
    pending = set(report.list_names(MigrationState.PENDING, MigrationState.ROLLED_BACK))
    platform = config.environment.platform
    if not pending or not (platform.is_cloudflare or platform.caddy is not None):
        return ()
    try:
        journal = open_journal(config)
        known = list_counting(journal, config.name, now=SystemClock().now())
        if not known:
            return ()
        files = [(file.name, file.checksum) for file in find_files(config).read() if file.name in pending]
        if platform.caddy is not None:
            history = open_home(config).make_deployments().history()
        else:
            reader = make_reader(config, within_s)
            history = CloudflareDeployments(reader, config.account_id, platform.script).history()
        live = list_of_application(history)
        names = _list_names(config, live[0].main) if live else set()
        about = (state.head, tuple(files))
    except BackoutError:
        return ()  # what does not answer is told by its own check
    newest: dict[str, Certificate] = {}
    for each in known:
        if is_about_old(each, names) and (each.head, each.migrations) == about:
            newest.pop(each.new_code, None)
            newest[each.new_code] = each
    return tuple(newest.values())


def _list_names(config: Config, version: str) -> set[str]:
    """Return what a certificate may call a version: its id, and the hash of its code where that is kept here."""
    if config.environment.platform.caddy is not None:
        return {version, open_home(config).make_releases().get(version).code_hash}
    application = f"{config.account_id}-{config.environment.platform.script}"
    kept = FileBundleStore(config.places.bundles, application).find(version)
    return {version} if kept is None else {version, hash_modules(kept.modules)}
