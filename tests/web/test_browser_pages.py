"""The pages in a real browser, on a journal that guard filled: what is read first, and nothing by accident."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser import (
    PATIENCE_MS,
    browsing,
    is_too_wide,
    list_small_targets,
    list_violations,
    log_in,
    looking,
    needs_chromium,
    serving,
)

from backout.cli.status_look import read_status
from backout.cli.status_record import make_status_record
from backout.journal.sqlite import SqliteJournal
from backout.model.approval import ApprovalRule, Change
from backout.model.incident.incident import RunState
from backout.providers.clock import SystemClock
from backout.report.records import encode, make_envelope
from backout.runbook.incident.records import list_incidents
from backout.runbook.serve.action_requests import list_requests
from backout.runbook.serve.overviews import save_status

from line import Story, roll_back, watch
from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from browser import Served
    from playwright.sync_api import Browser, Page, Route

pytestmark = needs_chromium
PROGRAM = Path(sys.executable).with_name("backout")
CONFIG = """[app]
name = "shop"
[journal]
path = "journal.sqlite"
[environments.production]
protected = true
platform = { provider = "cloudflare", script = "shop" }
approvals = { required_for = ["rollback"], by = "anyone" }
[environments.staging]
protected = false
platform = { provider = "cloudflare", script = "shop-staging" }
[environments.old]
protected = false
platform = { provider = "cloudflare", script = "shop-old" }
[environments.cut]
protected = false
platform = { provider = "cloudflare", script = "shop-cut" }
"""
APPROVED: dict[str, Any] = {"approvals": ApprovalRule((Change.ROLLBACK,))}
BOTH = pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])


@dataclass
class Night:
    """An incident that guard resolved in production, and a browser that is logged in.

    `staging` was never read, `old` long ago, and `cut` could not be.
    """

    story: Story
    journal: SqliteJournal
    served: Served
    browser: Browser
    kept: dict[str, Any]

    def look(self, *, scripts: bool = True, **how: Any) -> Any:
        return looking(self.browser, self.kept, scripts=scripts, base_url=self.served.url, **how)

    @property
    def incident(self) -> str:
        return list_incidents(self.journal, self.journal, "production")[0].id

    def count_requests(self, environment: str = "production") -> int:
        return len(list_requests(self.journal, environment))


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    folder: Path = tmp_path_factory.mktemp("pages")
    (folder / "backout.toml").write_text(CONFIG)
    story = Story(folder / "journal.sqlite", approvals=APPROVED)
    watch(story.tools())
    with ExitStack() as stack:
        journal = SqliteJournal(folder / "journal.sqlite", SystemClock())
        stack.callback(journal.close)
        record = json.loads(encode(make_envelope("status", make_status_record(read_status(story.tools())))))
        now = time.time()
        save_status(journal, "production", record, now)
        save_status(journal, "old", record, now - 3600)
        save_status(journal, "cut", {"error": "ProviderError", "message": "the platform refused the token"}, now)
        served, browser = stack.enter_context(serving(folder)), stack.enter_context(browsing())
        yield Night(story, journal, served, browser, log_in(browser, served))


@pytest.mark.long
@pytest.mark.rotating("pages in a browser", 2)
def test_no_page_shuts_anybody_out(night: Night) -> None:
    """No violation that axe-core knows, on a phone and a screen, light and dark; nothing is too wide or small."""
    run = night.journal.runs("production")[0].id
    paths: tuple[str, ...] = (
        "/",
        "/env/production",
        "/env/staging",
        "/env/production/hold",
        "/env/nowhere",
    )
    paths += (f"/env/production/incident/{night.incident}", f"/env/production/run/{run}", "/login")
    wrong: list[object] = []
    with night.look() as page:
        for path in paths:
            page.goto(path)
            for width, scheme in ((360, "light"), (1440, "dark"), (768, "light")):
                page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
                page.set_viewport_size({"width": width, "height": 800})
                wrong += [(path, width, "is too wide")] if is_too_wide(page) else []
                wrong += [(path, width, each) for each in list_small_targets(page)]
                if width == 360 or (width == 1440 and "incident" in path):
                    wrong += [(path, width, each) for each in list_violations(page)]
            assert page.evaluate("document.getAnimations().length") == 0
    assert wrong == []


@BOTH
def test_an_incident_is_found_by_its_title_and_begins_with_what_happened(night: Night, *, scripts: bool) -> None:
    with night.look(scripts=scripts) as page:
        page.goto("/")
        page.get_by_role("link", name="production", exact=True).click()
        title = f"Errors after the deployment of {night.story.bad.id[:8]}"
        page.get_by_role("link", name=title).click()
        assert page.get_by_role("heading", level=1).inner_text() == title
        happened, done, todo = page.locator("#live p").all_inner_texts()[:3]
        assert happened.startswith(f"Version {night.story.bad.id[:8]} went live on ")
        assert " requests failed against " in happened
        assert done.startswith(f"Guard rolled back to version {night.story.good.id[:8]}, ")
        assert "It is verified: " in done
        assert todo.startswith("What to do: Nothing is urgent.")
        assert page.get_by_text("TypeError: x is undefined").count() >= 1
        page.locator("#counted canvas" if scripts else "#counted img").first.wait_for()


@pytest.mark.long
@pytest.mark.rotating("pages in a browser", 2)
def test_charts_say_percent_and_utc(night: Night) -> None:
    """In a place that is not UTC, too; and there the page says which place it is, in UTC it says nothing."""
    path = f"/env/production/incident/{night.incident}"
    for zone, said in (("Europe/Berlin", "Here it is Europe/Berlin"), ("UTC", "")):
        with night.look(timezone_id=zone) as page:
            page.goto(path)
            page.locator("#counted canvas").first.wait_for()
            page.locator(".u-over").first.hover()
            legend = page.locator(".u-legend").first.inner_text()
            assert " %" in legend
            assert said in page.locator("footer").inner_text()
            assert ("Here it is" in page.locator("footer").inner_text()) is bool(said)


def test_a_line_stops_where_nobody_asked(night: Night) -> None:
    """Over two silent moments it goes on, over more it is interrupted; the moments of others interrupt nothing."""
    series = {
        "bin_s": 1,
        "versions": {"a": {"at": [0, 1, 4, 20], "share": [0, 0.5, 0, 1]}, "b": {"at": [2, 9], "share": [1, 1]}},
    }
    with night.look() as page:
        page.goto(f"/env/production/incident/{night.incident}")
        found = page.evaluate(
            """s => alignVersions(s, "share").map((line) => line.map((v) => (v === undefined ? "over" : v)))""",
            series,
        )
    assert found == [
        [0, 1, 2, 3, 4, 5, 9, 20],
        [0, 0.5, "over", "over", 0, None, None, 1],
        ["over", "over", 1, None, None, None, 1, "over"],
    ]


def test_a_legend_names_no_moment_without_a_pointer(night: Night) -> None:
    """And its values while there is one."""
    with night.look(viewport={"width": 1440, "height": 2400}) as page:
        page.goto(f"/env/production/incident/{night.incident}")
        legend = page.locator(".u-legend").first
        legend.wait_for()
        assert "UTC" not in legend.inner_text()
        assert "\u2013" not in legend.inner_text()
        assert f"{night.story.bad.id[:8]} failed" in legend.inner_text()
        page.locator(".u-over").first.hover()
        legend.get_by_text("UTC").wait_for()
        assert " %" in legend.inner_text()
        page.mouse.move(5, 5)
        legend.get_by_text("UTC").wait_for(state="hidden")


@BOTH
def test_what_is_old_not_known_or_out_of_reach_says_so(night: Night, *, scripts: bool) -> None:
    with night.look(scripts=scripts) as page:
        page.goto("/")
        cards = {name: page.locator(f"#card-{name}").inner_text() for name in ("staging", "old", "cut")}
        assert "No worker has read it yet" in cards["staging"]
        assert "What is shown is old" in cards["old"]
        assert "The worker cannot read it: the platform refused the token" in cards["cut"]
        assert page.get_by_text("Nothing needs you.").count() == 0
        assert page.locator("#card-old .stale").is_visible()


@BOTH
def test_a_note_and_who_takes_care_are_written_once(night: Night, *, scripts: bool) -> None:
    """Pressed twice it is one note."""
    text = f"the deploy of ten o'clock <b>&</b> {scripts}"
    words = ("incident", "open", f"checkout fails {scripts}", "-e", "staging", "--no-input")
    subprocess.run([PROGRAM, *words], cwd=night.story.path.parent, check=True, capture_output=True)
    incident = list_incidents(night.journal, night.journal, "staging")[0]
    with night.look(scripts=scripts) as page:
        page.goto(f"/env/staging/incident/{incident.id}")
        page.get_by_role("link", name="Write a note").click()
        page.get_by_label("Note, with your name").fill(text)
        page.get_by_role("button", name="Add the note").dblclick()
        page.get_by_text(text).first.wait_for()
        page.get_by_role("button", name="I take care of it").click()
        page.get_by_text("acknowledged").first.wait_for()
    found = list_incidents(night.journal, night.journal, "staging")[0]
    assert [each.text for each in found.remarks if each.text] == [text]
    assert found.acknowledged_at is not None


@BOTH
def test_what_is_read_seldom_is_folded(night: Night, *, scripts: bool) -> None:
    """Opened by the keyboard, without a script, too; a note is read without; what is open stays so, and is kept up."""
    words = ("incident", "open", f"folded {scripts}", "-e", "staging", "--no-input")
    subprocess.run([PROGRAM, *words], cwd=night.story.path.parent, check=True, capture_output=True)
    incident = list_incidents(night.journal, night.journal, "staging")[0]
    note = (PROGRAM, "incident", "note", incident.id, "-e", "staging", "-m")
    subprocess.run([*note, "the first"], cwd=night.story.path.parent, check=True, capture_output=True)
    with night.look(scripts=scripts, viewport={"width": 360, "height": 780}) as page:
        page.goto(f"/env/staging/incident/{incident.id}")
        opened = page.locator("#timeline").get_by_text("Incident opened")
        assert not opened.is_visible()
        assert page.get_by_text("the first").first.is_visible()
        page.locator("#timeline summary").focus()
        page.keyboard.press("Enter")
        opened.wait_for()
        if scripts:
            is_followed = "Boolean(document.getElementById('live')._htmx?.sse)"
            until(
                lambda: page.evaluate(is_followed), what="the stream"
            )  # the page's own policy forbids a string to wait
            subprocess.run([*note, "the second"], cwd=night.story.path.parent, check=True, capture_output=True)
            page.locator("#timeline").get_by_text("the second").wait_for()
            assert opened.is_visible()


def test_the_runs_of_an_incident_are_folded(night: Night) -> None:
    with night.look(scripts=False) as page:
        page.goto(f"/env/production/incident/{night.incident}")
        watch_link = page.locator("#runs").get_by_role("link", name="Watch of version")
        assert not watch_link.is_visible()
        page.locator("#runs summary").click()
        watch_link.wait_for()


@BOTH
def test_a_note_keeps_its_lines(night: Night, *, scripts: bool) -> None:
    """As they were typed, with what a line begins with; and what looks like an element stays text."""
    text = f"tried, {scripts}:\n  1. a restart\n  2. <br> a new key"
    words = ("incident", "open", f"lines {scripts}", "-e", "staging", "--no-input")
    subprocess.run([PROGRAM, *words], cwd=night.story.path.parent, check=True, capture_output=True)
    incident = list_incidents(night.journal, night.journal, "staging")[0]
    with night.look(scripts=scripts) as page:
        page.goto(f"/env/staging/incident/{incident.id}")
        page.get_by_label("Note, with your name").fill(text)
        page.get_by_role("button", name="Add the note").click()
        page.get_by_text("tried, ").first.wait_for()
        assert text in page.locator("#live").inner_text()


@BOTH
def test_nothing_is_asked_for_by_accident(night: Night, *, scripts: bool) -> None:
    """Two pages, a reason and the name have to be there; a double click asks once, and going back asks nothing."""
    before = night.count_requests()
    with night.look(scripts=scripts) as page:
        page.goto("/env/production")
        page.get_by_role("link", name="Stop the robot").click()
        button = page.get_by_role("button", name="Hold production")
        button.click()
        first = page.locator("form.panel").first
        first.get_by_label("Why").fill("nobody touches it")
        button.click()
        first.get_by_label("to confirm").fill("prod")
        button.click()
        assert page.url.endswith("/hold")
        assert night.count_requests() == before
        first.get_by_label("to confirm").fill("production")
        button.dblclick()
        page.get_by_role("heading", name="Hold: production").wait_for()
        assert night.count_requests() == before + 1
        page.go_back()
        page.go_forward()
        page.go_back()
        page.get_by_role("button", name="Hold production").wait_for()
        assert night.count_requests() == before + 1


@BOTH
def test_a_field_for_the_name_says_what_to_type(night: Night, *, scripts: bool) -> None:
    """Where a browser refuses another name; blanks that a phone's keyboard adds are none of it."""
    with night.look(scripts=scripts) as page:
        page.goto("/env/production/hold")
        field, button = page.get_by_label("to confirm").first, page.get_by_role("button", name="Hold production")
        page.get_by_label("Why").first.fill("nobody touches it")
        assert field.get_attribute("title") == "Type production, the name of the environment."
        for typed, is_refused in (("prod", True), (" production ", False), ("production", False)):
            field.fill(typed)
            if is_refused:
                button.click()
                assert field.evaluate("(each) => each.validity.valid") is False
                if scripts:
                    assert field.evaluate("(each) => each.validationMessage") == field.get_attribute("title")
            else:
                assert field.evaluate("(each) => each.validity.valid") is True, typed


