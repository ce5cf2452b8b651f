"""A version without traffic, asked at its own URL: real processes behind the twin's ingress, found through its API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout.config import Environment, load
from backout.errors import Unmeasured
from backout.providers.cloudflare.client import ApiClient

if TYPE_CHECKING:
    from backout.ports import HealthCheck

    from drillbook import Drillbook, Trial


def switch(trial: Trial, *, on: bool) -> None:
    """Switch version URLs, as `preview_urls` in wrangler's file does."""
    config = load(Environment({}), start=trial.folder, path=trial.config, environment="production")
    platform = config.environment.platform
    path = f"accounts/{config.account_id}/workers/scripts/{platform.script}/subdomain"
    body = {"enabled": True, "previews_enabled": on}
    ApiClient(str(platform.api_base_url), config.token().reveal).post(path, body, dict[str, bool], permission="")


def open_version(trial: Trial, version: str) -> HealthCheck:
    opener = trial.tools().rollback.open_version
    assert opener is not None
    return opener(version)


@pytest.mark.long
def test_a_version_without_traffic_answers_at_its_own_url(drillbook: Drillbook) -> None:
    """The good one there, while the bad one has the traffic; off, it has none."""
    trial = drillbook.trial()
    trial.make_live(drillbook.bad)
    with pytest.raises(Unmeasured, match="version URLs are off"):
        open_version(trial, drillbook.good)
    switch(trial, on=True)
    try:
        own = open_version(trial, drillbook.good)
        report = own.look()
        assert (report.measured, report.version) == (True, drillbook.good), report
        assert own.fetch("/").status == 200
        live = trial.tools().health
        assert live is not None
        assert live.look().version == drillbook.bad
    finally:
        switch(trial, on=False)
