"""The outbox: email by SMTP and by HTTP ends as a file, and nothing is sent on."""

from __future__ import annotations

import json
import smtplib
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import EmailMessage
from typing import TYPE_CHECKING

import pytest

from backout.twin.faults import Fault, FaultKind, Faults
from backout.twin.outbox import Outbox

from polling import PATIENCE_S
from twin_services import Loop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MESSAGE = {"from": "FM5 <orders@fm5.example.com>", "to": ["a@example.com"], "subject": "Hi", "text": "Body é"}


@dataclass(frozen=True)
class Lab:
    outbox: Outbox
    faults: Faults

    def http(self, path: str, body: object = None, *, key: str | None = "key") -> tuple[int, dict[str, object]]:
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        request = urllib.request.Request(f"{self.outbox.http_url}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def smtp(self) -> smtplib.SMTP:
        client = smtplib.SMTP("127.0.0.1", self.outbox.smtp_port, timeout=PATIENCE_S)
        if not self.outbox.is_down:
            client.login("anybody", "key")
        return client


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    loop = Loop()
    faults = Faults(tmp_path / "faults.json")
    outbox = Outbox(tmp_path / "outbox", faults, token="key")
    loop.run(outbox.start())
    yield Lab(outbox, faults)
    loop.run(outbox.stop())
    loop.close()


def test_a_message_by_http_is_a_file(lab: Lab) -> None:
    """The answer is its id; the file holds what was sent."""
    status, answer = lab.http("/emails", MESSAGE)
    assert status == 200
    (path,) = lab.outbox.directory.glob("*.json")
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert {name: stored[name] for name in MESSAGE} == MESSAGE
    assert (stored["id"], stored["via"]) == (answer["id"], "http")
    assert lab.http(f"/emails/{answer['id']}")[1]["subject"] == "Hi"
    assert lab.http("/emails/none")[0] == 404


@pytest.mark.parametrize(
    ("body", "key", "status"),
    [
        (MESSAGE, None, 401),
        ({**MESSAGE, "to": []}, "key", 422),
        ({**MESSAGE, "from": ""}, "key", 422),
        (b"not json", "key", 400),
        ([1], "key", 400),
    ],
)
def test_a_message_that_the_service_would_not_take_is_refused(
    lab: Lab, body: object, key: str | None, status: int
) -> None:
    """No key, no recipient, no sender, no JSON: an error and no file."""
    assert lab.http("/emails", body, key=key)[0] == status
    assert lab.outbox.messages() == ()


def test_a_message_by_smtp_is_a_file(lab: Lab) -> None:
    """Envelope, subject and both bodies."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@example.com", "b@example.com", "Grüße"
    message.set_content("plain é")
    message.add_alternative("<p>html</p>", subtype="html")
    with lab.smtp() as smtp:
        smtp.send_message(message)
        smtp.send_message(message, to_addrs=["c@example.com", "d@example.com"])
    first, second = lab.outbox.messages()
    assert (first["from"], first["to"], first["subject"]) == ("a@example.com", ["b@example.com"], "Grüße")
    assert (str(first["text"]).strip(), str(first["html"]).strip()) == ("plain é", "<p>html</p>")
    assert second["to"] == ["c@example.com", "d@example.com"]


def test_messages_are_listed_in_their_order(lab: Lab) -> None:
    """Oldest first, by both ways."""
    for number in range(5):
        lab.http("/emails", {**MESSAGE, "subject": str(number)})
    assert [one["subject"] for one in lab.outbox.messages()] == ["0", "1", "2", "3", "4"]
    assert len(lab.http("/emails")[1]["data"]) == 5  # type: ignore[arg-type]


def test_email_that_is_down_refuses_by_both_ways(lab: Lab) -> None:
    """503 and 421 while the fault is on; then all is well."""
    assert lab.http("/health") == (200, {"status": "ok"})
    lab.faults.set(Fault(FaultKind.SERVICE_DOWN, target="email"))
    assert lab.http("/health")[0] == 503
    assert lab.http("/emails", MESSAGE)[0] == 503
    with lab.smtp() as smtp, pytest.raises(smtplib.SMTPResponseException) as refused:
        smtp.sendmail("a@example.com", ["b@example.com"], "Subject: x\n\nx")
    assert refused.value.smtp_code == 421
    assert lab.outbox.messages() == ()
    lab.faults.clear()
    assert lab.http("/emails", MESSAGE)[0] == 200
    with lab.smtp() as smtp:
        smtp.sendmail("a@example.com", ["b@example.com"], "Subject: x\n\nx")
    assert len(lab.outbox.messages()) == 2


def test_a_message_that_is_too_large_is_refused(lab: Lab) -> None:
    """Twelve megabytes: no file, and the service lives."""
    with lab.smtp() as smtp, pytest.raises(smtplib.SMTPResponseException):
        smtp.sendmail("a@example.com", ["b@example.com"], "Subject: x\n\n" + "x" * 12_000_000)
    assert lab.http("/health")[0] == 200
    assert lab.outbox.messages() == ()
