"""The state of a run on the pages: a sign and words that do not contradict each other, and one word for one thing."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from shifted import NAME, held
from values import replace

from backout.config import Environment, load
from backout.model.login import Login, Permission
from backout.model.plan import PlanKind
from backout.runbook.guard.accept import accept
from backout.web import content
from backout.web.pages import Pages
from backout.web.sessions import Sessions
from backout.web.templates import make_templates
from backout.wiring.serve import Site

from line import Story, watch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = """[app]
name = "shop"
[journal]
path = "journal.sqlite"
[environments.production]
protected = true
platform = { provider = "cloudflare", script = "shop" }
"""
VIEWER = Login("ada", "ada", Permission.VIEWER, (), float("inf"), "url")


@contextmanager
def open_site(folder: Path) -> Iterator[Site]:
    """Lend what is behind the pages of a story's journal."""
    (folder / "backout.toml").write_text(CONFIG)
    site = Site(load(Environment({"PATH": "/usr/bin:/bin", "HOME": str(folder)}), start=folder, no_commands=True))
    try:
        yield site
    finally:
        site.close()


def show_newest(site: Site) -> tuple[dict[str, Any], str]:
    """Return the newest run as the list of runs has it, and the page of its environment."""
    shown = content.show_environment(site, VIEWER, "production")
    pages = Pages(site, Sessions(site.logins, secure=False), make_templates(site))
    rows: Any = shown["runs"]
    return rows[0], pages.render_part("environment", VIEWER, shown)


def test_a_watch_that_found_something_bad_says_so_and_not_that_it_is_done(tmp_path: Path) -> None:
    story = Story(tmp_path / "journal.sqlite")
    watch(story.tools())
    with open_site(tmp_path) as site:
        rows: Any = content.show_environment(site, VIEWER, "production")["runs"]
        row = next(each for each in rows if each["run"].plan.kind is PlanKind.GUARD)
        assert (row["tone"], row["state"], row["end"]) == ("bad", "found bad", "regressed, rolled back")
        run = content.show_run(site, VIEWER, "production", row["run"].id)
        assert (run["tone"], run["state"]) == ("bad", "found bad")
        good = [each for each in rows if each["tone"] == "good"]
        assert [each["state"] for each in good] == ["done"] * len(good)
        assert good


def test_held_is_what_a_person_does_and_no_watch(tmp_path: Path) -> None:
    """Of a watch that leaves it to a person the pages say just that; once it is accepted, it is."""
    story = held(tmp_path / "journal.sqlite")
    watch(story.tools())
    with open_site(tmp_path) as site:
        row, page = show_newest(site)
        assert (row["tone"], row["state"], row["end"]) == ("warn", "undecided", "inconclusive, a person has to decide")
        assert "held" not in page
        accept(replace(story.tools(), say=lambda _text: None), NAME, "it moved")
        row, page = show_newest(site)
        assert (row["tone"], row["state"]) == ("good", "accepted")
        assert "held" not in page
