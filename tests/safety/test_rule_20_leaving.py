"""Rule 20: leaving is easy: each step says what to type instead, and the card works in a shell without Python."""

from __future__ import annotations

import re
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.model.guard.policy import Mode
from backout.model.plan import Equivalents, Plan
from backout.plan.rollback import Request
from backout.providers.files.card import FileCard
from backout.providers.postgres.server.binaries import find_binaries
from backout.report.plans import format_plan
from backout.runbook.guard import guard
from backout.runbook.incident.card import keep_card, make_card
from backout.runbook.rollback.rollback import prepare
from backout.twin.home import CLOUDFLARE
from backout.twin.wrangler import find_cli, find_node

from line import Story, equip
from polling import PATIENCE_S

if TYPE_CHECKING:
    from drillbook import Drillbook, Trial

STEPS = {"prove", "activate", "read_back", "mark", "verify", "report", "settle", "watch", "conclude"}
LINES = Equivalents(
    prove="npx wrangler versions deploy {leaving}@100% {version}@0%\ncurl {version}",
    activate="npx wrangler rollback {version} --message {message}",
    live="npx wrangler deployments status",
    health="curl https://app.example.com/health",
    errors="npx wrangler tail --version-id {version}",
)


@dataclass
class Desk:
    """A shell that has what a host has, curl, psql, node and wrangler, and nothing else: no Python, no backout."""

    folder: Path
    card: dict[str, list[str]]

    def __post_init__(self) -> None:
        """Lay out the only folder on PATH."""
        programs = self.folder / "bin"
        programs.mkdir(parents=True)
        for name in ("sh", "cat", "curl", "ln", "ls", "mv", "tail"):
            (programs / name).symlink_to(Path("/usr/bin") / name)
        (programs / "node").symlink_to(find_node())
        (programs / "psql").symlink_to(find_binaries().path("psql"))
        npx = programs / "npx"
        npx.write_text(f'#!/bin/sh\nshift\nexec node --no-warnings {find_cli(Path.cwd())} "$@"\n', encoding="utf-8")
        npx.chmod(npx.stat().st_mode | stat.S_IXUSR)

    def type(self, command: str) -> str:
        """Type a command of the card after its set-up and return what it printed; it must succeed."""
        script = "\n".join(["set -e", *self.card.get("Once in a shell", ()), command])
        env = {"PATH": str(self.folder / "bin"), "HOME": str(self.folder), "CI": "1", "NO_COLOR": "1"}
        env |= {"WRANGLER_SEND_METRICS": "false", "WRANGLER_HIDE_BANNER": "true", "LANG": "C.UTF-8"}
        done = subprocess.run(
            ["/bin/sh", "-c", script],
            env=env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        assert '"success":false' not in done.stdout.replace(" ", ""), done.stdout
        return done.stdout


def sections(markdown: str) -> dict[str, list[str]]:
    """Return the commands of a card by their heading."""
    parts = re.split(r"(?m)^## (.*)$", markdown)[1:]
    return {
        title: [block.strip("\n") for block in re.findall(r"(?s)```sh\n(.*?)```", text)]
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    }


def fresh(drillbook: Drillbook) -> Trial:
    """Return a trial in which the bad version just took the good one's place."""
    trial = drillbook.trial()
    trial.make_live(drillbook.good)
    trial.make_live(drillbook.bad)
    return trial


@pytest.mark.both_homes
@pytest.mark.long
@pytest.mark.calm
def test_rule_20_leaving_with_the_card_alone(drillbook: Drillbook, tmp_path: Path) -> None:
    """Every command of the card does what it says, in a shell without Python: look, roll back twice, put back twice."""
    trial = fresh(drillbook)
    ended = trial.run("card", "--json")
    assert ended.code == 0, ended.err
    assert (ended.json["live_version"], ended.json["target_version"]) == (drillbook.bad, drillbook.good)
    desk = Desk(tmp_path, sections(ended.json["markdown"]))
    done = set()

    def blocks(start: str) -> list[str]:
        title = next(title for title in desk.card if title.startswith(start))
        done.add(title)
        return desk.card[title]

    assert drillbook.bad in "".join(map(desk.type, blocks("What is live")))
    for command in blocks(f"Roll back to {drillbook.good}"):
        trial.make_live(drillbook.bad)
        desk.type(command)
        assert trial.live() == drillbook.good
    assert drillbook.good in "".join(map(desk.type, blocks("Read back")))
    for command in blocks("Health check"):
        assert '"database"' in desk.type(command)
    for command in blocks("Put the traffic back"):
        trial.make_live(drillbook.good)
        desk.type(command)
        assert trial.live() == drillbook.bad
    for command in blocks("Names of the secrets") if drillbook.home == CLOUDFLARE else ():
        assert "JWT_SECRET" in desk.type(command)
    for command in blocks("What was applied to the database last"):
        head = trial.tools().rollback.schema
        assert head is not None
        assert str(head.read().head) in desk.type(command)
    assert done | {"Where things are"} == set(desk.card) - {"Once in a shell"}


@pytest.mark.both_homes
@pytest.mark.long
@pytest.mark.calm
def test_rule_20_leaving_card_of_a_split(drillbook: Drillbook, tmp_path: Path) -> None:
    """Traffic that was split is put back as it was split."""
    trial = fresh(drillbook)
    shares = (replace(trial.tools().deployments.history()[0].shares[0], percentage=30.0),)
    other = replace(shares[0], version=drillbook.good, percentage=70.0)
    trial.tools().deployments.deploy((other, *shares), message="a canary")
    desk = Desk(tmp_path, sections(trial.run("card", "--json").json["markdown"]))
    commands = desk.card["Put the traffic back as it was when this card was made"]
    assert commands
    for command in commands:
        trial.make_live(drillbook.good)
        desk.type(command)
        live = trial.tools().deployments.history()[0].shares
        assert {(s.version, s.percentage) for s in live} == {(drillbook.good, 70.0), (drillbook.bad, 30.0)}


@pytest.mark.both_homes
@pytest.mark.long
@pytest.mark.calm
def test_rule_20_leaving_plan_lines_work(drillbook: Drillbook, tmp_path: Path) -> None:
    """The lines beside a rollback's steps do the steps: prove at 0 %, switch, read back, ask health."""
    trial = fresh(drillbook)
    card = sections(trial.run("card", "--json").json["markdown"])
    plan = trial.run("rollback", "--dry-run", "--json").json["plan"]
    desk = Desk(tmp_path, card)
    lines = {step["action"]: step["equivalent"] for step in plan["steps"]}
    *deploy, ask = lines["prove"].splitlines()  # a host's release is asked by its address, without a share
    for line in deploy:
        desk.type(line)
        shares = trial.tools().deployments.history()[0].shares
        assert {(s.version, s.percentage) for s in shares} == {(drillbook.bad, 100.0), (drillbook.good, 0.0)}
    assert bool(deploy) is (drillbook.home == CLOUDFLARE)
    assert drillbook.good in ask
    assert '"database"' in desk.type(ask)
    desk.type(lines["activate"])
    assert trial.live() == drillbook.good
    assert drillbook.good in desk.type(lines["read_back"])
    assert '"database"' in desk.type(lines["verify"])


@pytest.mark.both_homes
@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
def test_rule_20_leaving_keeps_the_card_fresh(drillbook: Drillbook) -> None:
    """Guard writes the card for its watch and again after its rollback; a rollback does after its end."""
    trial = fresh(drillbook)
    card = trial.folder / ".backout" / "card-production.md"
    assert trial.run("guard").code == 1
    text = card.read_text(encoding="utf-8")
    assert f"version {drillbook.good} at 100 %" in text
    token = Path(str(drillbook.stage.twin.api_token_file)).read_text(encoding="ascii").strip()
    assert token not in text
    card.unlink()
    trial.make_live(drillbook.bad)
    assert trial.run("rollback", drillbook.good, "-m", "WHY", "--confirm", "production").code == 0
    assert f"version {drillbook.good} at 100 %" in card.read_text(encoding="utf-8")
    written = trial.run("card", "--write", "--json")
    assert (written.code, written.json["path"]) == (0, str(card))
    typed = ("export ", "API=", "curl ", "cd ")
    assert max(len(line) for line in text.splitlines() if not line.startswith(typed)) <= 100


@pytest.mark.rotating("rules on the twin", 4)
@pytest.mark.long
@pytest.mark.calm
def test_rule_20_leaving_is_never_in_the_way(drillbook: Drillbook) -> None:
    """A card that cannot be written fails no command; it is said."""
    trial = fresh(drillbook)
    (trial.folder / ".backout").write_text("a file where the folder should be", encoding="utf-8")
    ended = trial.run("rollback", "-m", "WHY", "--confirm", "production")
    assert ended.code == 0, ended.err
    assert "the card was not renewed" in ended.err


@pytest.fixture
def story(quick_path: Path) -> Story:
    """A World in which the bad version was just deployed."""
    return Story(quick_path / "journal.sqlite")


def test_rule_20_leaving_says_of_every_step_what_to_type(story: Story) -> None:
    """No step of any plan is silent: a line of wrangler, curl or psql, or why there is nothing to type."""
    tools = equip(story.tools(), equivalents=LINES)
    _, rollback = prepare(tools, Request(message="it fails"))
    assert isinstance(rollback, Plan)
    watch = guard.plan(tools, mode=Mode.ACT, for_s=60)
    steps = [*rollback.steps, *watch.steps]
    assert {step.action for step in steps} >= STEPS
    for step in steps:
        assert step.equivalent, step.action
        for line in step.equivalent.splitlines():
            assert line.startswith(("npx wrangler ", "curl ", "psql ", "# ")), line
    shown = format_plan(rollback)
    assert f"$ npx wrangler rollback {story.good.id} --message 'it fails'" in shown
    assert "     # nothing to type: " in shown
    assert "$ #" not in shown


def test_rule_20_leaving_card_without_a_target(story: Story, tmp_path: Path) -> None:
    """Where no version may be returned to, the card says why instead of naming one."""
    story.world.migrate("20261125000000_drop_column")
    tools = equip(story.tools(), cards=FileCard(tmp_path / "deep" / "card.md"))
    keep_card(tools)
    text = (tmp_path / "deep" / "card.md").read_text(encoding="utf-8")
    assert "No version may be returned to" in text
    assert "the schema changed" in " ".join(text.split())
    assert make_card(tools).target == ""
    assert f"last stable: {story.good.id}" in text
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["card.md"]
