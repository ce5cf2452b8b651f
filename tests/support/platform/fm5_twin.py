"""FM5 on a real twin for tests: the real wrangler deploys its variants, its Host header reaches it, faults hit it."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from kept import furnish, furnish_wrangler

from backout.providers.files.migrations import PrismaMigrations
from backout.providers.postgres.schema.deploy import PrismaDeploy
from backout.twin import lifecycle, wrangler

from fm5_app import FM5, App
from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.twin.lifecycle import TwinStatus
    from backout.twin.wrangler import WranglerRun

SCRIPT = "fm5-production"
HOST = f"{SCRIPT}.localhost"


@dataclass(frozen=True)
class Fm5Twin:
    """A running twin with FM5's tables and catalogue in its database.

    Args:
        scratch: wrangler's own folder.
        secrets: the file that every deployment brings along.
    """

    twin: TwinStatus
    scratch: Path
    secrets: Path

    @property
    def app(self) -> App:
        """FM5 as visitors reach it."""
        assert self.twin.ingress_url is not None
        port = urllib.parse.urlsplit(self.twin.ingress_url).port
        assert port is not None
        return App(port, HOST)

    def wrangler(self, *arguments: str) -> WranglerRun:
        """Run the real wrangler in FM5's folder."""
        twin = self.twin
        assert twin.api_base_url is not None
        assert twin.account_id is not None
        assert twin.api_token_file is not None
        return wrangler.find(FM5, twin.api_base_url, twin.account_id, Path(twin.api_token_file), self.scratch).run(
            *arguments
        )

    def deploy(self, variant: str, *arguments: str) -> WranglerRun:
        """Deploy a variant to production, with its secrets and the outbox as its email provider."""
        return self.wrangler(
            "deploy",
            f"src/variants/{variant}.js",
            "--env",
            "production",
            "--var",
            f"EMAIL_API_URL:{self.twin.email_api_url}",
            "--secrets-file",
            str(self.secrets),
            "--message",
            variant,
            *arguments,
        )

    def live(self, variant: str, *arguments: str) -> str:
        """Deploy a variant that is expected to come up, and return its version's id."""
        run = self.deploy(variant, *arguments)
        assert run.returncode == 0, run.stdout + run.stderr
        return str(run.record("deploy")["version_id"])

    @contextlib.contextmanager
    def fault(self, kind: str, target: str | None = None) -> Iterator[None]:
        """Have something broken until the block ends."""
        self._call("PUT", {"kind": kind, "target": target})
        try:
            yield
        finally:
            self._call("DELETE", None)

    def code(self, version: str) -> str:
        """Return what tells the code of a version from other code."""
        path = f"accounts/{self.twin.account_id}/workers/scripts/{SCRIPT}/versions/{version}"
        answer = self._ask("GET", f"{self.twin.api_base_url}/{path}", None)
        return str(answer["result"]["resources"]["script"]["etag"])

    def _call(self, method: str, body: object) -> Any:
        return self._ask(method, f"{self.twin.ingress_url}/twin/v1/faults", body)

    def _ask(self, method: str, url: str, body: object) -> Any:
        assert self.twin.api_token_file is not None
        token = Path(self.twin.api_token_file).read_text(encoding="ascii").strip()
        request = urllib.request.Request(
            url,
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return json.loads(answer.read())


@contextlib.contextmanager
def fm5_twin() -> Iterator[Fm5Twin]:
    """Run a twin until the block ends."""
    directory = Path(tempfile.mkdtemp(prefix="fm5-twin-"))
    try:
        twin = lifecycle.start_twin(furnish(directory / "twin"))
        assert twin.postgres_dsn is not None
        dsn = str(twin.postgres_dsn)
        PrismaDeploy(lambda: dsn).apply(PrismaMigrations(FM5 / "prisma" / "migrations").read())
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute((FM5 / "prisma" / "seed.sql").read_bytes())
        secrets = directory / "secrets.env"
        secrets.write_text("JWT_SECRET=0123456789abcdef0123456789abcdef\nEMAIL_API_KEY=re_0123456789\n", "utf-8")
        yield Fm5Twin(twin, furnish_wrangler(directory / "scratch"), secrets)
    finally:
        lifecycle.stop_twin(directory / "twin")
        shutil.rmtree(directory)
