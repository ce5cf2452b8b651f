"""`backout doctor` and `preflight` look whether a trial of a way back has left something in an environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout import config
from backout.model.checkup import CheckState, Level
from backout.wiring.certify import left
from backout.wiring.checkup.data import list_database_lanes

if TYPE_CHECKING:
    from pathlib import Path

_CONFIG = """[app]
name = "shop"
[environments.staging]
health = { url = "https://shop.example.com/health" }
[environments.staging.platform]
provider = "cloudflare"
script = "shop"
account_id = "0123"
[environments.staging.database]
provider = "postgres"
url_env = "STAGING_URL"
"""


class NothingDeployed:
    """A platform on which no trial has left its code."""

    def __init__(self, *_: object) -> None: ...

    def history(self) -> tuple[()]:
        return ()


@pytest.mark.parametrize("variables", [{}, {"STAGING_URL": "postgresql://u:secret@127.0.0.1:1/shop"}])
def test_a_database_that_does_not_tell_is_no_database_without_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    (tmp_path / "backout.toml").write_text(_CONFIG)
    monkeypatch.setattr(left, "CloudflareDeployments", NothingDeployed)
    monkeypatch.setattr(left, "make_reader", lambda *_: None)
    loaded = config.load(config.Environment(variables), start=tmp_path, environment="staging")
    (question,) = (each for lane in list_database_lanes(loaded) for each in lane if each.name == "trial")
    (check,) = question.ask()
    assert (check.state, check.level) == (CheckState.UNMEASURED, Level.SHOULD)
    assert "whether its empty database is in place of your own is not known" in check.why
    assert "secret" not in check.why
