"""What is dangerous, done on the pages with a real worker behind them, on the twin and behind Caddy."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from browser import browsing, log_in, looking, needs_chromium, serving
from fleet import fleet, load_config

from backout.model.incident.incident import RunState
from backout.model.plan import PlanKind
from backout.wiring.records import open_holds, open_journal

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from fleet import Fleet
    from playwright.sync_api import Page

    from backout.model.incident.incident import Run

pytestmark = needs_chromium
LONG_S = 4 * PATIENCE_S
HOMES = pytest.mark.parametrize("home", ["twin", "hosts"])


@dataclass
class Shift:
    """One application, a worker that guards it, and a page of somebody who is logged in."""

    made: Fleet
    worker: subprocess.Popen[str]
    page: Page

    @property
    def name(self) -> str:
        return self.made.names[0]

    def deploy(self, version: str) -> None:
        self.made.deploy(self.name, version)

    def await_live(self, version: str) -> None:
        """Wait until the platform says so."""
        until(lambda: self.made.read_live(self.name) == version, LONG_S, f"{version} is live", process=self.worker)

    def read_run(self) -> Run:
        """Return the newest rollback, as the journal has it."""
        journal = open_journal(load_config(self.made.folder, self.name, self.made.variables))
        try:
            return next(run for run in journal.runs(self.name) if run.plan.kind is PlanKind.ROLLBACK)
        finally:
            journal.close()

    def open(self, path: str = "") -> None:
        self.page.goto(f"/env/{self.name}{path}")

    def see(self, text: str) -> None:
        """Wait until a page says something, by its stream."""
        from playwright.sync_api import TimeoutError as TooLate  # noqa: PLC0415 as in `browser`

        try:
            self.page.get_by_text(text).first.wait_for(timeout=LONG_S * 1000)
        except TooLate:
            shown = self.page.locator("main").inner_text()
            raise AssertionError(f"{text!r} is not on {self.page.url}:\n{shown}\n{self.made.read_log(0)}") from None

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def fill(self, label: str, text: str) -> None:
        self.page.get_by_label(label).first.fill(text)

    def roll_back(self, why: str) -> None:
        """Ask for a plan, and then for the rollback."""
        self.open("")
        self.press("Roll back…")
        self.fill("Why", why)
        self.press(f"Roll back {self.name}")

    def ask(self, what: str, button: str | None = None) -> None:
        """Ask something of the run that is shown, by the panel's button, or by one of several."""
        panel = self.page.locator("details.panel", has=self.page.locator("summary", has_text=what))
        if panel.get_attribute("open") is None:
            panel.locator("summary").click()
        panel.get_by_label("Why").fill("it was looked at")
        if (name := panel.get_by_label("to confirm")).count():
            name.fill(self.name)
        (panel.get_by_role("button", name=button, exact=True) if button else panel.get_by_role("button")).click()


@contextmanager
def shift(folder: Path, home: str, *, more: str = "", **how: Any) -> Iterator[Shift]:
    """Run an application with its worker and the pages.

    Args:
        home: a platform.
        more: lines for backout.toml, `{name}` for the environment's.
        how: arguments of `fleet`.
    """
    with ExitStack() as stack:
        count, parts = (1, {}) if home == "scripted" else (0, {f"on_{home}": 1})
        made = stack.enter_context(fleet(folder, count, **parts, **how))
        with (folder / "backout.toml").open("a") as file:
            file.write(more.format(name=made.names[0]))
        worker = made.start_worker("--guard-only")
        until(lambda: made.read_guards() != {}, LONG_S, "the worker guards", process=worker)
        served, browser = stack.enter_context(serving(folder)), stack.enter_context(browsing())
        kept = log_in(browser, served)
        yield Shift(made, worker, stack.enter_context(looking(browser, kept, base_url=served.url)))