def test_a_wrong_name_is_refused_by_the_server_as_well(night: Night) -> None:
    before = night.count_requests()
    with night.look() as page:
        form = {"act": "rollback", "why": "x", "confirm": "prod"}
        answer = page.request.post("/env/production/requests", form=form)
        assert answer.status == 409
        assert "type production to confirm" in answer.text()
    assert night.count_requests() == before


def test_the_keyboard_reaches_everything_in_the_order_of_the_page(night: Night) -> None:
    with night.look() as page:
        page.goto("/env/production/hold")
        seen = []
        for _ in range(9):
            page.keyboard.press("Tab")
            seen.append(page.evaluate("document.activeElement.textContent.trim() || document.activeElement.name"))
            style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert style not in {"none", ""}, seen
        assert seen[:5] == ["To the content", "↩ backout", "Log out", "Environments", "production"]
        assert seen[5:9][0] == "why"
        assert seen[7:9] == ["confirm", "Hold production"]


@pytest.mark.long
@pytest.mark.rotating("pages in a browser", 2)
@BOTH
def test_a_plan_that_waits_is_approved_or_given_up(night: Night, tmp_path: Path, *, scripts: bool) -> None:
    """What is approved is the plan that was read; the reason stands beside it."""
    story = Story(tmp_path / "journal.sqlite", approvals=APPROVED)
    (tmp_path / "backout.toml").write_text(CONFIG)
    ended = []
    with serving(tmp_path) as served:
        kept = log_in(night.browser, served)
        journal = SqliteJournal(story.path, SystemClock())
        for asks in ("Give it up", "Approve the plan"):
            with pytest.raises(Exception, match="approv"):
                roll_back(story.tools())
            with looking(night.browser, kept, scripts=scripts, base_url=served.url) as page:
                page.goto("/env/production")
                page.get_by_role("link", name="Look at what waits").click()
                ask(page, asks, "I have read it")
                page.get_by_text("aborted" if asks == "Give it up" else "Approved by").first.wait_for()
                ended.append(journal.runs("production")[0].state)
        assert ended[0] is RunState.ABORTED
        run = journal.runs("production")[0]
        assert run.approval is not None
        assert (run.approval.hash, run.approval.why) == (run.plan.hash, "I have read it")
        journal.close()


