"""Rule 2: the token is valid beyond the watch, looked at during it, and its loss is told at once."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from api_gate import Answer, api_gate, said
from values import replace

from backout.errors import AuthError, ProviderUnavailable, Refused
from backout.model.guard.policy import Mode
from backout.model.incident.notice import Delivery, Notice, NoticeKind
from backout.model.token import TokenState
from backout.providers.memory import make_steady
from backout.runbook.guard.next_deployment import wait_for_next
from backout.runbook.guard.preflight import run_preflight
from backout.runbook.safety.token import CHECK_EVERY_S

from line import Story, by_version, equip, watch
from polling import PATIENCE_S, until
from private import write_private

if TYPE_CHECKING:
    from pathlib import Path

    from backout.runbook.toolbox import Toolbox

    from drillbook import Drillbook

DAY = 86_400.0
HOUR = 3600.0


# --- the real program on the twin ------------------------------------------------------------------------------------


@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
def test_rule_02_token(drillbook: Drillbook) -> None:
    """Revoked in the middle of a watch: told within seconds, and the watch goes on; it ends with exit 4, unchanged."""
    trial = drillbook.trial()
    live = trial.make_live(drillbook.good)
    process = trial.start("guard", "--mode", "act", "--for", "30s")
    try:
        until(lambda: trial.newest()["state"] == "running", 20, "the watch runs", 0.2, process=process)
        with drillbook.fault("api-token-refused"):
            _, words = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 4, words
    told = words.index("the token is lost: ")
    assert words.index("the watch goes on") > told
    assert "requests" in words[told:], "it went on watching"
    assert re.search(r"error: (healthy|inconclusive), and the token is lost: ", words)
    assert trial.tools().deployments.history()[0].id == live.id


@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
def test_rule_02_a_regression_with_a_lost_token_is_told(drillbook: Drillbook) -> None:
    """The verdict still comes, from counts that the token does not open; nobody rolled back, and it says so."""
    trial = drillbook.trial()
    trial.make_live(drillbook.good)
    trial.make_live(drillbook.bad)
    runs = trial.tools().runs

    def watches(_method: str, _path: str, _posts: int) -> bool:
        return not runs.runs("production")[0].state.is_over

    with api_gate(str(drillbook.stage.twin.api_base_url)) as gate:
        gate.rules.append((watches, deque([said(401, 10000, "Authentication error")] * 1000)))
        ended = trial.behind(gate.url).run("guard", "--mode", "act", "--json")
    assert ended.code == 4, ended.err
    assert (ended.json["error"], ended.json["exit_code"]) == ("AuthError", 4)
    assert "regressed, and the token is lost: not rolled back" in ended.json["what"]
    assert drillbook.trial().live() == drillbook.bad
    assert trial.reports()


@pytest.mark.long
@pytest.mark.calm
@pytest.mark.parametrize(
    ("expires", "code"), [("2026-01-01T00:00:00Z", 3), ("2099-01-01T00:00:00Z", None)], ids=["too-soon", "late"]
)
def test_rule_02_a_token_outlives_the_watch(drillbook: Drillbook, expires: str, code: int | None) -> None:
    """One that expires within the watch and a day is refused before the watch, with the time; exit 3."""
    trial = drillbook.trial()
    trial.make_live(drillbook.good)
    body = f'{{"success": true, "errors": [], "result": {{"id": "t", "status": "active", "expires_on": "{expires}"}}}}'
    with api_gate(str(drillbook.stage.twin.api_base_url)) as gate:
        gate.when("GET", "/tokens/verify", *[Answer(200, body.encode())] * 5)
        ended = trial.behind(gate.url).run("guard", "--mode", "observe", "--for", "1s", "--json")
        if code is None:
            assert ended.json["schema"] == "backout.guard/1"
            return
        assert (ended.code, ended.json["rule"]) == (code, "2 token")
        assert "the token expires at 2026-01-01T00:00:00" in ended.json["what"]
        checked = trial.run("config", "check", "--online", "--json")
        assert checked.code == code
        assert checked.json["online"]["tokens"][0]["expires_at"].startswith("2026-01-01")


@pytest.mark.long
@pytest.mark.calm
def test_rule_02_what_the_tokens_are_worth_is_shown(drillbook: Drillbook) -> None:
    """Each use its own token, each with its permissions; a refused one is exit 4."""
    trial = drillbook.trial()
    trial.replace(
        (r'token_file = "([^"]*)"\n', r'token_file = "\1"\nread_token_file = "\1"\nsecrets_token_file = "\1"\n')
    )
    shown = trial.run("config", "check", "--online", "--json")
    assert shown.code == 0, shown.out
    tokens = shown.json["online"]["tokens"]
    assert [token["role"] for token in tokens] == ["rollback", "read", "secrets"]
    assert all("Workers Scripts Write" in token["scopes"] for token in tokens)
    write_private(trial.folder / "wrong", "not-a-token")
    trial.replace((r'read_token_file = "[^"]*"', f'read_token_file = "{trial.folder / "wrong"}"'))
    wrong = trial.run("config", "check", "--online", "--json")
    assert wrong.code == 4
    assert [token["valid"] for token in wrong.json["online"]["tokens"]] == [True, False, True]
    refused = trial.run("guard", "--json", "--for", "1s")
    assert (refused.code, refused.json["error"]) == (4, "AuthError")
    assert "the token for read is not valid: refused" in refused.json["what"]


# --- the finer halves on the World -----------------------------------------------------------------------------------


@dataclass
class Tokens:
    """Port TokenCheck that answers what the test says."""

    state: TokenState = field(default_factory=lambda: TokenState(valid=True, status="active"))
    error: Exception | None = None
    looks: int = 0

    def look(self) -> tuple[TokenState, ...]:
        self.looks += 1
        if self.error is not None:
            raise self.error
        return (self.state,)


class Post:
    """Port Notifier that remembers."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []

    def tell(self, notice: Notice) -> None:
        self.notices.append(notice)

    def flush(self, within_s: float) -> Delivery:
        return Delivery(len(self.notices))


