"""A night behind a real HAProxy, spoken for by commands: advice until they passed, then guard returns to the good."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from caddy_home import get_last, wait_for_visits
from haproxy_home import haproxy_home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from haproxy_home import HaproxyShop

pytestmark = pytest.mark.rotating("nights on hosts", 3)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[HaproxyShop]:
    """A shop with a good version live."""
    with haproxy_home(tmp_path) as running:
        running.start("v1", "good")
        running.deploy("v1")
        yield running


@pytest.mark.long
def test_commands_that_pass_are_pinned(shop: HaproxyShop) -> None:
    """With a page; a person's rollback is asked for once more before, and a change of what they run takes it back."""
    shop.start("v2", "better")
    shop.deploy("v2")
    refused = shop.run("rollback", "v1", "--accept-unproven", code=3)
    assert "advice only" in refused.err
    assert len(shop.run("conformance", "--dry-run", "--json").json["calls"]) == 8  # type: ignore[arg-type]
    done = shop.run("conformance", "--yes", "--json", "--write", "passed.md").json
    assert (done["conforms"], [each["passed"] for each in done["calls"]]) == (True, [True] * 8)  # type: ignore[attr-defined]
    assert "Nothing failed." in (shop.host.folder / "passed.md").read_text()
    assert f'conformance = "{done["pinned"]}"' in (shop.host.folder / "backout.toml").read_text()
    went = shop.run("rollback", "v1", "--accept-unproven", "--no-wait", "--yes", "--json")
    assert went.json["live_version"] == "v1"
    assert "advice only" not in went.err
    settings = shop.host.folder / "backout.toml"
    settings.write_text(settings.read_text().replace('timeout = "120s"', 'pass_environment = ["LANG"]'))
    shop.start("v3", "best")
    shop.deploy("v3")
    assert "changed since" in shop.run("rollback", "v1", "--accept-unproven", code=3).err


@pytest.mark.long
def test_guard_advises_first_and_then_finds_a_bad_version_and_rolls_it_back(shop: HaproxyShop) -> None:
    """Each step by its command, with visitors all the time; what they get says whether it is true."""
    with shop.visited() as answers:
        shop.run("guard", "--for", "60s", "--early", "--json")
        shop.start("v2", "bad")
        shop.deploy("v2")
        advised = shop.run("guard", "--json", code=3)
        assert "pass `backout conformance`" in advised.out + advised.err
        assert get_last(advised)["live_version"] == "v2"
        shop.deploy("v1")
        assert shop.run("conformance", "--yes", "--json").json["conforms"]
        shop.start("v3", "bad again")
        shop.deploy("v3")
        found = get_last(shop.run("guard", "--json", code=1))
        assert (found["verdict"], found["live_version"]) == ("regressed", "v1")
        before = len(answers)
        wait_for_visits(answers, before + 50)
        assert set(answers[before + 2 :]) == {(200, "v1")}
    shop.host.restart()
    with shop.visited() as answers:
        wait_for_visits(answers, 20)
    assert set(answers) == {(200, "v1")}
    assert shop.run("status", "--json").json["live_version"] == "v1"
