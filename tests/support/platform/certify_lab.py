"""A small shop as a Worker whose routes are statements, for trials: old and new code differ by those alone."""

# ruff: noqa: E501 - a statement of SQL on one line is read at once

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from kept import furnish, furnish_wrangler, kept

from backout.analysis.certify.judging import KnownCode
from backout.analysis.certify.requests import parse_requests
from backout.analysis.certify.statements import find_in_code, select_known
from backout.analysis.compatibility import judge
from backout.model.bundle import Bundle, BundleModule
from backout.model.database.compatibility import MigrationFile
from backout.model.version import Version, VersionId
from backout.runbook.certify.certificates import make_certificate
from backout.runbook.certify.trial import run_round_trip
from backout.twin import wrangler
from backout.wiring.certify.twin import CertifyStage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.model.database.certificate import Certificate

ESM = "application/javascript+module"
INDEX = """
import { Client } from "./driver.js";
import { routes } from "./routes.js";

export default {
  async fetch(request, env, ctx) {
    const { pathname } = new URL(request.url);
    const parts = pathname.split("/");
    const id = /^\\d+$/.test(parts.at(-1)) ? parts.at(-1) : undefined;
    const route = routes[`${request.method} ${id === undefined ? pathname : [...parts.slice(0, -1), ":id"].join("/")}`];
    if (route === undefined) return Response.json({ error: "no such route" }, { status: 404 });
    const body = { id, ...JSON.parse((await request.text()) || "{}") };
    const client = new Client({ connectionString: env.HYPERDRIVE.connectionString });
    client.on("error", () => {});
    try {
      await client.connect();
      const [text, ...names] = route;
      const { rows } = await client.query(text, names.map((name) => body[name] ?? null));
      return Response.json({ rows });
    } catch (error) {
      return Response.json({ error: error.message }, { status: 500 });
    } finally {
      await client.end().catch(() => {});
    }
  },
};
"""
DRIVER = 'import { Client } from "pg";\nexport { Client };\nexport default { fetch: () => new Response() };\n'
FIRST = MigrationFile(
    "0001_shop",
    """
    CREATE TABLE customers (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text NOT NULL UNIQUE, name text);
    CREATE TABLE orders (
      id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer_id int NOT NULL REFERENCES customers,
      status text NOT NULL DEFAULT 'new', quantity int NOT NULL, total numeric(10, 2) NOT NULL, note varchar(40));
    CREATE TABLE audit (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text NOT NULL, at timestamptz DEFAULT now());
    CREATE TABLE settings (name text PRIMARY KEY, value text NOT NULL);
    """,
    "first",
)  # fmt: skip
OLD: Mapping[str, Sequence[str]] = {
    "GET /customers": ("SELECT id, email, name FROM customers ORDER BY id DESC LIMIT 50",),
    "POST /customers": ("INSERT INTO customers (email, name) VALUES ($1, $2) RETURNING id", "email", "name"),
    "GET /orders": ("SELECT * FROM orders ORDER BY id DESC LIMIT 50",),
    "GET /orders/:id": (
        "SELECT o.id, o.status, o.total, c.email FROM orders o JOIN customers c ON c.id = o.customer_id WHERE o.id = $1",
        "id",
    ),
    "POST /orders": (
        "INSERT INTO orders (customer_id, quantity, total, note) SELECT max(id), $1, $2, $3 FROM customers RETURNING *",
        "quantity", "total", "note",
    ),
    "POST /orders/paid": ("UPDATE orders SET status = 'paid' WHERE id = (SELECT max(id) FROM orders) RETURNING id, status",),
    "GET /settings": ("SELECT name, value FROM settings ORDER BY name",),
}  # fmt: skip
REQUESTS = "\n".join(
    json.dumps(request)
    for request in (
        {"method": "POST", "path": "/customers", "body": {"email": "c{{n}}@example.com", "name": "Customer {{n}}"}},
        {"method": "GET", "path": "/customers"},
        {
            "method": "POST", "path": "/orders", "body": {"quantity": 2, "total": "19.50", "note": "ring twice"},
            "save": {"order": "rows.0.id"},
        },
        {"method": "GET", "path": "/orders"},
        {"method": "GET", "path": "/orders/{{order}}"},
        {"method": "POST", "path": "/orders/paid"},
        {"method": "GET", "path": "/settings"},
    )
)  # fmt: skip


