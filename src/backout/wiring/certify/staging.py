"""The stage of `backout certify --on ENV`: a team's own staging, with an empty database in its own one's place.

Code is uploaded first, and looked at; nothing of staging is touched before. What has to be put back is told by the
names of the databases and the messages of the deployments alone, so that `put_back` needs no journal. Whether the trial
that left it still runs is told by a lock on the database server, which is held from the first look to the last one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import TYPE_CHECKING, Final, Self

from backout.analysis.certify.traces import BACK, OURS, find_before, find_trial
from backout.decoding import decode_json
from backout.errors import BackoutError, Busy, PartlyDone, Refused, UsageError
from backout.journal.stop import EndSignals
from backout.model.bundle import SOURCE_MAP, hash_modules
from backout.providers.cloudflare.deployments import CloudflareDeployments
from backout.providers.cloudflare.read_caches import CloudflareReadCaches
from backout.providers.postgres.certify.aside import SetAside
from backout.providers.postgres.certify.counted import CountedStatements
from backout.providers.postgres.certify.database import CertifyDatabase
from backout.rules import SafetyRule
from backout.twin import wrangler
from backout.wiring.certify.application import StagingApplication
from backout.wiring.certify.borders import check_bindings, check_staging, find_database, name_database
from backout.wiring.certify.folders import make_folder
from backout.wiring.certify.twin import BUILT_THERE, Code
from backout.wiring.platform import make_api, make_bundles

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from backout.config import Config
    from backout.model.database.compatibility import MigrationFile
    from backout.model.deployment import Deployment
    from backout.ports import HealthCheck

_PREFIX: Final = "backout-staging-"
_ANSWERS_S: Final = 120.0
_ALONE: Final = 5
"""So many looks after another have to be answered by the version that was made live."""
_POLL_S: Final = 0.2


class StagingStage:
    """Staging for as long as a trial takes; use it as a context, which puts everything back.

    Args:
        config: of that environment.
        others: of those that are protected, and of the one that the certificate is for.
    """

    def __init__(self, config: Config, others: Sequence[Config]) -> None:
        self._config = config
        self._others = others
        self._folder = make_folder(_PREFIX)
        self._ends = EndSignals()
        self._live = ""

    def __enter__(self) -> Self:
        """Look whether a trial may take place there; nothing is changed, and no other trial begins from here on.

        Raises:
            Refused, UsageError: it may not; what to do about it is named.
            Busy: another trial runs there.
            AuthError, ProviderUnavailable, ProviderRejected: the platform or the database does not tell.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._ends)
            stack.callback(self._remove_folder)
            self._health = check_staging(self._config, self._others)
            self._aside = SetAside(*find_database(self._config))
            self._api = make_api(self._config, None)
            self._deployments = _open_deployments(self._config)
            self._bundles = make_bundles(self._config)
            stack.enter_context(self._aside.hold())
            self._live = _find_live(self._config, self._deployments.history(), is_left=self._aside.is_left())
            platform = self._config.environment.platform
            _check_caches(CloudflareReadCaches(self._api.reads, self._config.account_id, platform.script))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put back what was there.

        Raises:
            PartlyDone: something could not be, with the command that does.
            Busy: the lock was lost, and another process has it now.
        """
        with self._stack:
            self._ends.hold_off()
            if self._aside.is_begun:
                put_back(self._config, self._aside)

    @property
    def live(self) -> str:
        """The version that was live before."""
        return self._live

    def prepare(self, files: Sequence[MigrationFile], seed: str, copy: Callable[[str], None] | None) -> None:
        """Make the empty database, with the schema and rows in it; that of staging is not touched.

        Raises:
            BackoutError: the server, a migration or the seed refuses.
        """
        self._aside.make()
        self._heard = CountedStatements(lambda: self._url)
        self._url = name_database(self._config.database_url().reveal(), self._aside.made)
        self.database = CertifyDatabase(self._url, self._heard, oid=self._aside.oid)
        self.database.prepare(files, seed, copy=copy)

    def deploy_folder(self, folder: Path, environment: str | None) -> Code:
        """Upload a project with wrangler; it gets no traffic yet.

        Raises:
            UsageError: it is no such folder, or wrangler is not installed.
            Refused: it is bound to what another environment has.
            BackoutError: wrangler says no; with the end of its output.
        """
        platform = self._config.environment.platform
        token = self._folder / "token"
        try:
            with os.fdopen(os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.write(self._config.token().reveal())
            run = wrangler.run_wrangler(
                ["versions", "upload", "--name", platform.script, "--env", environment or "", "--message", "certify"],
                cwd=folder,
                api_base_url=str(platform.api_base_url),
                account_id=self._config.account_id,
                token_file=token,
                log_dir=self._folder / "wrangler",
            )
        finally:
            token.unlink(missing_ok=True)
        if run.returncode != 0:
            raise BackoutError(f"wrangler versions upload failed: {run.said}", where=str(folder), hint=BUILT_THERE)
        return self.use_version(str(run.record("version-upload")["version_id"]))

    def use_version(self, version: str) -> Code:
        """Return the code of a version of staging's own Worker. Raises Refused: as `deploy_folder`."""
        bundle = self._bundles.fetch(version)
        parts = decode_json(bundle.metadata, dict[str, object], what="the version's parts")
        check_bindings(self._config, parts, self._others)
        modules = [each for each in bundle.modules if not each.content_type.startswith(SOURCE_MAP)]
        text = "\n".join(module.content.decode("utf-8", "replace") for module in modules)
        return Code(version, hash_modules(bundle.modules), text)

    def open_application(self, old: Code, new: Code) -> StagingApplication:
        """Exchange the databases, and return the application in both versions."""
        self._aside.exchange()
        codes = {"old": old, "new": new}

        def switch(name: str) -> None:
            self._aside.check_held()
            self._deployments.activate(codes[name].version, message=f"{OURS}{name} code", force=True)
            _await_version(self._health, codes[name].version)

        health = self._config.environment.health
        application = StagingApplication(
            str(health.url if health else ""),
            self._config.health_headers(),
            switch,
            lambda: self._heard.gap,
            self._aside.check_held,
        )
        self._url = self._config.database_url().reveal()
        self.database = CertifyDatabase(self._url, self._heard, ask=application.read_again, oid=self._aside.oid)
        self._heard.begin(self.database.open_session)
        return application

    def _remove_folder(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def put_back(config: Config, aside: SetAside | None = None) -> tuple[str, ...]:
    """Put back what a trial in staging left, and return what was done in sentences; it may be done twice.

    Args:
        aside: what set the database aside, with the lock on it; None: another process, which does not run any more.

    Raises:
        Busy: a trial runs there; nothing was touched.
        PartlyDone: a part could not be put back, or is not as it was; the other one was tried as well.
    """
    done, failed = [], []
    with contextlib.ExitStack() as stack:
        try:
            aside = aside or SetAside(*find_database(config))
            stack.enter_context(aside.hold())
            if aside.is_left():
                aside.take_back()
                done.append(f"database {aside.name} is the one that was set aside")
        except Busy:
            raise
        except BackoutError as error:
            failed.append(f"the database: {error.what}")
        try:
            done.extend(_put_code_back(config))
        except BackoutError as error:
            failed.append(f"the code: {error.what}")
    if failed:
        raise PartlyDone(
            f"staging is not as it was before the trial: {'; '.join(failed)}",
            where=config.name,
            hint=f"backout certify --restore --on {config.name}",
        )
    return tuple(done)


def _put_code_back(config: Config) -> list[str]:
    deployments = _open_deployments(config)
    history = deployments.history()
    if find_trial(history) is None:
        return []
    before = find_before(history)
    if before is None:
        raise BackoutError("what was live before is no longer in the provider's list")
    deployments.activate(before.main, message=f"{OURS}{BACK}", force=True)
    live = deployments.history()[0].sole
    if live != before.main:
        raise BackoutError(f"{live} is live, and not {before.main}")
    return [f"version {live} is live again"]


def _open_deployments(config: Config) -> CloudflareDeployments:
    api = make_api(config, None)
    script = config.environment.platform.script
    return CloudflareDeployments(api.acts, config.account_id, script, reader=api.reads)


def _find_live(config: Config, history: Sequence[Deployment], *, is_left: bool) -> str:
    """Return the version that is live. Raises Refused: an earlier trial left something, or the traffic is split."""
    if is_left or find_trial(history) is not None:
        raise Refused(
            "an earlier trial there was interrupted, and what was there before is not put back",
            where=config.name,
            rule=SafetyRule.DATA,
            hint=f"backout certify --restore --on {config.name}",
        )
    sole = history[0].sole if history else None
    if sole is None:
        what = "its traffic is split between versions" if history else "nothing was ever deployed there"
        raise UsageError(what, where=config.name, hint="deploy one version to all of its traffic, then try again")
    return sole


def _check_caches(caches: CloudflareReadCaches) -> None:
    """Raise UsageError where Hyperdrive would answer for the database."""
    on = [each for each in caches.read() if each.is_on]
    if on:
        raise UsageError(
            f"Hyperdrive {on[0].name or on[0].id} answers reads from its cache: the old code would seem to read what "
            "it does not ask the database for",
            where="staging",
            hint=f"npx wrangler hyperdrive update {on[0].id} --caching-disabled true",
        )


def _await_version(health: HealthCheck, version: str) -> None:
    """Return when the health endpoint is answered by this version, look after look. Raises BackoutError: it is not."""
    deadline, alone = time.monotonic() + _ANSWERS_S, 0
    while alone < _ALONE:
        alone = alone + 1 if health.look().version == version else 0
        if time.monotonic() >= deadline:
            raise BackoutError(
                f"the health endpoint is not answered by version {version}, which was made live {_ANSWERS_S:.0f} s ago",
                where="staging",
                hint="/health has to say which version answers: docs/config.md, Proving a target",
            )
        time.sleep(_POLL_S)
