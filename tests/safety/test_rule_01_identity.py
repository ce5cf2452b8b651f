"""Rule 1: each mutation first compares who the environment is with what is pinned; another one is exit 3."""

from __future__ import annotations

import contextlib
import json
import re
import urllib.request
from typing import TYPE_CHECKING

import psycopg
import pytest
from api_gate import api_gate
from cli_shell import backout
from values import replace

from backout.errors import Refused
from backout.model.guard.policy import Mode
from backout.model.identity import Identity
from backout.model.plan import Plan
from backout.plan.rollback import Request
from backout.runbook.rollback.rollback import prepare
from backout.runbook.safety.identity import check_identity
from backout.twin.home import CLOUDFLARE, HOSTS

from line import Story, by_version, equip, roll_back, watch
from polling import PATIENCE_S
from private import write_private
from twin_harness import ACCOUNT, TOKEN, multipart, running_api

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from drillbook import Drillbook, Trial

PARTS = ("account_id", "script_tag", "database_system_identifier", "health_host")
ROLLBACK = ("rollback", "-m", "it fails", "--confirm", "production", "--no-wait", "--json")


# --- the real program on the twin, and on hosts ----------------------------------------------------------------------


def list_parts(book: Drillbook) -> tuple[str, ...]:
    """Return the parts of an identity that the home of a stage has: a host has no account."""
    return PARTS if book.home == CLOUDFLARE else PARTS[1:]


@pytest.fixture
def pinned(drillbook: Drillbook) -> Trial:
    """A trial with the bad version live, and pinned as it is."""
    trial = drillbook.trial()
    trial.make_live(drillbook.bad)
    done = trial.run("init", "--pin", "--json")
    assert done.code == 0, done.err
    assert all(done.json["pin"][part]["new"] for part in list_parts(drillbook))
    assert all(done.json["pin"][part]["old"] is None for part in PARTS)
    return trial


