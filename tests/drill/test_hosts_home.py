"""Two hosts behind ssh by commands: a push, a rollback that reaches one of them, a resume that ends alike on both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from caddy_home import get_last, visits, wait_for_visits
from caddy_lab import running_caddy
from hosts_home import hosts_home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hosts_home import HostsShop


pytestmark = pytest.mark.rotating("hosts behind ssh", 3)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[HostsShop]:
    """A shop with no release yet, and its configuration."""
    with hosts_home(tmp_path) as running:
        yield running


def test_a_push_is_proved_and_live_on_every_host(shop: HostsShop) -> None:
    """Each host's own process is asked for its health; one that is sick on one host alone gets no visitor anywhere."""
    good = shop.push("good").json
    assert good["hosts"] == {"web1": good["live"], "web2": good["live"]}
    assert (good["share"], good["proved"]) == (100.0, True)
    sick = shop.push("sick", ends=1).json
    assert (sick["live"], sick["share"]) == (good["live"], 0.0)


@pytest.mark.long
def test_a_rollback_that_reaches_one_host_is_resumed_to_the_same_end_on_both(shop: HostsShop) -> None:
    """Proved on the one; exit code 5, no version is live meanwhile, and no host that was not read is said to be."""
    good, bad = (str(shop.push(code).json["live"]) for code in ("good", "bad"))
    shop.hosts.hosts["web2"].stop_ssh()
    partly = shop.run("rollback", good, "--no-wait", "--yes", "-m", "x", "--json", code=5)
    assert "web2" in partly.err + partly.out
    shop.hosts.hosts["web2"].start_ssh()
    status = shop.run("status", "--json", code=1).json
    assert (status["live_version"], status["hosts"]) == (None, {"web1": good, "web2": bad})
    run = str(shop.run("runs", "list", "--json").json["runs"][0]["run_id"])  # type: ignore[index]
    shop.run("runs", "resume", run, "--json")
    status = shop.run("status", "--json", code=None).json
    assert (status["live_version"], status["hosts"]) == (good, None)


@pytest.mark.long
def test_a_push_that_reaches_one_host_is_ended_by_the_command_that_it_names(shop: HostsShop) -> None:
    """The release is on every host, and live on one; `release live` makes it live on the others."""
    good = shop.push("good").json["live"]
    web2 = shop.hosts.hosts["web2"]
    web2.caddy.stop_caddy()
    partly = shop.push("better", ends=5)
    better = partly.json["release"]["id"]  # type: ignore[index]
    assert (partly.json["live"], partly.json["hosts"]) == (None, {"web1": better, "web2": None})
    assert f"release live {better}" in partly.err
    with running_caddy(web2.folder):
        ended = shop.run("release", "live", str(better), "--json").json
        assert (ended["live"], ended["hosts"]) == (better, {"web1": better, "web2": better})
    assert better != good


@pytest.mark.long
def test_guard_counts_every_hosts_visitors_and_rolls_back_on_each(shop: HostsShop) -> None:
    """The logs are read over ssh; a release that is bad is found, and the good one is live on both again."""
    good = shop.push("good").json["live"]
    urls = [host.caddy.url for host in shop.hosts.hosts.values()]
    with visits(urls[0]) as one, visits(urls[1]) as other:
        shop.run("guard", "--for", "60s", "--early", "--json")
        assert shop.push("bad").json["hosts"] != {"web1": good, "web2": good}
        found = get_last(shop.run("guard", "--json", code=1))
        assert (found["verdict"], found["live_version"]) == ("regressed", good)
        for answers in (one, other):
            before = len(answers)
            wait_for_visits(answers, before + 20)
            assert set(answers[before + 2 :]) == {(200, good)}
