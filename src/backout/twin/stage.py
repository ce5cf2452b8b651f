"""The stage of a demo or drill: a twin, the sample application in it, visitors, and a matching backout.toml."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import psycopg

from backout.errors import BackoutError, UsageError
from backout.model.value import Value
from backout.private import make_private_folder
from backout.providers.child_environment import make_bare_environment, make_module_command
from backout.providers.files.migrations import PrismaMigrations
from backout.providers.postgres.schema.deploy import PrismaDeploy
from backout.twin import lifecycle, npm, wrangler
from backout.twin.home import CLOUDFLARE, mark_own_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import LiteralString

    from backout.twin.lifecycle import TwinStatus

NAME = "fm5"
ENVIRONMENT = "production"
SCRIPT = f"{NAME}-{ENVIRONMENT}"
VISIT_AT_MOST_S = 3600


class Pace(Value, frozen=True):
    """The times of the stage's backout.toml, in seconds: a demo cannot wait for a quarter of an hour."""

    watch_s: float = 30.0
    error_rate_for_s: float = 10.0
    quiet_s: float = 5.0


class Stage:
    """A folder with a twin in it.

    Args:
        directory: everything is kept below it.
        pace: see `Pace`.
        tied: whether the twin stops when this process ends, however it ends.
        name: of the sample application; its Worker is NAME-production.
    """

    home: ClassVar = CLOUDFLARE
    made_of: ClassVar = "a local Cloudflare: API, workerd, Postgres, S3, email"
    deploys_by: ClassVar = "wrangler deploy"

    def __init__(self, directory: Path, pace: Pace | None = None, *, tied: bool = False, name: str = NAME) -> None:
        self.directory = directory.absolute()
        self.pace = pace or Pace()
        self._tied = tied
        self.script = f"{name}-{ENVIRONMENT}"
        self.config_file = self.directory / "backout.toml"
        self._secrets = self.directory / "secrets.env"
        self._application: Path | None = None
        self._twin: TwinStatus | None = None

    @property
    def host(self) -> str:
        """The Host header that leads to the application."""
        return f"{self.script}.localhost"

    @property
    def application(self) -> Path:
        """The folder that is deployed from. Raises UsageError: the installation is not whole."""
        if self._application is None:
            self._application = npm.find_sample_application(self.directory)
        return self._application

    @property
    def twin(self) -> TwinStatus:
        """The running twin. Raises UsageError: the stage is not set."""
        if self._twin is None:
            raise UsageError("the stage is not set", where=str(self.directory))
        return self._twin

    def check_variant(self, variant: str) -> None:
        """Raise UsageError where the application has no such variant."""
        if not (self.application / "src" / "variants" / f"{variant}.js").is_file():
            raise UsageError("there is no such variant", where=variant, hint="examples/fm5/README.md lists them")

    def clear(self) -> None:
        """Stop what ran here before and forget its state; incident reports stay."""
        lifecycle.stop_twin(self.directory / "twin")
        shutil.rmtree(self.directory / "twin", ignore_errors=True)
        for file in self.directory.glob("journal.sqlite*"):
            file.unlink()
        shutil.rmtree(self.directory / "locks", ignore_errors=True)

    def set_up(self, say: Callable[[str], None] = lambda _: None) -> TwinStatus:
        """Start the twin, build the database's tables, write the configuration.

        Args:
            say: hears what is installed first where npm parts are missing.
        """
        self._make_folder(say)
        owner = mark_own_process() if self._tied else None
        twin = self._twin = lifecycle.start_twin(self.directory / "twin", kind=self.home, owner=owner)
        dsn = str(twin.postgres_dsn)
        prisma = self.application / "prisma"
        PrismaDeploy(lambda: dsn).apply(PrismaMigrations(prisma / "migrations").read())
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute((prisma / "seed.sql").read_bytes())
        self._write_files(twin)
        return twin

    def join(self, twin: TwinStatus) -> None:
        """Use the running twin of another stage, its database and its bucket, with a Worker of this stage's name."""
        self._make_folder(lambda _: None)
        self._twin = twin
        self._write_files(twin)

    def _make_folder(self, say: Callable[[str], None]) -> None:
        make_private_folder(self.directory)
        self.directory.chmod(0o700)
        npm.link_parts(self.directory, npm.ensure(say))

    def _write_files(self, twin: TwinStatus) -> None:
        write_private(self._secrets, f"JWT_SECRET={secrets.token_hex(16)}\nEMAIL_API_KEY={secrets.token_hex(12)}\n")
        write_private(self.directory / "database-url", str(twin.postgres_dsn))
        self.config_file.write_text(self._config(twin), encoding="utf-8")

    def deploy(self, variant: str, **variables: str) -> str:
        """Deploy a variant of the application, with these variables, by the real wrangler and return its version id.

        Raises:
            BackoutError: wrangler says no; with the end of its output.
        """
        run = self.find_wrangler().run(*self.list_deploy_words(variant, variables))
        if run.returncode != 0:
            raise BackoutError(f"wrangler deploy failed: {run.said}", where=variant)
        return str(run.record("deploy")["version_id"])

    def find_wrangler(self) -> wrangler.Wrangler:
        """Return the wrangler that deploys to the twin. Raises UsageError: it is not installed."""
        api, account, token = self.twin.api_base_url, self.twin.account_id, Path(str(self.twin.api_token_file))
        return wrangler.find(self.application, str(api), str(account), token, self.directory / "wrangler")

    def list_deploy_words(self, variant: str, variables: Mapping[str, str]) -> tuple[str, ...]:
        """Return what wrangler is told to deploy a variant with these variables."""
        given = {"EMAIL_API_URL": str(self.twin.email_api_url), **variables}
        return (
            *("deploy", f"src/variants/{variant}.js", "--env", ENVIRONMENT),
            *(() if self.script == SCRIPT else ("--name", self.script)),
            *(word for name, value in given.items() for word in ("--var", f"{name}:{value}")),
            *("--secrets-file", str(self._secrets), "--message", variant),
        )

    def query(self, statement: LiteralString, *values: object) -> tuple[tuple[object, ...], ...]:
        """Run a statement on the sample application's database and return its rows, if it returns any.

        Raises:
            BackoutError: the database does not answer, or says no.
        """
        try:
            with psycopg.connect(str(self.twin.postgres_dsn), autocommit=True) as connection:
                found = connection.execute(statement, values)
                return tuple(found.fetchall()) if found.description is not None else ()
        except psycopg.Error as error:
            raise BackoutError(f"the twin's database: {str(error).strip()}", where=statement) from error

    @contextlib.contextmanager
    def rotated(self, name: str) -> Iterator[None]:
        """Have another value of a secret deployed until the block ends."""
        before = self._secrets.read_text(encoding="utf-8")
        kept = [line for line in before.splitlines() if not line.startswith(f"{name}=")]
        write_private(self._secrets, "\n".join([*kept, f"{name}={secrets.token_hex(16)}", ""]))
        try:
            yield
        finally:
            write_private(self._secrets, before)

    @contextlib.contextmanager
    def visitors(self, rate_per_s: float, kind: str = "usual") -> Iterator[None]:
        """Have visitors of a kind (see `traffic.VISITORS`) come, in a process of their own, until the block ends."""
        command = make_module_command(
            *("backout.twin.traffic", "--summary", "--url", str(self.twin.ingress_url)),
            *("--host", self.host, "--rate", str(rate_per_s), "--for", str(VISIT_AT_MOST_S)),
            *("--visitors", kind),
        )
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=make_bare_environment()
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait()

    def tear_down(self) -> None:
        """Stop the twin."""
        lifecycle.stop_twin(self.directory / "twin")

    def _config(self, twin: TwinStatus) -> str:
        """Return the configuration."""
        port = str(twin.ingress_url).rsplit(":", 1)[-1]
        pace = self.pace
        return f"""\
[app]
name = "fm5"

[environments.{ENVIRONMENT}]
health = {{ url = "http://{self.host}:{port}/health" }}
services = {{ database = "critical", storage = "critical", email = "degradable" }}
database = {{ provider = "postgres", url_file = "database-url", migrations = "prisma" }}
{self._describe_platform(twin)}
[environments.{ENVIRONMENT}.criteria]
error_rate = {{ below = 0.01, for = "{pace.error_rate_for_s:g}s" }}
watch = "{pace.watch_s:g}s"
latency = {{ p99_at_most = 4.0 }} # answers take milliseconds here, and other programs share the machine
old_version_quiet = "{pace.quiet_s:g}s"

[environments.{ENVIRONMENT}.guard]
mode = "act"
probe_every = "1s"

[journal]
path = "journal.sqlite"

[incidents]
directory = "incidents"
"""

    def _describe_platform(self, twin: TwinStatus) -> str:
        """Return the lines of the environment that are the platform's, and how its traffic is counted."""
        return f"""\
traffic = {{ provider = "twin", url = "{twin.control_url}", token_file = "twin/api-token" }}

[environments.{ENVIRONMENT}.platform]
provider = "cloudflare"
account_id = "{twin.account_id}"
script = "{self.script}"
api_base_url = "{twin.api_base_url}"
token_file = "twin/api-token"
"""


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, from its first byte on."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
