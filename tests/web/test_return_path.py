"""A notice's link that is opened without a login: the login leads back to it, once, and nowhere else."""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from browser import browsing, needs_chromium
from web_lab import PRODUCTION, STAGING, Permission
from web_logins import PEERS, ask_from

if TYPE_CHECKING:
    from web_lab import Answer, Lab

ASKED = "backout-asked"


def find_link(lab: Lab) -> str:
    """Return the path that a notice links to."""
    return f"/env/{PRODUCTION}/incident/{lab.night.incidents[PRODUCTION]}"


def read_cookies(answer: Answer) -> SimpleCookie:
    """Return the cookies of an answer by name, with their attributes."""
    found: SimpleCookie = SimpleCookie()
    for each in answer.cookies:
        found.load(each)
    return found


def open_link(lab: Lab, path: str) -> Answer:
    """Return the page that says how one logs in, as a browser gets it that asked for another one."""
    sent_on = lab.ask("GET", path)
    assert sent_on.status == 303
    return lab.ask("GET", sent_on.headers["location"])


def log_in_with(lab: Lab, asked: str) -> Answer:
    """Open a one-time URL in a browser that keeps what was asked for, and send its form."""
    offer, cookie = lab.logins.offer("ada", Permission.VIEWER), ("Cookie", f"{ASKED}={asked}")
    shown = ask_from(lab, next(PEERS), "GET", f"/login?offer={offer}", [cookie]).text
    path = shown.partition('name="next" value="')[2].partition('"')[0]
    return ask_from(lab, next(PEERS), "POST", "/login", [cookie], form={"offer": offer, "next": path})


def test_the_login_leads_back_to_the_page_that_was_asked_for(lab: Lab) -> None:
    """By a cookie that lasts a quarter of an hour, which no script reads, and which the login takes away."""
    told = open_link(lab, find_link(lab))
    assert "it leads back to the page that you asked for" in told.text
    kept = read_cookies(told)[ASKED]
    assert (kept["httponly"], kept["samesite"], kept["max-age"], kept["path"]) == (True, "lax", "900", "/")
    answer = log_in_with(lab, kept.coded_value)
    assert (answer.status, answer.headers["location"]) == (303, find_link(lab))
    cookies = read_cookies(answer)
    assert (cookies[ASKED].value, cookies[ASKED]["max-age"]) == ("", "0")
    assert cookies["backout"].value.startswith("bko_")


def test_what_is_no_page_is_not_led_back_to(lab: Lab) -> None:
    """A stream that is tried again after a session's end takes nothing away of what a person asked for."""
    run = lab.night.runs[STAGING]
    for path in ("/", "/stream/environments", f"/env/{STAGING}/run/{run}/picture.svg", f"/env/{'a' * 2000}"):
        told = open_link(lab, path)
        assert (told.status, told.cookies) == (200, []), path


@pytest.mark.parametrize(
    "asked",
    ["https://evil.example/env/x", "//evil.example/env/x", "/\\evil.example", "/env/../..//evil.example.svg", "/login",
     "/logout", "javascript:alert(1)", "//[", " /env/x", "/\n/env/x", "%", "\xe9", "x" * 3000],
)  # fmt: skip
def test_a_cookie_that_somebody_else_wrote_leads_nowhere_else(lab: Lab, asked: str) -> None:
    answer = log_in_with(lab, quote(asked, safe=""))
    assert (answer.status, answer.headers["location"]) == (303, "/")


@needs_chromium
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_a_browser_is_led_back_once(lab: Lab, *, scripts: bool) -> None:
    """From the notice by the one-time URL to the notice's page; the next login begins at the environments."""
    with browsing() as browser:
        page = browser.new_context(java_script_enabled=scripts).new_page()
        page.goto(f"{lab.url}{find_link(lab)}")
        page.get_by_text("backout serve login").wait_for()
        for path in (find_link(lab), "/"):
            page.goto(f"{lab.url}/login?offer={lab.logins.offer('ada', Permission.VIEWER)}")
            page.get_by_role("button", name="Log in here").click()
            page.get_by_role("button", name="Log out").wait_for()
            assert page.url == f"{lab.url}{path}"
