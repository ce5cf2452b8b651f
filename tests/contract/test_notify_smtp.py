"""The channel SMTP against a mail server on loopback: what a mail says, how it is protected, what each answer means."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from backout.model.incident.notice import Notice, NoticeKind
from backout.providers.notify.channel import SendFailed
from backout.providers.notify.smtp import Server, Smtp, compose

from polling import PATIENCE_S
from receivers import certificate, mailbox
from scripted_server import refused_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from receivers import Mailbox

NOTICE = Notice(
    kind=NoticeKind.ROLLED_BACK,
    environment="production",
    at=1_800_000_000.0,
    title="production: rolled back to version 4301c1f1, verified",
    text="Version 4301c1f1 was left.\n22 of 84 requests failed; größer als 1 %.",
    key="production:rolled_back:rollback-d8d0156a",
    run="rollback-d8d0156a",
    next=("backout status -e production",),
    facts={"guard_run_id": "guard-18ace2c0", "verified": "yes"},
)
TO = ("on-call@example.com", "team@example.com")


def smtp(box: Mailbox, security: str = "none", **more: object) -> Smtp:
    server = Server(str(more.pop("host", box.host)), box.port, security, **more)  # type: ignore[arg-type]
    return Smtp(server, "Backout <backout@example.com>", TO)


@contextlib.contextmanager
def dripping(data: bytes) -> Iterator[int]:
    """Yield the port of a server that sends these bytes again and again, and nothing else; without any it is silent."""
    ended = threading.Event()

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                while not ended.wait(0.02):
                    connection.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            ended.set()
            thread.join(PATIENCE_S)


def test_a_mail_says_everything_in_plain_text() -> None:
    """Subject, text, commands and facts; one thread for a run and the watch that led to it; marked as automatic."""
    with mailbox() as box:
        smtp(box).send(NOTICE, time.time())
    (mail,) = box.mails
    assert box.receivers == [list(TO)]
    assert mail["Subject"] == "[backout] production: rolled back to version 4301c1f1, verified"
    assert (mail["From"], mail["To"]) == ("Backout <backout@example.com>", ", ".join(TO))
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content_type() == "text/plain"
    text = mail.get_content()
    assert "größer als 1 %" in text
    assert "  backout status -e production" in text
    assert "verified: yes" in text
    assert mail["Message-ID"] == compose(NOTICE, "backout@example.com", TO, 0.0)["Message-ID"]
    assert mail["Message-ID"].endswith("@example.com>")


def test_the_mails_of_a_run_are_one_thread() -> None:
    """The rollback's mail answers the watch's; a mail without a run answers nothing."""
    watch = Notice(NoticeKind.TOKEN_LOST, "production", 0.0, "t", "x", key="k", run="guard-18ace2c0")
    first, second = (compose(each, "a@b.c", TO, 0.0) for each in (watch, NOTICE))
    assert first["In-Reply-To"] == second["In-Reply-To"] == second["References"]
    assert first["Message-ID"] != second["Message-ID"]
    alone = Notice(NoticeKind.HOLD_SET, "production", 0.0, "t", "x", key="k")
    assert compose(alone, "a@b.c", TO, 0.0)["In-Reply-To"] is None


def test_a_title_cannot_add_a_header() -> None:
    """Line ends in it become spaces."""
    evil = Notice(NoticeKind.FAILED, "production", 0.0, "x\r\nBcc: all@example.com\r\n\r\nhello", "x", key="k")
    mail = compose(evil, "a@b.c", TO, 0.0)
    assert mail["Bcc"] is None
    assert mail["Subject"] == "[backout] x Bcc: all@example.com hello"


@pytest.mark.parametrize("at_once", [False, True])
def test_tls_with_login(tmp_path: Path, at_once: bool) -> None:
    """The password goes over TLS only, and only to a server whose certificate holds for its name."""
    context, trusted = certificate(tmp_path)
    trust = partial(ssl.create_default_context, cafile=str(trusted))
    security = "tls" if at_once else "starttls"
    login = {"user": "mailer", "password": "pass-canary-word", "trust": trust}
    with mailbox(context, at_once=at_once, auth=True) as box:
        smtp(box, security, host="localhost", **login).send(NOTICE, time.time())
        assert len(box.mails) == 1
        assert set(box.logins) == {("mailer", "pass-canary-word")}
        with pytest.raises(SendFailed, match="certificate") as failed:
            smtp(box, security, host="localhost", **{**login, "trust": ssl.create_default_context}).send(NOTICE, 0.0)
        assert not failed.value.permanent
        with pytest.raises(SendFailed, match="user and password") as failed:
            smtp(box, security, host="localhost", **{**login, "password": "pass-wrong-word"}).send(NOTICE, 0.0)
        assert not failed.value.permanent
        assert "pass-wrong-word" not in failed.value.why
        assert len(box.mails) == 1


def test_a_server_without_starttls_gets_no_password() -> None:
    """Nothing is sent in the clear because a server, or somebody in between, does not offer TLS."""
    with mailbox() as box:
        with pytest.raises(SendFailed, match="STARTTLS") as failed:
            smtp(box, "starttls", user="mailer", password="pass-canary-word").send(NOTICE, time.time())
        assert not failed.value.permanent
        assert box.logins == []
        assert box.mails == []


@pytest.mark.parametrize(
    ("refuse", "permanent"),
    [
        ({"DATA": "554 5.7.1 no"}, True),
        ({"DATA": "451 4.7.1 later"}, False),
        ({"MAIL": "550 5.7.1 not you"}, True),
        ({"RCPT": "550 5.1.1 unknown"}, True),
        ({"RCPT": "450 4.2.0 greylisted"}, False),
        ({"RCPT": "550 5.1.1 unknown", "RCPT team@example.com": "450 4.2.0 greylisted"}, False),
    ],
)
def test_what_each_answer_means(refuse: dict[str, str], permanent: bool) -> None:
    """5xx about the mail ends it, 4xx is tried again."""
    with mailbox() as box:
        box.refuse = refuse
        with pytest.raises(SendFailed) as failed:
            smtp(box).send(NOTICE, time.time())
    assert failed.value.permanent is permanent
    assert f"127.0.0.1:{box.port}" in failed.value.why


def test_one_receiver_of_two_is_delivered() -> None:
    """Sending it again would tell the other one twice."""
    with mailbox() as box:
        box.refuse = {f"RCPT {TO[0]}": "550 5.1.1 unknown"}
        smtp(box).send(NOTICE, time.time())
    assert box.receivers == [[TO[1]]]


def test_nobody_there_or_no_mail_server() -> None:
    """Both are tried again."""
    port = int(refused_url().rpartition(":")[2])
    with pytest.raises(SendFailed) as failed:
        Smtp(Server("127.0.0.1", port, "none"), "a@b.c", TO).send(NOTICE, time.time())
    assert not failed.value.permanent
    with dripping(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port, pytest.raises(SendFailed) as failed:
        Smtp(Server("127.0.0.1", port, "none"), "a@b.c", TO).send(NOTICE, time.time())
    assert not failed.value.permanent


@pytest.mark.parametrize("data", [b"2", b"220-", b""])
def test_a_server_that_says_a_little_now_and_then_is_cut_off(data: bytes) -> None:
    """A read that always brings something never times out by itself."""
    with dripping(data) as port, pytest.raises(SendFailed) as failed:
        Smtp(Server("127.0.0.1", port, "none", within_s=0.3), "a@b.c", TO).send(NOTICE, time.time())
    assert not failed.value.permanent


def test_the_password_is_not_shown() -> None:
    """In no repr."""
    assert "pass-canary-word" not in repr(Server("h", 25, "none", "mailer", "pass-canary-word"))
