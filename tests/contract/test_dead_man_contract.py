"""Port DeadMan over HTTP: it asks the URL in the background, never raises, says a failure once, never shows the URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backout.errors import AuthError
from backout.providers.deadman.ping import HttpDeadMan

from polling import PATIENCE_S, until
from scripted_server import answer, hang, raw_answer, refused_url, reset, scripted_server

if TYPE_CHECKING:
    from collections.abc import Callable

    from scripted_server import Step

SECRET = "/ping/3f2a-secret-uuid?rid=1"


def pinged(url: Callable[[], str], times: int) -> list[str]:
    """Ping that often, one after the other, and return what was said."""
    said: list[str] = []
    dead_man = HttpDeadMan(url, said.append)
    for _ in range(times):
        dead_man.ping()
        dead_man.join(PATIENCE_S)
    return said


def test_it_asks_the_url() -> None:
    """A GET of the whole URL, and nothing is said."""
    with scripted_server() as server:
        server.will(answer({"ok": True}))
        assert pinged(lambda: server.url + SECRET, 2) == []
        assert [(asked.method, asked.target) for asked in server.asked] == [("GET", SECRET)] * 2
        assert server.asked[0].headers["user-agent"].startswith("backout/")


@pytest.mark.parametrize("step", [answer({}, 500), answer({}, 404), reset(), raw_answer(b"rubbish")])
def test_a_failure_is_said_once_and_so_is_its_end(step: Step) -> None:
    """However often it fails; the URL, which is a secret, is never quoted."""
    with scripted_server() as server:
        server.will(step, step, step, answer({}))
        said = pinged(lambda: server.url + SECRET, 5)
    assert len(said) == 2
    assert "does not take the ping" in said[0]
    assert "takes the pings again" in said[1]
    assert not any("secret" in text for text in said)


@pytest.mark.parametrize(
    "url", [refused_url() + SECRET, "ftp://example.com" + SECRET, "no url"], ids=["no port", "no http", "no url"]
)
def test_a_url_that_cannot_be_asked_is_said(url: str) -> None:
    """No port, no http, no URL at all."""
    said = pinged(lambda: url, 2)
    assert len(said) == 1
    assert "secret" not in said[0]


def test_a_url_that_is_not_set_is_said() -> None:
    """The variable's name helps; nothing is raised."""

    def missing() -> str:
        raise AuthError("a URL is needed, and DEAD_MAN_URL is not set")

    assert pinged(missing, 2) == [text for text in pinged(missing, 1) if "DEAD_MAN_URL is not set" in text]


def test_a_ping_that_hangs_holds_nobody_up() -> None:
    """ping() returns at once, and does not ask again while it is still asking."""
    said: list[str] = []
    with scripted_server() as server:
        server.will(hang())
        dead_man = HttpDeadMan(lambda: server.url + SECRET, said.append)
        dead_man.ping()
        until(lambda: server.asked, 10, "the ping arrives")
        dead_man.ping()
        dead_man.ping()
        assert len(server.asked) == 1
    dead_man.join(PATIENCE_S)