def ask(page: Page, what: str, why: str) -> None:
    """Open one of the things that can be asked of a run, give the reason, and send it, twice."""
    panel = page.locator("details.panel", has=page.locator("summary", has_text=what))
    if panel.get_attribute("open") is None:
        panel.locator("summary").click()
    panel.get_by_label("Why").fill(why)
    panel.get_by_role("button").last.dblclick()


def test_a_stream_that_is_cut_says_so(night: Night, tmp_path: Path) -> None:
    (tmp_path / "backout.toml").write_text(CONFIG)
    with serving(tmp_path) as served:
        kept = log_in(night.browser, served)
        with looking(night.browser, kept, base_url=served.url) as page:
            page.goto("/")
            page.get_by_text("no worker has read it yet").first.wait_for()
            served.process.kill()
            page.get_by_text("The connection is lost").wait_for(timeout=PATIENCE_MS)


@pytest.mark.long
@pytest.mark.rotating("pages in a browser", 2)
def test_a_stream_that_was_never_open_is_said_and_tried_again(night: Night, tmp_path: Path) -> None:
    """The page came, and its stream did not; when the server can, it goes on by itself."""
    (tmp_path / "backout.toml").write_text(CONFIG)
    with serving(tmp_path) as served:
        kept = log_in(night.browser, served)
        with looking(night.browser, kept, base_url=served.url) as page:
            tries: list[str] = []

            def refuse(route: Route) -> None:
                tries.append(route.request.url)
                if len(tries) < 3:
                    route.abort()
                else:
                    route.continue_()

            page.route("**/stream/**", refuse)
            page.goto("/")
            cut = page.get_by_text("The connection is lost")
            cut.wait_for(timeout=PATIENCE_MS)
            cut.wait_for(state="hidden", timeout=PATIENCE_MS)
            assert len(tries) == 3
