"""How one gets in, and how one is out again: addresses that work once, cookies, tokens, a proxy's word."""

from __future__ import annotations

import contextlib
import json
import os
import re
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest
from journal.toy import FakeClock
from web_lab import PRODUCTION, SETTINGS, STAGING, Permission, SystemClock, open_lab
from web_logins import PEERS, ask_from, log_in, read_cookie

from backout.model import login as events
from backout.runbook.serve.logins import OFFER_S, Logins
from backout.web.sessions import TRIES, TRY_WITHIN_S

import tls_lab
from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from web_lab import Lab

PAGE: Final = "/env/staging"
_LISTENS: Final = "0A"
"""The state of such a socket in /proc/net/tcp."""
IN, OUT = 200, 303
"""What a page answers to somebody who is logged in, and to anybody else: where one logs in."""


def look(lab: Lab, cookie: str) -> int:
    """Return what a page answers to whoever has a cookie."""
    return lab.ask("GET", PAGE, headers={"Cookie": cookie}).status


def run_backout(lab: Lab, *words: str) -> dict[str, Any]:
    """Return what a command answers, typed beside the server."""
    done = subprocess.run(
        [sys.executable, "-m", "backout", *words, "--json"],
        cwd=lab.folder, capture_output=True, text=True, check=True, timeout=PATIENCE_S,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def make_early_logins(lab: Lab, seconds: float) -> Logins:
    """Return the logins of a journal as they were granted some time ago."""
    return Logins(lab.journal, FakeClock(time.time() - seconds), actor="toy")


def test_a_one_time_address_works_once(lab: Lab) -> None:
    """Looking at it uses nothing up, as programs do that look at each address in a message; sending the form does."""
    offer = lab.logins.offer("once", Permission.OPERATOR)
    for _ in range(3):
        shown = lab.ask("GET", f"/login?offer={offer}")
        assert (shown.status, shown.cookies) == (200, [])
        assert offer in shown.text
    first = log_in(lab, offer, path=PAGE)
    assert (first.status, first.headers["location"]) == (303, PAGE)
    cookie, _ = read_cookie(first)
    assert look(lab, cookie) == IN
    again = log_in(lab, offer)
    assert (again.status, again.cookies) == (403, [])
    assert "used already" in again.text
    assert look(lab, cookie) == IN
    used = [event for event in lab.journal.events(kind=events.USED) if event.data.get("name") == "once"]
    assert len(used) == 1


def test_of_many_who_use_an_address_at_once_one_gets_in(lab: Lab) -> None:
    offer = lab.logins.offer("grace", Permission.VIEWER)
    with ThreadPoolExecutor(8) as pool:
        statuses = [each.status for each in pool.map(lambda _: log_in(lab, offer), range(8))]
    assert sorted(statuses) == [303, *[403] * 7]
    started = [event for event in lab.journal.events(kind=events.STARTED) if event.data.get("name") == "grace"]
    assert len(started) == 1


def test_an_old_address_and_an_old_token_count_no_more(lab: Lab) -> None:
    """By their own ends; a session lasts twelve hours."""
    assert log_in(lab, make_early_logins(lab, OFFER_S + 1).offer("old", Permission.VIEWER)).status == 403
    assert log_in(lab, make_early_logins(lab, OFFER_S - 200).offer("younger", Permission.VIEWER)).status == 303
    early = make_early_logins(lab, 1000)
    gone, _ = early.issue("gone", Permission.VIEWER, (), 999)
    there, _ = early.issue("there", Permission.VIEWER, (), 5000)
    assert [lab.ask("GET", PAGE, token=each).status for each in (gone, there)] == [OUT, IN]
    assert lab.ask("GET", "/api/v1/environments", token=gone).status == 401
    twelve = 12 * 3600
    for ago, status in ((twelve + 1, OUT), (twelve - 300, IN)):
        before = make_early_logins(lab, ago)
        session, _ = before.use_offer(before.offer("slow", Permission.VIEWER))
        assert look(lab, f"backout={session}") == status


def follow_to_the_end(lab: Lab, path: str, token: str) -> bool:
    """Follow a stream until the server ends it; return whether it was open at all."""
    with contextlib.suppress(AssertionError), lab.listen(path, token=token) as stream:
        while stream.read() is not None:
            pass  # what was drawn before
        return True
    return False


def test_a_stream_ends_when_its_token_does(lab: Lab) -> None:
    """What was open when it ran out tells nothing any more."""
    lengths = (2, 20, 200)  # a busy machine may take longer than the first to open the stream
    tokens = (lab.issue(Permission.VIEWER, lasts_s=seconds) for seconds in lengths)
    assert any(follow_to_the_end(lab, "/stream/environments", token) for token in tokens)


def test_a_stream_of_events_ends_with_the_session(lab: Lab) -> None:
    session, login = lab.logins.use_offer(lab.logins.offer("leaver", Permission.VIEWER))
    with lab.listen("/api/v1/events", token=session) as stream:
        lab.logins.end(login)
        while stream.read() is not None:
            pass


def test_the_cookie_is_for_this_site_alone(lab: Lab) -> None:
    """No script reads it, no other site sends it, and a browser takes it away after twelve hours."""
    answer = log_in(lab, lab.logins.offer("ada", Permission.VIEWER))
    cookie, attributes = read_cookie(answer)
    assert re.fullmatch(r"backout=bko_[A-Za-z0-9_-]{43}", cookie)
    assert attributes == {"httponly": "", "samesite": "lax", "path": "/", "max-age": str(12 * 3600)}
    assert answer.headers["cache-control"] == "no-store"


def test_with_tls_the_cookie_is_sent_by_tls_alone(tmp_path: Path) -> None:
    """Its name has a browser refuse any other: `__Host-` means Secure, no domain, the whole site."""
    authority = tls_lab.authority(tmp_path / "authority")
    certificate, key = authority.issue("pages.test.localhost")
    context = ssl.create_default_context(cafile=str(authority.root))
    context.check_hostname = False
    words = ("--cert", str(certificate), "--key", str(key), "--url", "https://pages.test.localhost")
    with open_lab(tmp_path, *words, told=(STAGING,)) as lab:
        lab.url = f"https://127.0.0.1:{find_port(lab)}"
        how: dict[str, Any] = {"host": "pages.test.localhost", "tls": context}
        answer = log_in(lab, lab.logins.offer("ada", Permission.VIEWER), **how)
        assert answer.status == 303, answer.text
        cookie, attributes = read_cookie(answer)
        assert cookie.startswith("__Host-backout=bko_")
        flags = {"httponly": "", "samesite": "lax", "path": "/", "secure": "", "max-age": str(12 * 3600)}
        assert attributes == flags
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
        for name, status in ((cookie, IN), (cookie.removeprefix("__Host-"), OUT)):
            assert ask_from(lab, "127.0.0.1", "GET", PAGE, [("Cookie", name)], **how).status == status
        out = ask_from(lab, "127.0.0.1", "POST", "/logout", [("Cookie", cookie)], form={}, **how)
        cleared, attributes = read_cookie(out)
        assert (cleared, attributes["max-age"], attributes["secure"]) == ('__Host-backout=""', "0", "")
        assert "Traceback" not in lab.said


def find_port(lab: Lab) -> int:
    """Return where a server listens whose URL is another one's: the kernel knows."""
    assert lab.process is not None
    process = Path("/proc", str(lab.process.pid))
    rows = [line.split() for line in (process / "net" / "tcp").read_text().splitlines()[1:]]
    open_files = {os.readlink(each) for each in list((process / "fd").iterdir()) if each.is_symlink()}  # noqa: PTH115
    return next(
        int(row[1].partition(":")[2], 16) for row in rows if row[3] == _LISTENS and f"socket:[{row[9]}]" in open_files
    )


def test_logging_out_ends_the_session_and_no_other(lab: Lab) -> None:
    """At the server: a copy of the cookie is worth nothing any more, here and at another server on the journal."""
    offers = [lab.logins.offer("ada", Permission.VIEWER) for _ in range(2)]
    cookies = [read_cookie(log_in(lab, offer))[0] for offer in offers]
    mine, other = cookies
    assert [look(lab, each) for each in cookies] == [IN, IN]
    token = lab.issue(Permission.VIEWER)
    assert lab.ask("POST", "/logout", token=token, form={}).status == 303
    assert lab.ask("GET", PAGE, token=token).status == IN  # a token has no session that could end
    out = lab.ask("POST", "/logout", form={}, headers={"Cookie": mine})
    assert (out.status, out.headers["location"]) == (303, "/login")
    cleared, attributes = read_cookie(out)
    assert (cleared, attributes["max-age"], attributes["httponly"]) == ('backout=""', "0", "")
    assert [look(lab, each) for each in cookies] == [OUT, IN]
    assert lab.ask("POST", "/logout", form={}, headers={"Cookie": mine}).status == 401
    fresh = Logins(lab.journal, SystemClock(), actor="toy")
    assert [fresh.find(each.partition("=")[2]) is None for each in cookies] == [True, False]
    assert other != mine


def test_what_the_command_grants_and_revokes(lab: Lab) -> None:
    """Typed beside a server that runs: a token counts at once where it may, and stops within seconds."""
    made = run_backout(
        lab, "serve", "token", "create", "ci", "--role", "operator", "--only", STAGING, "--expires", "1h"
    )
    token = str(made["token"])
    path = f"/api/v1/environments/{STAGING}/requests"
    assert lab.ask("POST", path, token=token, body={"act": "plan"}).status == 202
    (listed,) = (each for each in run_backout(lab, "serve", "token", "list")["tokens"] if each["name"] == "ci")
    assert token not in json.dumps(listed)
    with lab.listen("/stream/environments", token=token) as stream:
        run_backout(lab, "serve", "token", "revoke", str(listed["id"]))
        until(lambda: lab.ask("GET", path, token=token).status == 401, 5, "the token is refused")
        while stream.read() is not None:
            pass
    offered = run_backout(lab, "serve", "login", "--name", "night shift", "--role", "viewer", "--url", lab.url)
    address = urlsplit(str(offered["login_url"]))
    assert f"{address.scheme}://{address.netloc}" == lab.url
    answer = log_in(lab, parse_qs(address.query)["offer"][0])
    cookie, _ = read_cookie(answer)
    page = lab.ask("GET", PAGE, headers={"Cookie": cookie})
    assert (page.status, "night shift" in page.text) == (IN, True)
    refused = lab.ask("POST", f"{PAGE}/requests", form={"act": "plan"}, headers={"Cookie": cookie})
    assert refused.status == 403


def test_an_address_leads_to_the_pages_that_notices_lead_to(quick_path: Path) -> None:
    """`notify.pages` says where they are; `--url` says it better, and without both it is this machine."""
    settings = SETTINGS.format(journal="")
    for added, words, expected in (
        ("", (), "http://127.0.0.1:8765"),
        ('[notify]\npages = "https://backout.example.com/"\n', (), "https://backout.example.com"),
        ('[notify]\npages = "https://backout.example.com/"\n', ("--url", "http://[::1]:9"), "http://[::1]:9"),
    ):
        (quick_path / "backout.toml").write_text(settings + added)
        done = subprocess.run(
            [sys.executable, "-m", "backout", "serve", "login", *words, "--json"],
            cwd=quick_path, capture_output=True, text=True, check=True, timeout=PATIENCE_S,
        )  # fmt: skip
        assert json.loads(done.stdout)["login_url"].startswith(f"{expected}/login?offer=bko_")


def test_an_altered_secret_is_nobodys(lab: Lab) -> None:
    """One character anywhere, a beginning, another case, what the journal keeps of it; and each secret for its own."""
    offer = lab.logins.offer("ada", Permission.APPROVER)
    session, login = lab.logins.use_offer(lab.logins.offer("ada", Permission.APPROVER))
    hashed = next(
        str(event.data["key"]) for event in lab.journal.events(kind=events.STARTED)
        if str(event.data["key"]).startswith(login.id)
    )  # fmt: skip
    body = session.removeprefix("bko_")
    altered = {session[:at] + ("A" if session[at] != "A" else "B") + session[at + 1 :] for at in range(len(session))}
    altered |= {session[:-1], session + "A", session.upper(), body, "bko_", "", hashed, f"bko_{hashed}", login.id}
    altered |= {f"bko_{body[::-1]}", f"{session}%00", f"{session}\t{session}", f"bko_{'9' * 4000}", offer, "bko_\xe9"}
    for each in sorted(altered):
        assert look(lab, f"backout={each}") == OUT, each
        assert lab.ask("GET", "/api/v1/environments", token=each).status == 401, each
    for each in (session, lab.issue(Permission.APPROVER), hashed, f"{offer}A", offer[:-1], ""):
        assert log_in(lab, each).status == 403, each
    assert look(lab, f"backout={session}") == IN
    assert look(lab, f"__Host-backout={session}") == OUT
    assert log_in(lab, offer).status == 303
    assert "Traceback" not in lab.said


def test_a_cookie_from_before_is_none_after_a_login(lab: Lab) -> None:
    """Nobody is given a session whose id somebody else knows."""
    planted = "backout=bko_" + "A" * 43
    peer, offer = next(PEERS), lab.logins.offer("ada", Permission.VIEWER)
    answer = ask_from(lab, peer, "POST", "/login", [("Cookie", planted)], form={"offer": offer})
    cookie, _ = read_cookie(answer)
    assert cookie != planted
    assert [look(lab, each) for each in (planted, cookie)] == [OUT, IN]


@pytest.mark.parametrize(
    "address",
    ["//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example", "/\t\\evil.example", "\\\\evil",
     "javascript:alert(1)", "/\r\nSet-Cookie: backout=x", "//[", "///evil.example", " //evil.example", "evil.example",
     "/\n//evil.example", "/%0d%0aX: y", "/%5cevil.example"],
)  # fmt: skip
def test_a_login_leads_to_our_own_pages(lab: Lab, address: str) -> None:
    """Wherever the link says that it goes on to."""
    answer = log_in(lab, lab.logins.offer("ada", Permission.VIEWER), path=address)
    led = answer.headers["location"]
    assert answer.status == 303
    assert re.fullmatch(r"/([A-Za-z0-9%:.][!-\[\]-~]*)?", led), led
    assert len(answer.cookies) == 1


def test_the_eleventh_attempt_is_refused(tmp_path: Path) -> None:
    """Of one address within a minute, also with the right one, which it does not use up; others still get in."""
    with open_lab(tmp_path, told=(STAGING,)) as lab:
        began = time.monotonic()
        guessed = [log_in(lab, "bko_guessed", "127.0.1.1").status for _ in range(TRIES)]
        offer = lab.logins.offer("ada", Permission.VIEWER)
        eleventh = log_in(lab, offer, "127.0.1.1")
        other = log_in(lab, offer, "127.0.1.2")
        statuses = [log_in(lab, "bko_guessed", f"127.0.2.{each // 9 + 1}").status for each in range(10 * TRIES)]
        if time.monotonic() - began >= TRY_WITHIN_S:
            pytest.skip("this machine takes longer for these attempts than the minute within which they are counted")
        assert guessed == [403] * TRIES
        assert (eleventh.status, eleventh.cookies) == (429, [])
        assert other.status == 303
        assert statuses == [*[403] * 89, *[429] * 11]  # a hundred of all
        assert lab.ask("GET", PAGE, token=lab.issue(Permission.VIEWER)).status == IN


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Lend a server that trusts what comes from a proxy."""
    words = ("--proxy", "127.0.0.2/32", "--proxy", "127.0.3.0/24", "--proxy-header", "X-Forwarded-User")
    with open_lab(tmp_path_factory.mktemp("proxied"), *words, "--proxy-role", "operator", told=(PRODUCTION,)) as lab:
        yield lab
        assert "Traceback" not in lab.said


USER: Final = "X-Forwarded-User"


@pytest.mark.parametrize("peer", ["127.0.0.2", "127.0.3.77"])
def test_a_proxy_says_who_it_is(proxied: Lab, peer: str) -> None:
    """From its own networks, with its role, and under that name in the journal."""
    path = f"/api/v1/environments/{PRODUCTION}"
    assert ask_from(proxied, peer, "GET", path, [(USER, "ada@example.com")]).status == 200
    form = {"act": "plan", "key": peer}
    headers = [(USER, "ada"), ("Sec-Fetch-Site", "same-origin")]
    assert ask_from(proxied, peer, "POST", "/env/production/requests", headers, form=form).status == 303
    made = [event for event in proxied.journal.events(environment=PRODUCTION) if event.data.get("by") == "ada"]
    assert made
    assert made[-1].actor.startswith("ada (by backout serve")


@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        ("127.0.0.1", [(USER, "ada")]),
        ("127.0.0.3", [(USER, "ada")]),
        ("127.0.4.1", [(USER, "ada")]),
        ("127.0.0.1", [(USER, "ada"), ("X-Forwarded-For", "127.0.0.2"), ("X-Real-IP", "127.0.0.2")]),
        ("127.0.0.1", [(USER, "ada"), ("Forwarded", "for=127.0.0.2"), ("X-Forwarded-For", "127.0.0.2, 127.0.0.2")]),
        ("127.0.0.2", []),
        ("127.0.0.2", [(USER, "ada"), (USER, "eve")]),
        ("127.0.0.2", [(USER, "ada"), ("x-forwarded-user", "ada")]),
        ("127.0.0.2", [(USER, ""), (USER, "eve")]),
        ("127.0.0.2", [(USER, "")]),
        ("127.0.0.2", [(USER, "  ")]),
        ("127.0.0.2", [(USER, "a" * 101)]),
        ("127.0.0.2", [(USER, "a\x85b")]),
        ("127.0.0.2", [("X_Forwarded_User", "ada")]),
        ("127.0.0.2", [("X-Forwarded-Users", "ada")]),
        ("127.0.0.2", [(USER, "ada"), ("Authorization", "Basic YWRhOmFkYQ==")]),
        ("127.0.0.2", [(USER, "ada"), ("Authorization", "Bearer bko_wrong")]),
    ],
)
def test_no_other_word_counts(proxied: Lab, peer: str, headers: list[tuple[str, str]]) -> None:
    """Of another peer, whatever it says of itself; of a proxy, two names, none, or one that is no name."""
    assert ask_from(proxied, peer, "GET", "/api/v1/environments", headers).status == 401
    assert ask_from(proxied, peer, "GET", "/", headers).status == OUT