@HOMES
@pytest.mark.long
@pytest.mark.rotating("pages at work", 5)
def test_the_robot_is_stopped_the_cause_found_and_the_version_back(tmp_path: Path, home: str) -> None:
    """Each is read back: the hold where guard reads it, the version from the platform."""
    with shift(tmp_path, home) as night:
        night.open("/hold")
        night.fill("Why", "we look ourselves")
        night.press(f"Hold {night.name}")
        night.see("Done")
        found = open_holds(load_config(tmp_path, night.name, night.made.variables)).read(night.name)
        assert found is not None
        assert "we look ourselves" in found.why
        night.deploy("bad-2")
        night.open()
        night.see("What happened")
        assert night.made.read_live(night.name) == "bad-2"
        night.press("Find the cause")
        night.see("% sure")
        night.roll_back("half of the pages fail")
        night.await_live("good-1")
        night.see("Done")
        night.open("/hold")
        night.page.locator("form", has_text="Guard acts again").get_by_label("Why").fill("it is over")
        night.press("Lift the hold")
        night.see("Done")
        night.open()
        night.see("Nothing needs you.")


@HOMES
@pytest.mark.long
@pytest.mark.rotating("pages at work", 5)
def test_a_rollback_waits_is_approved_and_goes_on(tmp_path: Path, home: str) -> None:
    """Nothing is changed before all of that; then the version is back, once."""
    more = '[environments.{name}.approvals]\nrequired_for = ["rollback"]\nby = "anyone"\n'
    with shift(tmp_path, home, more=more, watch="600s") as night:
        night.deploy("good-2")
        night.await_live("good-2")
        night.roll_back("a customer called")
        night.see("waits for an approval")
        night.open()
        night.page.get_by_role("link", name="Look at what waits").click()
        night.ask("Approve the plan", "Approve only")
        night.see("Approved by")
        assert night.made.read_live(night.name) == "good-2"
        night.ask("Go on")
        night.await_live("good-1")
        night.see("Done")
        assert night.made.read_served(night.name) == ["good-1", "good-2", "good-1"]


@pytest.mark.long
@pytest.mark.rotating("pages at work", 5)
def test_a_worker_that_dies_is_missed(tmp_path: Path) -> None:
    """What is shown grows old and says so; what is asked for is dropped in time; the next worker is seen again."""
    with shift(tmp_path, "scripted") as night:
        night.open()
        night.see("Nothing needs you.")
        night.worker.kill()
        night.worker.wait()
        night.page.locator(".stale").wait_for(timeout=LONG_S * 1000)
        night.see("nobody")
        night.open("")
        night.press("Roll back…")
        night.see("No worker took it in time, so nothing was done")
        assert night.made.read_live(night.name) == "good-1"
        night.made.start_worker("--guard-only")
        night.open()
        night.page.locator(".stale").wait_for(state="detached", timeout=LONG_S * 1000)
        night.see("Nothing needs you.")


@pytest.mark.long
@pytest.mark.rotating("pages at work", 5)
def test_a_rollback_is_paused_goes_on_and_is_given_up(tmp_path: Path) -> None:
    """While it looks whether all is well: no process drives what is paused, and what is given up keeps nothing."""
    with shift(tmp_path, "scripted", watch="600s") as night:
        night.deploy("good-2")
        night.await_live("good-2")
        night.roll_back("a customer called")
        night.await_live("good-1")
        night.page.get_by_role("link", name="What it does, step by step").click()
        night.ask("Pause it at the next step")
        night.see("Paused by")
        until(lambda: night.read_run().state is RunState.PAUSED, LONG_S, "it is paused", process=night.worker)
        address = night.page.url
        night.ask("Go on")
        until(lambda: night.read_run().state is RunState.RUNNING, LONG_S, "it goes on", process=night.worker)
        night.page.goto(address)
        night.ask("Pause it at the next step")
        until(lambda: night.read_run().state is RunState.PAUSED, LONG_S, "it is paused", process=night.worker)
        night.page.goto(address)
        night.ask("Give it up")
        night.see("it was given up after")
        assert night.read_run().state is RunState.ABORTED
        assert night.made.read_served(night.name) == ["good-1", "good-2", "good-1"]
        night.open("")
        night.press("Roll back…")
        night.see("There is nothing to do")