REVOKED = TokenState(valid=False, status="disabled")


@dataclass
class Scene:
    """A story whose watch has a token and somebody to tell."""

    story: Story
    tokens: Tokens = field(default_factory=Tokens)
    post: Post = field(default_factory=Post)
    said: list[str] = field(default_factory=list)

    def tools(self) -> Toolbox:
        return equip(self.story.tools(), token=self.tokens, notifier=self.post, say=self.said.append)

    @property
    def lost(self) -> list[Notice]:
        return [notice for notice in self.post.notices if notice.kind is NoticeKind.TOKEN_LOST]


@pytest.fixture
def scene(quick_path: Path) -> Scene:
    return Scene(Story(quick_path / "journal.sqlite"))


def test_rule_02_preflight_says_when_it_expires(scene: Scene) -> None:
    """The watch and 24 hours; one second more is enough, and no expiry is."""
    now = scene.story.world.clock.now()
    for expires_at in (None, now + HOUR + DAY):
        scene.tokens.state = TokenState(valid=True, status="active", expires_at=expires_at)
        run_preflight(scene.tools(), HOUR)
    scene.tokens.state = TokenState(valid=True, status="active", scopes=("Workers Scripts Write",))
    run_preflight(scene.tools(), HOUR)
    assert "the token is active; does not expire; may: Workers Scripts Write" in scene.said
    scene.tokens.state = TokenState(valid=True, status="active", expires_at=now + HOUR + DAY - 1)
    with pytest.raises(Refused) as refused:
        run_preflight(scene.tools(), HOUR)
    assert (refused.value.rule, refused.value.exit_code) == ("2 token", 3)
    scene.tokens.state = REVOKED
    with pytest.raises(AuthError, match="the token is not valid: disabled"):
        run_preflight(scene.tools(), HOUR)


def test_rule_02_it_is_checked_before_the_deployment_that_is_waited_for(scene: Scene) -> None:
    """Afterwards nobody would watch it: the refusal comes while there is nothing to watch yet."""
    scene.tokens.state = REVOKED
    begun = scene.story.world.clock.now()
    with pytest.raises(AuthError, match="the token is not valid: disabled"):
        wait_for_next(scene.tools(), HOUR)
    assert scene.story.world.clock.now() == begun


