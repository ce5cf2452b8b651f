"""Where connections go: a name of this machine nowhere else, a metadata service never; and what a bad address says.

The resolver of these tests lies, as one can that somebody else answers; it is the system's, and not ours.
"""

from __future__ import annotations

import socket
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import backout
from backout.errors import UsageError
from backout.model.incident.notice import Notice, NoticeKind
from backout.providers.clock import SystemClock
from backout.providers.deadman.ping import HttpDeadMan
from backout.providers.exchange import Connection, Origin
from backout.providers.notify.channel import SendFailed
from backout.providers.notify.http_post import Post
from backout.providers.notify.smtp import Server, Smtp
from backout.providers.retry import Retry
from backout.providers.s3.client import S3Client
from backout.providers.s3.sigv4 import S3Credentials
from backout.providers.s3.transport import S3Settings

from receivers import mailbox
from scripted_server import answer, scripted_server

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTICE = Notice(NoticeKind.TEST, "production", 0.0, "title", "text", key="k")
TO = ("on-call@example.com",)
METADATA = "169.254.169.254"
ELSEWHERE = "127.0.0.2"
"""Another machine, as far as these tests go: nobody listens there."""


@pytest.fixture
def lying(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name leads elsewhere, and `cloud.example` to the metadata service."""
    honest = socket.getaddrinfo

    def lie(host: str, *args: object, **more: object) -> object:
        is_name = ":" not in host and any(character.isalpha() for character in host)
        told = METADATA if host == "cloud.example" else ELSEWHERE if is_name else host
        return honest(told, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", lie)


def make_client(endpoint: str) -> S3Client:
    return S3Client(S3Settings(endpoint, S3Credentials("AKID", "secret"), retry=Retry(attempts=1)), SystemClock())


@pytest.mark.usefixtures("lying")
@pytest.mark.parametrize("name", ["localhost", "s3.localhost", "S3.Localhost", "s3.localhost."])
def test_a_bucket_on_this_machine_is_not_looked_up(name: str) -> None:
    """A signature may go there in the clear, so it goes nowhere else, whatever a resolver says."""
    with scripted_server() as server:
        server.will(answer(b"<ListAllMyBucketsResult/>"))
        with make_client(server.url.replace("127.0.0.1", name)) as client:
            assert client.list_buckets() == ()


@pytest.mark.usefixtures("lying")
@pytest.mark.parametrize("name", ["localhost", "mail.localhost", "Mail.Localhost."])
def test_a_mail_server_on_this_machine_is_not_looked_up(name: str) -> None:
    """Mail and password may go there in the clear."""
    with mailbox() as box:
        Smtp(Server(name, box.port, "none"), "a@b.c", TO).send(NOTICE, time.time())
        assert len(box.mails) == 1


@pytest.mark.usefixtures("lying")
def test_an_origin_on_this_machine_is_not_looked_up() -> None:
    """However it is spelled."""
    with scripted_server() as server:
        server.will(answer({}))
        connection = Connection(Origin.of(server.url.replace("127.0.0.1", "App.Localhost.")))
        assert connection.exchange("GET", "/", headers={}).status == 200
        connection.close()


@pytest.mark.usefixtures("lying")
@pytest.mark.parametrize("host", [METADATA, "cloud.example", "::ffff:169.254.169.254"])
def test_mail_is_never_taken_to_a_metadata_service(host: str) -> None:
    """It is not even connected to."""
    with pytest.raises(SendFailed, match="an address that is never asked") as failed:
        Smtp(Server(host, 80, "none"), "a@b.c", TO).send(NOTICE, time.time())
    assert not failed.value.permanent


@pytest.fixture
def endless() -> Iterator[int]:
    """Yield the port of a mail server whose second reply has no end."""

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            try:
                connection.sendall(b"220 hello\r\n")
                connection.recv(1000)
                while True:
                    connection.sendall((b"250-" + b"x" * 1000 + b"\r\n") * 8)
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join(10)


def test_a_reply_without_an_end_is_cut(endless: int) -> None:
    """64 KB are more than any server says at once."""
    with pytest.raises(SendFailed, match="a reply without an end") as failed:
        Smtp(Server("127.0.0.1", endless, "none", within_s=1.0), "a@b.c", TO).send(NOTICE, time.time())
    assert not failed.value.permanent


def test_nothing_connects_in_another_way() -> None:
    """Only `sockets.dial` opens a connection to a host; libpq, aiohttp (the tail) and the agent are said beside it."""
    ways = ("create_connection", "getaddrinfo", ".connect(", "urlopen", "smtplib.SMTP(", "SMTP_SSL", "ClientSession(")
    home = Path(backout.__file__).parent
    found = {
        str(path.relative_to(home))
        for path in (home / "providers").rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if any(way in line for way in ways) and "sqlite3." not in line
    }
    libpq, websocket = "providers/postgres/server/session.py", "providers/cloudflare/tailing.py"
    agent = "providers/caddy/agent.py"  # runs by itself on another host, and asks its loopback
    assert found - {libpq, websocket, agent} == {"providers/sockets.py"}


# --- addresses that are none ----------------------------------------------------------------------------------------

WORD = "T0PSECRET99"
BAD = [f"https://hooks.example:{WORD}/x", f"https://[{WORD}/x", f"https://[{WORD}]/x", "https://hooks.example:99999/x"]


@pytest.mark.parametrize("url", BAD)
def test_an_address_that_is_a_secret_is_not_quoted(url: str) -> None:
    """Of a channel whose URL cannot be used; not in what caused it either, which -v shows."""
    with pytest.raises(SendFailed, match="its URL is not a URL with a valid host and port") as failed:
        Post(url)
    said = "".join(traceback.format_exception(failed.value))
    assert WORD not in said
    assert "99999" not in said


@pytest.mark.parametrize("url", BAD)
def test_neither_is_the_one_that_is_pinged(url: str) -> None:
    """The dead-man URL."""
    told: list[str] = []
    dead_man = HttpDeadMan(lambda: url, told.append)
    dead_man.ping()
    dead_man.join(5.0)
    assert len(told) == 1
    assert WORD not in told[0]


@pytest.mark.parametrize(
    "endpoint",
    [
        f"https://h:{WORD}",
        "https://h:99999",
        f"https://[{WORD}",
        f"https://user:{WORD}@h",
        f"ftp://{WORD}",
        f"https://h?{WORD}",
        f"https://h#{WORD}",
        WORD,
    ],
)
def test_a_bad_endpoint_of_a_bucket_is_said_and_not_quoted(endpoint: str) -> None:
    """It may stand in the credentials' JSON, where anything can have been pasted."""
    with pytest.raises(UsageError, match="bucket's endpoint") as refused:
        make_client(endpoint)
    assert refused.value.hint == "write https://host[:port], or http on loopback"
    assert WORD not in "".join(traceback.format_exception(refused.value))
