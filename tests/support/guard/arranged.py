"""What happens to the stage from outside in drills: builds, marks, migrations and secrets that others bring."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from values import replace

from backout.model.version import Mark, VersionId, VersionMark
from backout.twin.stage import SCRIPT

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drillbook import Drillbook, Trial


def upload(trial: Trial, version: str, *, without: str | None = None) -> str:
    """Upload the code of a version again (without one of its bindings); return the new version, which is not live."""
    tools = trial.tools()
    assert tools.rollback.bundles is not None
    bundle = tools.rollback.bundles.fetch(version)
    if without is not None:
        metadata = json.loads(bundle.metadata)
        kept = [binding for binding in metadata["bindings"] if binding["name"] != without]
        assert len(kept) < len(metadata["bindings"])
        bundle = replace(bundle, metadata=json.dumps({**metadata, "bindings": kept}).encode())
    return tools.rollback.bundles.upload(bundle, message="arranged").id


def mark_stable(trial: Trial, version: str) -> None:
    """Have a version proven stable just now, in the trial's journal."""
    tools = trial.tools()
    code_hash = tools.versions.detail(version).code_hash
    mark = VersionMark(Mark.STABLE, VersionId(version), code_hash, tools.clock.now(), "guard-1", "arranged")
    tools.marks.mark("production", mark, actor="ops@host")


@contextlib.contextmanager
def migrated(book: Drillbook, name: str) -> Iterator[None]:
    """Have a migration in the history, as Prisma writes it, until the block ends."""
    insert = (
        "INSERT INTO _prisma_migrations (id, checksum, finished_at, migration_name, started_at, applied_steps_count)"
        " VALUES (gen_random_uuid()::text, 'x', now(), %s, now(), 1)"
    )
    dsn = str(book.stage.twin.postgres_dsn)
    with psycopg.connect(dsn) as connection:
        connection.execute(insert, (name,))
    try:
        yield
    finally:
        with psycopg.connect(dsn) as connection:
            connection.execute("DELETE FROM _prisma_migrations WHERE migration_name = %s", (name,))


def api(book: Drillbook, method: str, path: str, body: object = None) -> object:
    """Call the API of the Worker as another tool would, and return the result."""
    twin = book.stage.twin
    token = Path(str(twin.api_token_file)).read_text(encoding="ascii").strip()
    url = f"{twin.api_base_url}/accounts/{twin.account_id}/workers/scripts/{SCRIPT}/{path}"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(
        urllib.request.Request(url, data, headers, method=method), timeout=PATIENCE_S
    ) as answer:
        return json.loads(answer.read())["result"]
