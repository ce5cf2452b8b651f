"""Bad input and trouble with the API, through the real program: retried, then said clearly, and resumable."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from api_gate import Answer, api_gate, said

from polling import until
from private import write_private
from scripted_server import answer, drip, hang, raw_answer, refused_url, scripted_server

if TYPE_CHECKING:
    from drillbook import Drillbook
    from scripted_server import Step

pytestmark = pytest.mark.rotating("drills", 5)

ROLLBACK = ("rollback", "-m", "it fails", "--confirm", "production", "--no-wait", "--json")
DOWN = Answer()


@pytest.mark.calm
@pytest.mark.parametrize("command", [("status",), ("rollback", "-m", "why"), ("guard",), ("runs", "list")])
def test_malformed_configuration(drillbook: Drillbook, command: tuple[str, ...]) -> None:
    """Every mistake at once, with its line and the likely word, whatever the command; exit 78."""
    trial = drillbook.trial().replace(("watch =", "wacth ="), ('mode = "act"', 'mode = "atc"'), ('"1s"', '"1 parsec"'))
    ended = trial.run(*command, "--json")
    assert ended.code == 78
    assert ended.json["schema"] == "backout.error/1"
    assert [m.split(":")[0] for m in ended.json["mistakes"]] == ["backout.toml"] * 3
    for words in ("did you mean 'watch'", "did you mean 'act'", "1 parsec"):
        assert words in ended.err


@pytest.mark.calm
def test_configuration_that_is_no_toml(drillbook: Drillbook) -> None:
    """The line of the mistake, and what to type."""
    trial = drillbook.trial()
    trial.config.write_text("[app]\nname = \n", encoding="utf-8")
    ended = trial.run("status")
    assert ended.code == 78
    assert "backout.toml:2: TOML" in ended.err
    assert "backout config check" in ended.err


@pytest.mark.long
@pytest.mark.calm
def test_missing_token(drillbook: Drillbook) -> None:
    """Exit 4, naming the variable to set."""
    trial = drillbook.trial().replace((r"(?m)^token_file = .*\n", ""))
    ended = trial.run("status", "--json")
    assert ended.code == 4
    assert "CLOUDFLARE_API_TOKEN" in ended.json["hint"]


@pytest.mark.long
@pytest.mark.calm
def test_wrong_token(drillbook: Drillbook) -> None:
    """Exit 4, naming the permission that a right one needs, and never the token."""
    trial = drillbook.trial()
    canary = "canary-7f3b1c55d0aa4e6f"
    write_private(trial.folder / "token", canary)
    trial.replace((r"(?m)^token_file = .*\n", f'token_file = "{trial.folder}/token"\n'))
    ended = trial.run("status", "--json")
    assert ended.code == 4
    assert "Workers Scripts Read" in ended.json["what"]
    assert canary not in ended.out + ended.err


@pytest.mark.long
@pytest.mark.calm
def test_token_without_the_permission_to_switch(drillbook: Drillbook) -> None:
    """Reading works, the switch is refused: exit 4 names the permission, the run is over, nothing was changed."""
    with api_gate(str(drillbook.stage.twin.api_base_url)) as gate:
        trial = drillbook.trial().behind(gate.url)
        trial.make_live(drillbook.bad)
        gate.when("POST", "/deployments", said(403, 10000, "Authentication error"))
        ended = trial.run(*ROLLBACK)
        assert ended.code == 4, ended.err
        assert "Workers Scripts Write" in ended.json["what"]
        assert trial.newest()["state"] == "failed"
        assert trial.live() == drillbook.bad
        resumed = trial.run("runs", "resume", trial.newest()["run_id"])
        assert resumed.code == 2
        assert "nothing to resume" in resumed.err
        assert trial.run(*ROLLBACK).code == 0
        assert trial.live() == drillbook.good


@pytest.mark.long
@pytest.mark.calm
@pytest.mark.parametrize("command", [("status",), ("rollback", "--dry-run")])
def test_api_down(drillbook: Drillbook, command: tuple[str, ...]) -> None:
    """Retried, then exit 7 with one clear sentence; the same command works once the API is back."""
    trial = drillbook.trial()
    trial.make_live(drillbook.bad)
    with drillbook.fault("api-down"):
        ended = trial.run(*command, "--json")
    assert ended.code == 7
    assert ended.json["error"] == "ProviderUnavailable"
    assert "503" in ended.json["what"]
    assert "same command again" in ended.err
    assert trial.run(*command, "--json").json["schema"] != "backout.error/1"


@pytest.mark.long
@pytest.mark.calm
def test_api_that_limits_the_rate_is_waited_for(drillbook: Drillbook) -> None:
    """A 429 is obeyed, for reading and for the switch, and the command succeeds."""
    with api_gate(str(drillbook.stage.twin.api_base_url)) as gate:
        trial = drillbook.trial().behind(gate.url)
        trial.make_live(drillbook.bad)
        gate.passed.clear()
        gate.when("GET", "/deployments", said(429, 971, "slow down", Retry_After="1"))
        gate.when("POST", "/deployments", said(429, 971, "slow down", Retry_After="1"))
        ended = trial.run(*ROLLBACK)
        assert ended.code == 0, ended.err
        assert [status for method, _, status in gate.passed if method == "POST"] == [429, 200, 200]  # proof, switch
        assert ended.json["live_version"] == drillbook.good


@pytest.mark.long
@pytest.mark.calm
def test_slow_api(drillbook: Drillbook) -> None:
    """Slow is not down."""
    trial = drillbook.trial()
    trial.make_live(drillbook.good)
    with drillbook.fault("api-slow", latency_ms=700):
        assert trial.run("status", "--json").json["live_version"] == drillbook.good


@pytest.mark.long
@pytest.mark.calm
def test_switch_whose_answer_is_cut(drillbook: Drillbook) -> None:
    """The provider lists the switch, so that the command goes on with it, and there is exactly one."""
    with api_gate(str(drillbook.stage.twin.api_base_url)) as gate:
        trial = drillbook.trial().behind(gate.url)
        trial.make_live(drillbook.bad)
        before = gate.posts()
        cut = Answer(200, b'{"succ', after=True, cut=True)
        gate.when("POST", "/deployments", cut, after_posts=before + 1)  # the first one puts the target at 0 %
        ended = trial.run(*ROLLBACK)
        assert ended.code == 0, ended.err
        assert ended.json["live_version"] == drillbook.good
        assert gate.posts() == before + 2


@pytest.mark.long
@pytest.mark.calm
def test_switch_without_a_usable_answer(drillbook: Drillbook) -> None:
    """Exit 5 says that it is unknown; resume asks the provider first, and there is exactly one switch."""
    with api_gate(str(drillbook.stage.twin.api_base_url)) as gate:
        trial = drillbook.trial().behind(gate.url)
        bad = trial.make_live(drillbook.bad)
        gate.when("POST", "/deployments", DOWN, after_posts=gate.posts() + 1)  # the first one puts the target at 0 %
        ended = trial.run(*ROLLBACK)
        assert ended.code == 5, ended.err
        assert "unknown whether" in ended.json["what"]
        assert ended.json["hint"].startswith(f"backout runs resume {ended.json['where']} -e production")
        resumed = trial.run("runs", "resume", ended.json["where"], "--json")
        assert resumed.code == 0, resumed.err
        assert resumed.json["live_version"] == drillbook.good
        history = trial.tools().deployments.history()
        assert history[2].id == bad.id
        again = trial.run("runs", "resume", ended.json["where"], "--json")
        assert again.code == 0
        assert "nothing is left to do" in again.err
        assert again.json == resumed.json
        assert trial.tools().deployments.history()[0].id == history[0].id


@pytest.mark.long
@pytest.mark.calm
def test_api_down_at_the_read_back(drillbook: Drillbook) -> None:
    """The switch happened but cannot be read back: exit 5 claims nothing; the same command goes on."""
    with api_gate(str(drillbook.stage.twin.api_base_url)) as gate:
        trial = drillbook.trial().behind(gate.url)
        trial.make_live(drillbook.bad)
        before = gate.posts()
        gate.when("GET", "/deployments", *[DOWN] * 5, after_posts=before + 2)
        ended = trial.run(*ROLLBACK)
        assert ended.code == 5, ended.err
        assert "read back" in ended.json["what"]
        assert "live_version" not in ended.json
        resumed = trial.run(*ROLLBACK)
        assert resumed.code == 0, resumed.err
        assert gate.posts() == before + 2
        assert resumed.json["live_version"] == drillbook.good


@pytest.mark.long
def test_api_down_when_guard_wants_to_act(drillbook: Drillbook) -> None:
    """The verdict stays in the journal: exit 5, and resume carries the rollback out when the API is back."""
    trial = drillbook.trial()
    trial.make_live(drillbook.good)
    trial.make_live(drillbook.bad)
    shown = trial.folder / "guard.jsonl"
    shown.touch()
    with ThreadPoolExecutor(1) as pool:
        guarding = pool.submit(trial.run, "guard", "--json", stdout=str(shown), asks_for_s=10.0)
        until(lambda: '"tick"' in shown.read_text(encoding="utf-8"), what="guard looks")
        with drillbook.fault("api-down"):
            ended = guarding.result()
    assert ended.code == 5, ended.err
    assert "backout runs resume guard-" in ended.err
    assert '"backout.error/1"' in shown.read_text(encoding="utf-8").splitlines()[-1]
    assert trial.live() == drillbook.bad
    resumed = trial.run("runs", "resume", trial.newest()["run_id"], "--json")
    assert resumed.code == 1, resumed.err
    assert resumed.json["action"] == "rollback"
    assert resumed.json["verdict"] == "regressed"
    assert resumed.json["verified"] is True
    assert trial.live() == drillbook.good


HEALTH: dict[str, tuple[Step, str]] = {
    "hangs": (hang(), "timed_out"),
    "drips": (drip(b"HTTP/1.1 200 OK\r\n"), "timed_out"),
    "redirects elsewhere": (answer(b"", 302, Location="http://example.invalid/health"), "unreadable"),
    "html": (answer(b"<html>hello</html>", 200, Content_Type="text/html"), "unreadable"),
    "10 MB": (answer(b'{"status": "' + b"x" * 10_000_000 + b'"}'), "unreadable"),
    "invalid JSON": (answer(b'{"status": '), "unreadable"),
    "not HTTP": (raw_answer(b"\x00\xff garbage\r\n\r\n"), "unreachable"),
}


@pytest.mark.long
@pytest.mark.calm
@pytest.mark.parametrize("name", sorted(HEALTH))
def test_health_endpoint_of_every_bad_kind(drillbook: Drillbook, name: str) -> None:
    """Status says how the endpoint is sick and why; it never crashes, and never takes it for healthy."""
    step, reach = HEALTH[name]
    with scripted_server() as server:
        server.will(step)
        trial = drillbook.trial().replace((r"health = \{.*", f'health = {{ url = "{server.url}/", timeout = "1s" }}'))
        ended = trial.run("status", "--json")
    assert ended.code in (0, 1), ended.err
    assert ended.json["health"]["reach"] == reach
    assert ended.json["health"]["overall"] != "ok"
    assert ended.json["health"]["findings"]


@pytest.mark.long
def test_watches_with_a_health_endpoint_that_cannot_be_read(drillbook: Drillbook) -> None:
    """Guard does not blame the deployment; a verification shows what it could not measure, and is not blocked by it."""
    with scripted_server() as server:
        server.will(answer(b"<html>", 200, Content_Type="text/html"))
        trial = drillbook.trial().replace((r"health = \{.*", f'health = {{ url = "{server.url}/", timeout = "1s" }}'))
        trial.replace((r'watch = "\d+s"', 'watch = "7s"'))
        trial.make_live(drillbook.good)
        watched = trial.run("guard", "--json")
        assert watched.json["verdict"] in ("healthy", "inconclusive"), watched.out
        assert watched.json["action"] != "rollback"
        trial.make_live(drillbook.bad)
        waiting = [part for part in ROLLBACK if part != "--no-wait"]
        assert trial.run(*waiting).json["rule"] == "6 proof"
        ended = trial.run(*waiting, "--accept-unproven")
    assert ended.code == 0, ended.err
    states = {criterion["name"]: criterion["state"] for criterion in ended.json["criteria"]}
    assert states["health check returns 200"] == states["all services ok"] == "unmeasured"
    assert states["error rate below 5 %"] == "passed"


@pytest.mark.long
@pytest.mark.calm
def test_nobody_listens_at_the_health_address(drillbook: Drillbook) -> None:
    """Unreachable is down, not unmeasured."""
    trial = drillbook.trial().replace((r"health = \{.*", f'health = {{ url = "{refused_url()}/" }}'))
    ended = trial.run("status", "--json")
    assert ended.code == 1
    assert ended.json["health"]["reach"] == "unreachable"
    assert ended.json["troubles"]