def _staging_script(trial: Trial, book: Drillbook) -> None:
    """Have the configuration name a Worker, or a folder of releases, of another environment, which exists."""
    twin = book.stage.twin
    if book.home == HOSTS:
        other = trial.folder / "staging"
        other.mkdir()
        (other / ".tag").write_text("5e8b1c9ad5f04b6c8f1f3a5d7e9b0c2d\n", encoding="ascii")
        trial.replace((r'releases = "[^"]*"', f'releases = "{other}"'))
        return
    form, kind = multipart(
        {"main_module": "index.js", "compatibility_date": "2026-10-01"},
        {"index.js": "export default { fetch() { return new Response('staging') } }"},
    )
    token = (book.stage.directory / "twin" / "api-token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
    url = f"{twin.api_base_url}/accounts/{twin.account_id}/workers/scripts/fm5-staging"
    request = urllib.request.Request(url, data=form, method="PUT", headers=headers)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
        assert json.load(response)["success"]
    trial.replace((r'script = "fm5-production"', 'script = "fm5-staging"'))


def _no_such_script(trial: Trial, book: Drillbook) -> None:
    gone = (r'releases = "[^"]*"', 'releases = "gone"')
    trial.replace(gone if book.home == HOSTS else (r'script = "fm5-production"', 'script = "fm5-gone"'))


def _staging_database(trial: Trial, book: Drillbook) -> None:
    """Have it name another database of the same server."""
    dsn = str(book.stage.twin.postgres_dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS fm5_staging")
        connection.execute("CREATE DATABASE fm5_staging")
    other = trial.folder / "other-url"
    write_private(other, psycopg.conninfo.make_conninfo(dsn, dbname="fm5_staging"))
    trial.replace((r'url_file = "[^"]*"', f'url_file = "{other}"'))


def _staging_health(trial: Trial, book: Drillbook) -> None:
    trial.replace((rf"http://{re.escape(book.stage.host)}", "http://fm5-staging.localhost"))


@pytest.mark.both_homes
@pytest.mark.calm
@pytest.mark.parametrize(
    ("mistaken", "part"),
    [
        (_staging_script, "script_tag"),
        (_no_such_script, "script_tag"),
        (_staging_database, "database_system_identifier"),
        (_staging_health, "health_host"),
    ],
)
def test_rule_01_identity(drillbook: Drillbook, pinned: Trial, mistaken: object, part: str) -> None:
    """Production's table points at staging: exit 3 shows both, in a dry run, too, and nothing is ever sent."""
    assert callable(mistaken)
    mine = re.search(f'^{part} = "(.*)"$', pinned.config.read_text(), re.MULTILINE)
    assert mine is not None
    mistaken(pinned, drillbook)
    with contextlib.ExitStack() as stack:
        gate = None
        if drillbook.home == CLOUDFLARE:
            gate = stack.enter_context(api_gate(str(drillbook.stage.twin.api_base_url)))
            pinned.behind(gate.url)
        for command in ((*ROLLBACK, "--dry-run"), ROLLBACK, ("guard", "--mode", "act", "--json")):
            ended = pinned.run(*command)
            assert ended.code == 3, ended.err
            assert (ended.json["error"], ended.json["rule"]) == ("Refused", "1 identity")
            assert f"{part}: pinned {mine[1]}, found " in ended.json["what"]
            assert "backout init --pin --force -e production" in ended.json["options"][1]
        assert gate is None or {method for method, _, _ in gate.passed} == {"GET"}
    assert drillbook.trial().live() == drillbook.bad


@pytest.mark.both_homes
@pytest.mark.long
@pytest.mark.calm
def test_rule_01_the_pinned_environment_is_rolled_back(drillbook: Drillbook, pinned: Trial) -> None:
    """What is pinned and what is found agree, so the rollback goes on; a database that is down is said, no obstacle."""
    checked = pinned.run("config", "check", "--online", "--json")
    assert checked.code == 0, checked.err
    identity = checked.json["online"]["identity"]
    assert all(identity[part]["pinned"] == identity[part]["found"] is not None for part in list_parts(drillbook))
    with drillbook.fault("service-down", "database"):
        ended = pinned.run(*ROLLBACK, "--force", "schema", "unknown")
    assert ended.code == 0, ended.err
    assert ended.json["live_version"] == drillbook.good
    assert ended.err.count("database_system_identifier could not be compared") == 1


@pytest.mark.both_homes
@pytest.mark.long
@pytest.mark.calm
def test_rule_01_a_pin_is_not_changed_unasked(drillbook: Drillbook, pinned: Trial) -> None:
    """Another identity is shown beside the pinned one; --force writes it; --dry-run writes nothing."""
    text = pinned.config.read_text()
    again = pinned.run("init", "--pin", "--json")
    assert (again.code, pinned.config.read_text()) == (0, text)
    _staging_script(pinned, drillbook)
    changed = pinned.config.read_text()
    refused = pinned.run("init", "--pin", "--json")
    assert (refused.code, refused.json["rule"]) == (3, "1 identity")
    assert refused.json["what"].startswith("another identity is pinned already: script_tag: pinned ")
    assert pinned.run("init", "--pin", "--force", "--dry-run").code == 0
    assert pinned.config.read_text() == changed
    forced = pinned.run("init", "--pin", "--force", "--json")
    assert forced.code == 0
    assert forced.json["pin"]["script_tag"]["old"] != forced.json["pin"]["script_tag"]["new"]
    assert pinned.run("guard", "--json", "--for", "1s").json.get("rule") is None


# --- the finer halves on the World -----------------------------------------------------------------------------------


class Found:
    """Port Identities that answers what the test says."""

    def __init__(self, *answers: Identity) -> None:
        self.answers = list(answers)

    def read(self) -> Identity:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


MINE = Identity("acc", "tag", "12/app", "files", "app.example.com")


@pytest.fixture
def story(quick_path: Path) -> Iterator[Story]:
    return Story(quick_path / "journal.sqlite")


def test_rule_01_it_is_compared_again_right_before_the_switch(story: Story) -> None:
    """The plan was made for the right application; another one answers at the switch: nothing is changed."""
    tools = equip(story.tools(), pinned=MINE, identities=Found(MINE))
    assert isinstance(prepare(tools, Request(message="it fails"))[1], Plan)
    before = list(story.world.all_deployments)
    other = replace(MINE, script_tag="another")
    late = equip(story.tools(), pinned=MINE, identities=Found(MINE, other))
    with pytest.raises(Refused, match="script_tag: pinned tag, found another"):
        roll_back(late)
    assert story.world.all_deployments == before


def test_rule_01_a_dry_run_compares_too(story: Story) -> None:
    """What only shows a plan must not show one for another environment; nor is a watch of it begun."""
    tools = equip(story.tools(), pinned=MINE, identities=Found(replace(MINE, bucket="others")))
    with pytest.raises(Refused, match="bucket: pinned files, found others"):
        prepare(tools, Request(message="it fails"))
    with pytest.raises(Refused, match="bucket: pinned files, found others"):
        watch(tools)
    assert [run.state.is_over for run in tools.runs.runs("production")] == [True], "the story's own watch alone"


@pytest.mark.parametrize("part", ["account_id", "script_tag", "bucket", "health_host"])
def test_rule_01_what_is_not_there_is_another_one(story: Story, part: str) -> None:
    """Only a database may fail to answer: its outage is a reason to roll back, and it is said."""
    said: list[str] = []
    tools = equip(story.tools(), pinned=MINE, say=said.append)
    with pytest.raises(Refused, match=f"{part}: pinned .*, found none"):
        check_identity(equip(tools, identities=Found(replace(MINE, **{part: None}))))
    check_identity(equip(tools, identities=Found(replace(MINE, database_system_identifier=None))))
    (only,) = said
    assert only.startswith("database_system_identifier could not be compared with the pinned 12/app")
    with pytest.raises(Refused):
        check_identity(equip(tools, identities=Found(replace(MINE, database_system_identifier="12/other"))))


class Head:
    """Port Checkout that answers what the test says."""

    def __init__(self, answer: bool | None) -> None:
        self.answer = answer

    def contains(self, git_sha: str) -> bool | None:
        assert git_sha == "c0ffee1"
        return self.answer


@pytest.mark.parametrize(("contains", "action"), [(True, "rollback"), (None, "rollback"), (False, "hold")])
def test_rule_01_an_old_configuration_acts_on_nothing_by_itself(
    story: Story, contains: bool | None, action: str
) -> None:
    """The live commit is not in the working copy: guard holds, and says why; not knowing forbids nothing."""
    bad = story.world.upload("bad", git_sha="c0ffee1")
    story.world.traffic_rule = by_version(bad.id)
    story.world.deploy(bad)
    story.world.clock.sleep(2)
    tools = equip(story.tools(), checkout=Head(contains))
    ended = watch(tools, mode=Mode.ACT)
    if action == "rollback":
        assert story.world.live.main == story.good.id
        return
    concluded = tools.runs.result(ended.id, "conclude")
    assert isinstance(concluded, dict)
    assert (concluded["action"], concluded["rule"]) == ("hold", "1 identity")
    assert "backout.toml is older than what is live: commit c0ffee1" in str(concluded["why"])
    assert story.world.live.main == bad.id


# --- the configuration -----------------------------------------------------------------------------------------------

TWO = """
[app]
name = "fm5"
[environments.production]
platform = { provider = "cloudflare", script = "a", account_id = "acc" }
pin = { PART = "same" }
[environments.staging]
platform = { provider = "cloudflare", script = "b", account_id = "acc" }
pin = { PART = "same" }
"""


@pytest.mark.parametrize("part", ["script_tag", "database_system_identifier", "health_host"])
def test_rule_01_two_environments_never_share_an_identity(tmp_path: Path, part: str) -> None:
    """The same pin twice is a mistake with its line; one account is no mistake."""
    (tmp_path / "backout.toml").write_text(TWO.replace("PART", part))
    answer = backout(tmp_path, "config", "check")
    assert answer.code == 78
    assert f"environments.staging.pin.{part}: the same" in answer.err
    (tmp_path / "backout.toml").write_text(TWO.replace("PART", "account_id"))
    assert backout(tmp_path, "config", "check").code == 0


def test_rule_01_what_is_not_pinned_is_named(tmp_path: Path) -> None:
    """Only what is set up can be missing."""
    (tmp_path / "backout.toml").write_text(TWO.replace("PART", "account_id"))
    assert (
        "environments.production: not pinned: script_tag; `backout init --pin`"
        in backout(tmp_path, "config", "check").out
    )


def test_rule_01_init_pins_what_it_can_read(tmp_path: Path) -> None:
    """With a token the first file is pinned; without one that is said, and the file is written all the same."""
    (tmp_path / "wrangler.toml").write_text('name = "fm5"\n')
    without = backout(tmp_path, "init")
    assert without.code == 0
    assert "production: not pinned: " in without.err
    assert "pin]" not in (tmp_path / "backout.toml").read_text()
    with running_api(tmp_path) as api:
        api.upload("fm5")
        variables = {
            "CLOUDFLARE_API_TOKEN": TOKEN,
            "CLOUDFLARE_ACCOUNT_ID": ACCOUNT,
            "BACKOUT_PLATFORM_API_BASE_URL": f"{api.url}/client/v4",
        }
        done = backout(tmp_path, "init", "--force", variables=variables)
        assert done.code == 0, done.err
        assert f'account_id = "{ACCOUNT}"' in (tmp_path / "backout.toml").read_text()
        assert "script_tag = " in (tmp_path / "backout.toml").read_text()
