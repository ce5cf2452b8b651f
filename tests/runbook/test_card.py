"""The card is read again: what it keeps is what was known, and without the provider nobody says anything else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout import config
from backout.model.plan import Equivalents
from backout.model.version import Mark, VersionMark
from backout.providers.files.card import FileCard
from backout.report.incident.card import format_card
from backout.report.incident.card_facts import read_facts
from backout.runbook.incident.card import keep_card, make_card
from backout.runbook.incident.in_need import Sources, look_in_need
from backout.runbook.rollback.panic import list_lines_in_need
from backout.wiring.lines import make_card_lines

from line import Story, equip, roll_back
from private import write_private

if TYPE_CHECKING:
    from pathlib import Path

    from backout.runbook.toolbox import Toolbox

LINES = Equivalents(activate="npx wrangler rollback {version} --message {message}", live="look")


@pytest.fixture
def story(quick_path: Path) -> Story:
    return Story(quick_path / "journal.sqlite")


def tools_of(story: Story) -> Toolbox:
    """Return tools with a card."""
    return equip(story.tools(), cards=FileCard(story.path.with_name("card.md")), equivalents=LINES)


def test_a_card_tells_again_what_was_known(story: Story) -> None:
    """Marks with their code and run, and the choice: what is read again is what was written."""
    roll_back(story.tools())
    worse = story.world.upload("worse")
    story.world.deploy(worse)
    card = make_card(tools_of(story))
    facts = read_facts(format_card(card))
    assert facts.live == (worse.id,)
    assert (facts.target, facts.stable) == (card.target, card.stable) == (story.good.id, story.good.id)
    assert [(m.mark, m.version, m.run) for m in facts.marks] == [(m.mark, m.version, m.run) for m in card.marks]
    assert {m.mark for m in facts.marks} == {Mark.STABLE, Mark.QUARANTINED}
    for read, written in zip(facts.marks, card.marks, strict=True):
        assert read.at == pytest.approx(written.at, abs=0.01)
        assert (written.code_hash or "").startswith(read.code_hash or "-")


def test_the_card_names_the_people_of_the_configuration(story: Story, tmp_path: Path) -> None:
    """Whoever is in `[contacts]` stands there as it is written, under a heading of its own."""
    platform = 'provider = "cloudflare", script = "fm5", account_id = "a"'
    text = f'[app]\nname = "fm5"\n[environments.production]\nplatform = {{ {platform} }}\n'
    write_private(tmp_path / "backout.toml", f'{text}[contacts]\non_call = "+49 30 0000000"\n')
    lines = make_card_lines(config.load(config.Environment(), start=tmp_path))
    shown = format_card(make_card(equip(tools_of(story), card_lines=lines)))
    people = shown.partition("People")[2]
    assert "on_call" in people
    assert "+49 30 0000000" in people


def test_where_the_card_knows_no_way_the_stable_one_is_a_person_s_choice(story: Story) -> None:
    """What the card has against it stands above it, and it is no line to paste without reading."""
    story.world.migrate("20261125000000_drop_column")
    tools = tools_of(story)
    keep_card(tools)
    path = story.path.with_name("card.md")
    found = look_in_need(Sources("production", tools.runs, tools.marks, path, health=story.world.health))
    reason, but, line, look = list_lines_in_need(LINES, found)
    assert reason.startswith("# No version may be returned to: ")
    assert "the schema changed" in reason
    assert but.startswith("# ")
    assert line == f"# npx wrangler rollback {story.good.id} --message 'by hand'"
    assert look == "look"


def test_panic_without_the_api_names_what_the_card_names(story: Story) -> None:
    """Also where the newest stable version failed its proof a moment ago."""
    world = story.world
    world.traffic_rule = None
    newer = world.upload("newer")
    world.traffic_rule = lambda _second, _version: None
    world.deploy(newer)
    tools = tools_of(story)
    newest = VersionMark(Mark.STABLE, newer.id, newer.code_hash, world.clock.now(), "guard-2", "healthy")
    tools.marks.mark("production", newest, actor="test")
    world.clock.sleep(60)
    worse = world.upload("worse")
    world.deploy(worse)
    note = {"run": "rollback-1", "version": newer.id, "why": "database is down on it"}
    tools.journal.note("production", "proof.failed", "rollback-1", note, actor="test")  # type: ignore[arg-type]
    keep_card(tools)
    sources = Sources("production", tools.runs, tools.marks, story.path.with_name("card.md"), journal=tools.journal)
    found = look_in_need(sources)
    assert [way.version for way in found.ways] == [make_card(tools).target] == [story.good.id]
    assert found.stable is not None
    assert found.stable.version == story.good.id
    assert list_lines_in_need(LINES, found)[1] == f"npx wrangler rollback {story.good.id} --message 'by hand'"
