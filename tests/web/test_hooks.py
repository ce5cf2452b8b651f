"""Webhooks to a real server: signed over the very bytes, once for each delivery, and never more than a look."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from web_lab import PRODUCTION, open_lab

from backout.model.action_request import MADE

from private import write_private

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from web_lab import Answer, Lab

GITHUB, STANDARD = "a-secret-of-github-1", b"a secret of thirty-two bytes ..."


@pytest.fixture(scope="module")
def hooked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Lend a server that lets both kinds of senders in."""
    folder = tmp_path_factory.mktemp("hooks")
    write_private(folder / "github", GITHUB + "\n")
    write_private(folder / "standard", "whsec_" + base64.b64encode(STANDARD).decode())
    with open_lab(folder, "--github-secret", "github", "--webhook-secret", "standard", told=()) as lab:
        yield lab
        assert "Traceback" not in lab.said
        assert GITHUB not in lab.said


def list_made(lab: Lab) -> list[tuple[str, str, str]]:
    """Return what was asked for: environment, act, by whom."""
    found = lab.journal.events(kind=MADE)
    return [(each.environment, str(each.data["act"]), str(each.data["by"])) for each in found]


def send_github(lab: Lab, content: Any, *, key: str = GITHUB, event: str = "deployment_status", number: str) -> Answer:
    body = json.dumps(content).encode()
    signature = "sha256=" + hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-GitHub-Event": event, "X-GitHub-Delivery": number, "X-Hub-Signature-256": signature}
    return lab.ask("POST", "/hooks/github", body=body, headers={**headers, "Content-Type": "application/json"})


def make_status(state: str, environment: str = PRODUCTION) -> dict[str, object]:
    return {"deployment": {"environment": environment, "id": 1}, "deployment_status": {"state": state}}


def send_standard(
    lab: Lab, content: object, *, number: str, key: bytes = STANDARD, at: float | None = None, extra: str = ""
) -> Answer:
    body, stamp = json.dumps(content).encode(), str(int(time.time() if at is None else at))
    mac = hmac.new(key, f"{number}.{stamp}.".encode() + body, hashlib.sha256).digest()
    signature = f"{extra}v1,{base64.b64encode(mac).decode()}"
    headers = {"webhook-id": number, "webhook-timestamp": stamp, "webhook-signature": signature}
    return lab.ask("POST", "/hooks/standard", body=body, headers=headers)


def test_a_deployment_of_github_is_looked_for_or_diagnosed(hooked: Lab) -> None:
    """By its state, in the environment of the same name; the same delivery twice is one request."""
    before = list_made(hooked)
    first = send_github(hooked, make_status("success"), number="d-1")
    again = send_github(hooked, make_status("success"), number="d-1")
    assert (first.status, again.status) == (202, 202)
    assert first.json["request"] == again.json["request"]
    assert send_github(hooked, make_status("failure"), number="d-2").status == 202
    asked = [(PRODUCTION, "watch", "GitHub"), (PRODUCTION, "diagnose", "GitHub")]
    assert list_made(hooked) == [*before, *asked]
    for content, event in (
        (make_status("in_progress"), "deployment_status"),
        (make_status("success", "elsewhere"), "deployment_status"),
        (make_status("success"), "push"),
        ({}, "ping"),
        ([], "deployment_status"),
        ({"deployment": 3, "deployment_status": "x"}, "deployment_status"),
    ):
        answer = send_github(hooked, content, event=event, number="d-3")
        assert (answer.status, list(answer.json)) == (200, ["ignored"]), answer.text
    assert list_made(hooked) == [*before, *asked]


def test_what_is_not_signed_by_github_is_refused(hooked: Lab) -> None:
    """By another key, by none, or a signature of other bytes."""
    before = list_made(hooked)
    assert send_github(hooked, make_status("success"), key="another-secret-here", number="d-4").status == 401
    assert hooked.ask("POST", "/hooks/github", body=make_status("success")).status == 401
    odd = {"X-Hub-Signature-256": "sha256=é".encode().decode("latin-1"), "X-GitHub-Event": "deployment_status"}
    assert hooked.ask("POST", "/hooks/github", body=make_status("success"), headers=odd).status == 401
    assert list_made(hooked) == before


def test_a_standard_webhook(hooked: Lab) -> None:
    """Directly or below `data`, with one of several signatures; never anything but a look."""
    before = list_made(hooked)
    assert send_standard(hooked, {"environment": PRODUCTION, "act": "diagnose"}, number="s-1").status == 202
    below = {"type": "x", "data": {"environment": PRODUCTION, "act": "watch"}}
    assert send_standard(hooked, below, number="s-2", extra="v1,AAAA v2,x ").status == 202
    assert send_standard(hooked, below, number="s-2").status == 202
    asked = [(PRODUCTION, "diagnose", "a webhook"), (PRODUCTION, "watch", "a webhook")]
    assert list_made(hooked) == [*before, *asked]
    for act in ("rollback", "hold", "plan", "undo", "", "odd"):
        answer = send_standard(hooked, {"environment": PRODUCTION, "act": act}, number=f"s-{act}")
        assert answer.status == 422, act
    assert list_made(hooked) == [*before, *asked]


def test_a_standard_webhook_that_is_old_or_forged(hooked: Lab) -> None:
    """Five minutes either way; the id and the timestamp are signed, too."""
    before, content = list_made(hooked), {"environment": PRODUCTION, "act": "watch"}
    now = time.time()
    assert send_standard(hooked, content, number="o-1", at=now - 400).status == 401
    assert send_standard(hooked, content, number="o-2", at=now + 400).status == 401
    assert send_standard(hooked, content, number="o-3", key=b"x" * 32).status == 401
    assert hooked.ask("POST", "/hooks/standard", body=content).status == 401
    long = {"webhook-id": "o-4", "webhook-timestamp": "9" * 5000, "webhook-signature": "v1,x"}
    assert hooked.ask("POST", "/hooks/standard", body=content, headers=long).status in (400, 401)
    assert list_made(hooked) == before


def test_without_a_secret_there_is_no_such_address(lab: Lab) -> None:
    """Nobody is let in whom nobody set up."""
    for path in ("/hooks/github", "/hooks/standard"):
        assert lab.ask("POST", path, body={}).status == 404


@pytest.mark.parametrize(
    ("words", "text", "said"),
    [
        (("--github-secret", "secret"), "short", "16 characters"),
        (("--webhook-secret", "secret"), "no-prefix-but-long-enough", "whsec_"),
        (("--webhook-secret", "secret"), "whsec_no base64 at all, is it", "base64"),
        (("--github-secret", "missing"), "x", "missing"),
    ],
)
def test_a_secret_that_is_none_is_said(tmp_path: Path, words: tuple[str, str], text: str, said: str) -> None:
    """Before anything is listened on."""
    write_private(tmp_path / "secret", text)
    with pytest.raises(AssertionError, match=said), open_lab(tmp_path, *words, told=()):
        pass
    assert text == "x" or text not in (tmp_path / "serve.log").read_text()
