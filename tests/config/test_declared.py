"""What a wrangler file declares beside requests: schedules are inherited by an environment, consumed queues are not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from backout import config
from backout.wiring.declared import list_declared

if TYPE_CHECKING:
    from pathlib import Path

BACKOUT = """[app]
name = "fm5"
[environments.production]
platform = { provider = "cloudflare", script = "fm5-production" }
[environments.staging]
platform = { provider = "cloudflare", script = "fm5-staging" }
"""
WRANGLER = {
    "name": "fm5",
    "triggers": {"crons": ["0 3 * * *", 7]},
    "queues": {"consumers": [{"queue": "top"}]},
    "env": {
        "production": {"queues": {"consumers": [{"queue": "orders"}, {}], "producers": [{"queue": "mails"}]}},
        "staging": {"triggers": {"crons": []}},
    },
}


@pytest.mark.parametrize(
    ("wrangler", "environment", "names"),
    [
        (WRANGLER, "production", {"cron 0 3 * * *", "queue orders"}),
        (WRANGLER, "staging", set()),
        ({"name": "other"}, "production", None),
        ({"name": "fm5", "env": {"production": {"triggers": "odd", "queues": []}}}, "production", set()),
        (None, "production", None),
    ],
)
def test_schedules_and_queues_that_a_file_declares(
    tmp_path: Path, wrangler: object, environment: str, names: set[str] | None
) -> None:
    """Of the Worker that the environment deploys; nothing is known without the file, or where it has no such Worker."""
    (tmp_path / "backout.toml").write_text(BACKOUT)
    if wrangler is not None:
        (tmp_path / "wrangler.json").write_text(json.dumps(wrangler))
    loaded = config.load(config.Environment({}), start=tmp_path, environment=environment, flags={})
    assert list_declared(loaded) == names
