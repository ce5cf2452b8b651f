"""A browser on a real `backout serve`: Debian's Chromium, driven by Playwright, and axe-core."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from backout.providers.child import tie_to_parent

from streamed import await_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

CHROMIUM: Final = Path("/usr/bin/chromium")
needs_chromium = pytest.mark.skipif(not CHROMIUM.exists(), reason="no chromium: apt-get install chromium")
PATIENCE_MS: Final = 60_000
_AXE: Final = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
_PROGRAM: Final = Path(sys.executable).with_name("backout")
_SMALL: Final = """
[...document.querySelectorAll("a, button, summary, input, select, textarea")]
  .filter((each) => each.type !== "hidden" && each.checkVisibility() && each.getBoundingClientRect().height < 43.5)
  .map((each) => each.outerHTML.slice(0, 120))
"""


@dataclass
class Served:
    """A running `backout serve`; `login_url` counts once."""

    process: subprocess.Popen[str]
    url: str
    login_url: str


@contextlib.contextmanager
def serving(folder: Path, *words: str) -> Iterator[Served]:
    """Serve the configuration of a folder on a free port, until the block ends."""
    argv = (str(_PROGRAM), "--json", "serve", "--listen", "127.0.0.1:0", *words)
    with subprocess.Popen(
        tie_to_parent(argv, signal.SIGKILL), cwd=folder, env=dict(os.environ), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            told = json.loads(await_line(process, '"login_url"'))
            yield Served(process, told["url"], told["login_url"])
        finally:
            process.kill()


@contextlib.contextmanager
def browsing() -> Iterator[Browser]:
    """Start Chromium; it ends with the block."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 it takes a while, and not every test needs it

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


def log_in(browser: Browser, served: Served) -> dict[str, Any]:
    """Log in by the one-time address, as a person does, and return what the browser keeps of it."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(served.login_url)
    page.get_by_role("button", name="Log in here").click()
    page.get_by_role("heading", name="Environments").wait_for()
    kept: dict[str, Any] = dict(context.storage_state())
    context.close()
    return kept


@contextlib.contextmanager
def looking(browser: Browser, kept: Any, *, scripts: bool = True, **how: Any) -> Iterator[Page]:
    """Open a page of somebody who is logged in; no script may fail, and nothing may be refused by the policy.

    Args:
        scripts: whether JavaScript runs.
        how: further options of Playwright's contexts.
    """
    context: BrowserContext = browser.new_context(storage_state=kept, java_script_enabled=scripts, **how)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda message: said.append(message.text) if "Content Security Policy" in message.text else None)
    try:
        yield page
        assert said == []
    finally:
        context.close()


def list_violations(page: Page) -> list[str]:
    """Return what axe-core finds on a page, each rule with the first element that breaks it."""
    page.evaluate(_AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")
    return [f"{each['id']}: {each['nodes'][0]['html'][:160]}" for each in found["violations"]]


def list_small_targets(page: Page) -> list[str]:
    """Return what can be pressed and is less than 44 px high."""
    found: list[str] = page.evaluate(_SMALL)
    return found


def is_too_wide(page: Page) -> bool:
    """Whether a page has to be moved sideways to be read."""
    found: bool = page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
    return found
