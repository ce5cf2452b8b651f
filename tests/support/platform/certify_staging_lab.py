"""A staging on a twin of its own: the shop, its database with rows, and production's Worker beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
from certify_lab import FIRST, OLD, REQUESTS, make_bundle
from kept import furnish
from values import replace

from backout.model.bundle import BundleModule
from backout.providers.cloudflare.bundles import LIMITS, CloudflareBundles, upload_form
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.deployments import CloudflareDeployments
from backout.providers.cloudflare.permissions import WRITE_HYPERDRIVE, WRITE_SCRIPTS
from backout.twin import lifecycle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ESM = "application/javascript+module"
MAIN = """
import shop from "./index.js";
export default {
  fetch(request, env, ctx) {
    if (new URL(request.url).pathname !== "/health") return shop.fetch(request, env, ctx);
    return Response.json({ status: "ok", version: env.VERSION.id });
  },
};
"""
KEPT = "INSERT INTO customers (email, name) VALUES ('kept@example.com', 'is of staging')"


class Staging:
    """The twin, with both Workers; the old code is live in staging.

    Args:
        folder: of the twin.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "twin"
        furnish(self._folder)
        twin = lifecycle.start_twin(self._folder)
        with psycopg.connect(str(twin.postgres_dsn), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
        lifecycle.stop_twin(self._folder)
        self.twin = lifecycle.start_twin(self._folder)
        self.dsn = str(self.twin.postgres_dsn)
        self.token_file = Path(str(self.twin.api_token_file))
        token = self.token_file.read_text(encoding="utf-8").strip()
        self.account = str(self.twin.account_id)
        self._client = ApiClient(str(self.twin.api_base_url), lambda: token, limits=LIMITS)
        self.hyperdrives = {name: self._make_hyperdrive(name) for name in ("staging", "production")}
        self.run_sql(FIRST.sql, KEPT)
        for script in ("shop-staging", "shop-production"):
            placeholder = BundleModule("p.js", ESM, b"export default { fetch: () => new Response() };")
            path = f"accounts/{self.account}/workers/scripts/{script}"
            self._client.put(path, upload_form({"main_module": "p.js"}, (placeholder,)), permission=WRITE_SCRIPTS)
        self.old = self.upload("old", OLD)
        self.make_live(self.old)
        self.make_live(self.upload("old", OLD, owner="production"), owner="production")

    def _make_hyperdrive(self, name: str) -> str:
        origin = {"host": "db", "port": 5432, "database": "a", "user": "u", "password": "p", "scheme": "postgres"}
        body = {"name": name, "origin": origin, "caching": {"disabled": True}}
        path = f"accounts/{self.account}/hyperdrive/configs"
        return str(self._client.post(path, body, dict[str, Any], permission=WRITE_HYPERDRIVE)["id"])

    def set_caching(self, *, on: bool) -> None:
        """Have staging's Hyperdrive cache or not."""
        path = f"accounts/{self.account}/hyperdrive/configs/{self.hyperdrives['staging']}"
        self._client.change(path, {"caching": {"disabled": not on}}, permission=WRITE_HYPERDRIVE)

    def upload(
        self,
        name: str,
        routes: Mapping[str, Sequence[str]],
        *,
        owner: str = "staging",
        bound_to: str = "",
        more: Sequence[Mapping[str, str]] = (),
    ) -> str:
        """Upload the shop with these routes; return the version's id.

        Args:
            bound_to: whose database; default: its owner's.
            more: bindings besides.
        """
        bundle = make_bundle(name, routes)
        metadata = msgspec.json.decode(bundle.metadata)
        metadata["main_module"] = "main.js"
        hyperdrive = self.hyperdrives[bound_to or owner]
        metadata["bindings"] = [
            {"type": "hyperdrive", "name": "HYPERDRIVE", "id": hyperdrive},
            {"type": "version_metadata", "name": "VERSION"},
            *more,
        ]
        modules = (BundleModule("main.js", ESM, MAIN.encode()), *bundle.modules)
        made = replace(bundle, metadata=msgspec.json.encode(metadata), modules=modules)
        return CloudflareBundles(self._client, self.account, f"shop-{owner}").upload(made, message=name).id

    def write_folder(self, folder: Path, routes: Mapping[str, Sequence[str]]) -> None:
        """Write the shop with these routes as a project for wrangler, bound to staging's database."""
        folder.mkdir()
        (folder / "main.js").write_text(MAIN, encoding="utf-8")
        for module in make_bundle("new", routes).modules:
            (folder / module.name).write_bytes(module.content)
        settings = {
            "name": "shop",
            "main": "main.js",
            "compatibility_date": "2026-10-01",
            "compatibility_flags": ["nodejs_compat"],
            "no_bundle": True,
            "rules": [{"type": "ESModule", "globs": ["**/*.js"]}],
            "env": {
                "staging": {
                    "hyperdrive": [{"binding": "HYPERDRIVE", "id": self.hyperdrives["staging"]}],
                    "version_metadata": {"binding": "VERSION"},
                }
            },
        }
        (folder / "wrangler.json").write_text(json.dumps(settings), encoding="utf-8")

    def make_live(self, version: str, *, owner: str = "staging") -> None:
        """Deploy a version."""
        deployments = CloudflareDeployments(self._client, self.account, f"shop-{owner}")
        deployments.activate(version, message="by hand", force=True)

    def live(self) -> str | None:
        """Return the version that is live in staging."""
        return CloudflareDeployments(self._client, self.account, "shop-staging").history()[0].sole

    def run_sql(self, *statements: str) -> None:
        """Run statements on staging's database."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def look(self) -> tuple[object, ...]:
        """Return what must be as before in the end: the databases, staging's own by its id, its customers."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            databases = connection.execute("SELECT datname, oid, datallowconn FROM pg_database ORDER BY 1").fetchall()
            customers = connection.execute("SELECT id, email FROM customers ORDER BY 1").fetchall()
        return databases, customers

    def read_identifier(self) -> str:
        """Return the system identifier of staging's server."""
        with psycopg.connect(self.dsn) as connection:
            row = connection.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
        assert row is not None
        return str(row[0])

    def stop(self) -> None:
        """Stop the twin."""
        lifecycle.stop_twin(self._folder)

    def lay_out(self, folder: Path, sql: str) -> None:
        """Write a project: configuration, migrations of which the second is tried, requests."""
        (folder / "migrations").mkdir(exist_ok=True)
        (folder / "migrations" / "0001_shop.sql").write_text(FIRST.sql, encoding="utf-8")
        (folder / "migrations" / "0002_next.sql").write_text(sql, encoding="utf-8")
        (folder / "requests.jsonl").write_text(REQUESTS, encoding="utf-8")
        (folder / "url").write_text(self.dsn, encoding="utf-8")
        (folder / "url").chmod(0o600)
        port = str(self.twin.ingress_url).rsplit(":", 1)[-1]
        place = f"""\
provider = "cloudflare"
account_id = "{self.account}"
api_base_url = "{self.twin.api_base_url}"
token_file = {json.dumps(str(self.token_file))}
"""
        (folder / "backout.toml").write_text(
            f"""\
[app]
name = "shop"

[environments.production.platform]
script = "shop-production"
{place}
[environments.production.database]
provider = "postgres"
url_env = "PRODUCTION_DATABASE_URL"

[environments.production.pin]
database_system_identifier = "7123/app"

[environments.production.certify]
requests = "requests.jsonl"

[environments.staging]
health = {{ url = "http://shop-staging.localhost:{port}/health" }}
database = {{ provider = "postgres", url_file = "url" }}

[environments.staging.platform]
script = "shop-staging"
{place}
""",
            encoding="utf-8",
        )