class Case(NamedTuple):
    """One trial: the migration, and what the new code does otherwise than the old one."""

    name: str
    sql: str
    new: Mapping[str, Sequence[str]] = {}
    requests: str = REQUESTS
    old: Mapping[str, Sequence[str]] = OLD


def make_bundle(name: str, routes: Mapping[str, Sequence[str]]) -> Bundle:
    """Return the shop with these routes."""
    modules = (
        BundleModule("index.js", ESM, INDEX.encode()),
        BundleModule("driver.js", ESM, _driver()),
        BundleModule("routes.js", ESM, f"export const routes = {json.dumps(routes, indent=1)};\n".encode()),
    )
    metadata = {
        "main_module": "index.js",
        "compatibility_date": "2026-10-01",
        "compatibility_flags": ["nodejs_compat"],
        "bindings": [
            {"type": "hyperdrive", "name": "HYPERDRIVE", "id": "1"},
            {"type": "inherit", "name": "JWT_SECRET"},
        ],
        "backout/whole": True,
    }
    return Bundle(Version(VersionId(name), 1, 0.0), msgspec.json.encode(metadata), modules)


def run_case(stage: CertifyStage, case: Case, at: float = 1_800_000_000.0) -> Certificate:
    """Return the certificate of a case; the database is made anew."""
    stage.database.clear()
    stage.database.prepare([FIRST])
    migrations = [MigrationFile("0002_next", case.sql, "next")]
    old, new = stage.upload(make_bundle("old", case.old)), stage.upload(make_bundle("new", {**case.old, **case.new}))
    requests = parse_requests(case.requests, "requests.jsonl")
    tables = {name.rpartition(".")[2].strip('"') for name in stage.database.read_rows()}
    seen = run_round_trip(stage.open_application(old, new), stage.database, requests, migrations)
    known = KnownCode(select_known(find_in_code(old.text), tables))
    verdicts = judge([FIRST, *migrations])[1:]
    codes = ((old.hash, old.hash), (new.hash, new.hash))
    return make_certificate(codes, FIRST.name, migrations, seen, known, verdicts, at=at)


def open_stage(folder: Path) -> CertifyStage:
    """Return a stage in this folder, with what tests have made already."""
    furnish(folder / "twin")
    return CertifyStage(folder)


def _driver() -> bytes:
    """Return the database driver as one module, as wrangler bundles it; once in a run."""
    folder = kept("certify-driver")
    made = folder / "driver.js"
    if not made.is_file():
        own = Path(tempfile.mkdtemp(dir=folder))
        (own / "driver.js").write_text(DRIVER, encoding="utf-8")
        settings = {"name": "driver", "main": "driver.js", "compatibility_date": "2026-10-01"}
        flags = {"compatibility_flags": ["nodejs_compat"]}
        (own / "wrangler.json").write_text(json.dumps({**settings, **flags}), encoding="utf-8")
        (own / "node_modules").symlink_to(Path(__file__).resolve().parents[3] / "node_modules")
        (own / "token").write_text("none", encoding="utf-8")
        scratch = furnish_wrangler(own / "scratch")
        run = wrangler.find(own, "http://127.0.0.1:9/client/v4", "none", own / "token", scratch).run(
            "deploy", "--dry-run", "--outdir", "out"
        )
        assert run.returncode == 0, run.stderr
        (own / "out" / "driver.js").replace(made)
    return made.read_bytes()