def test_rule_02_a_check_that_cannot_be_made_is_said_and_made_again(scene: Scene) -> None:
    """A watch may begin without it: the platform's stumble is no reason to watch nothing."""
    scene.tokens.error = ProviderUnavailable("no answer")
    run_preflight(scene.tools(), HOUR)
    assert [text for text in scene.said if "token" in text] == [
        "the token could not be checked (no answer); the watch checks it again"
    ]


@pytest.mark.long
def test_rule_02_it_is_looked_at_every_five_minutes(scene: Scene) -> None:
    """A healthy watch of twenty minutes looks at its start and three times more; nothing is told."""
    scene.story.world.traffic_rule = make_steady(30)
    tools = scene.tools()
    ended = watch(tools, mode=Mode.OBSERVE, for_s=20 * 60)
    assert ended.state.is_over
    assert scene.tokens.looks == 4
    assert scene.lost == []


def test_rule_02_refused_twice_in_a_row_is_lost_and_told_at_once(scene: Scene) -> None:
    """Revoked after six minutes: told at the next look (ten minutes) and not at the end; once."""
    world = scene.story.world
    world.traffic_rule = make_steady(30)
    revoked_at = world.clock.now() + 6 * 60
    told_at: list[float] = []

    def revoke() -> None:
        scene.tokens.state = REVOKED

    world.clock.at(revoked_at, revoke)
    tools = replace(scene.tools(), say=lambda text: told_at.append(world.clock.now()) if "lost" in text else None)
    watch(tools, mode=Mode.OBSERVE, for_s=20 * 60)
    assert len(told_at) == 1
    assert 0 < told_at[0] - revoked_at < CHECK_EVERY_S + 10
    (notice,) = scene.lost
    assert "the token is disabled" in notice.text


def test_rule_02_one_stumble_is_no_loss(scene: Scene) -> None:
    """Refused once, fine three seconds later: nobody is woken."""
    world = scene.story.world
    world.traffic_rule = make_steady(30)
    at = world.clock.now() + CHECK_EVERY_S - 2

    def stumble() -> None:
        scene.tokens.state = REVOKED

    def recover() -> None:
        scene.tokens.state = TokenState(valid=True, status="active")

    world.clock.at(at, stumble)
    world.clock.at(at + 4, recover)
    watch(scene.tools(), mode=Mode.OBSERVE, for_s=15 * 60)
    assert scene.lost == []
    assert not any("lost" in text for text in scene.said)


def test_rule_02_a_regression_that_nobody_can_roll_back_is_exit_4_and_told(scene: Scene) -> None:
    """The platform refuses every call from the start of the watch; counts come from elsewhere and decide."""
    world, tools = scene.story.world, scene.tools()
    switched = len(world.activations)

    def refuse(call: str) -> None:
        if call.startswith(("deployments.", "versions.", "secrets.")) and world.calls.count("traffic.read") > 1:
            raise AuthError("the API refuses the token (401)")

    world.before_call = refuse
    with pytest.raises(AuthError, match="regressed, and the token is lost: not rolled back") as error:
        watch(tools, mode=Mode.ACT)
    assert error.value.exit_code == 4
    assert "backout rollback -e production" in (error.value.hint or "")
    assert len(world.activations) == switched
    assert scene.lost
    assert "not rolled back" in scene.lost[-1].title
    world.before_call = None
    ended = watch(scene.tools(), mode=Mode.ACT)
    assert world.live.main == scene.story.good.id, "with a valid token the next watch acts"
    assert ended.plan.cause


def test_rule_02_a_token_that_came_back_acts(scene: Scene) -> None:
    """Lost and found again before the end: the verdict is acted on as if nothing had been."""
    world = scene.story.world
    world.traffic_rule = make_steady(30)
    start = world.clock.now()

    def refuse(call: str) -> None:
        if call.startswith("deployments."):
            raise AuthError("the API refuses the token (401)")

    world.clock.at(start + 5, lambda: setattr(world, "before_call", refuse))
    world.clock.at(start + 30, lambda: setattr(world, "before_call", None))
    world.clock.at(start + 40, lambda: setattr(world, "traffic_rule", by_version(scene.story.bad.id)))
    watch(scene.tools(), mode=Mode.ACT, for_s=120)
    assert world.live.main == scene.story.good.id
    assert len(scene.lost) == 1
