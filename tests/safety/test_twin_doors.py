"""Each port on which a running twin listens takes nobody without its token, key or certificate, and no foreign name."""

from __future__ import annotations

import contextlib
import json
import os
import re
import smtplib
import socket
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from kept import furnish

from backout.twin import lifecycle

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.twin.lifecycle import TwinStatus

PATHS = (
    *("/", "/emails", "/emails/x", "/client/v4/accounts", "/twin/v1/status", "/twin/v1/counts?script=x"),
    # /health of the outbox, /healthz and /status of the store say that somebody is there, and nothing else.
    *("/dir/status", "/dir/assign", "/cluster/status", "/vol/status", "/ui/index.html", "/stats/health"),
    *("/buckets/", "/etc/", "/b/x", "/?list-type=2", "/metrics", "/debug/pprof/"),
)
_LISTENING = "0A"


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwinStatus]:
    folder = tmp_path_factory.mktemp("doors") / "twin"
    status = lifecycle.start_twin(furnish(folder))
    try:
        yield status
    finally:
        lifecycle.stop_twin(folder)


def listening(pids: set[int]) -> dict[int, str]:
    """Return the address of each TCP port on which these processes listen, as the kernel knows them."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(link))  # noqa: PTH115 it is no path
                inodes |= {found[1]} if found else set()
    ports = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            words = line.split()
            if words[3] == _LISTENING and words[9] in inodes:
                address, _, port = words[1].partition(":")
                ports[int(port, 16)] = address
    return ports


def family(pid: int) -> set[int]:
    """Return a process with all that it has started."""
    found = {pid}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
            if parent == pid:
                found |= family(int(path.parent.name))
    return found


def ports_of(twin: TwinStatus) -> dict[int, str]:
    """Return the ports of a twin and of all its children."""
    return listening(set().union(*(family(pid) for pid in (twin.pids or {}).values())))


def said(port: int, request: bytes) -> str:
    """Return what a port says to some bytes, "" when it hangs up or says nothing."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=3.0) as connection:
        connection.sendall(request)
        answer = b""
        connection.settimeout(1.0)
        with contextlib.suppress(OSError):
            while b"\r\n\r\n" not in answer and (piece := connection.recv(65536)):
                answer += piece
        return answer.decode("utf-8", "replace")
    return ""


def http(port: int, method: str, path: str, *headers: str) -> tuple[int, str]:
    """Return status and head of an HTTP answer; 0 where it is none."""
    lines = (f"{method} {path} HTTP/1.1", *headers, "Connection: close", "", "")
    answer = said(port, "\r\n".join(lines).encode())
    found = re.match(r"HTTP/1\.[01] (\d{3})", answer)
    return (int(found[1]), answer) if found else (0, answer)


def test_a_twin_listens_on_loopback_alone(twin: TwinStatus) -> None:
    """All of it, the ports of its children too."""
    ports = ports_of(twin)
    assert len(ports) > 10, "all parts were found"
    assert set(ports.values()) <= {"0100007F", "00000000000000000000000001000000"}


@pytest.mark.long
def test_no_port_answers_who_shows_nothing(twin: TwinStatus) -> None:
    """By any path, under our own name and under a foreign one, without a token."""
    wrong = []
    for port in ports_of(twin):
        for host in (f"127.0.0.1:{port}", f"evil.example:{port}"):
            for path in PATHS:
                status, head = http(port, "GET", path, f"Host: {host}")
                if status and status < 400:
                    wrong.append((port, host, path, head[:200]))
                if not status:
                    break  # it speaks no HTTP to us, whatever the path is
            for method in ("PUT", "POST", "DELETE"):
                status, head = http(port, method, "/x", f"Host: {host}", "Content-Length: 0")
                if status and status < 400:
                    wrong.append((port, host, method, head[:200]))
    assert wrong == []


def test_no_port_lets_the_page_of_another_origin_in(twin: TwinStatus) -> None:
    """A preflight gets no permission; nothing but a liveness check allows every origin to read."""
    wrong = []
    for port in ports_of(twin):
        ask = (f"Host: 127.0.0.1:{port}", "Origin: https://evil.example", "Access-Control-Request-Method: PUT")
        for path in ("/", "/emails", "/b/x", "/client/v4/accounts", "/twin/v1/faults"):
            for method in ("OPTIONS", "GET"):
                status, head = http(port, method, path, *ask)
                head = head.lower() if status < 400 else ""  # a refusal says nothing that a page could use
                if "access-control-allow-origin: *" in head or "access-control-allow-origin: https://evil" in head:
                    wrong.append((port, method, path, head[:300]))
    assert wrong == []


def test_a_token_helps_no_foreign_name_and_no_page(twin: TwinStatus) -> None:
    """A name that leads to this machine (DNS rebinding) and a page's origin are refused with the token, too."""
    token = Path(str(twin.api_token_file)).read_text(encoding="ascii").strip()
    for url, path in ((str(twin.email_api_url), "/emails"), (str(twin.api_base_url), "/client/v4/accounts")):
        port = urllib.parse.urlsplit(url).port or 0
        own, key = f"Host: 127.0.0.1:{port}", f"Authorization: Bearer {token}"
        assert http(port, "GET", path, own, key)[0] == 200
        assert http(port, "GET", path, f"Host: evil.example:{port}", key)[0] in {404, 421}
        assert "access-control-allow-origin" not in http(port, "GET", path, own, key, "Origin: https://evil.example")[1]


def test_grpc_wants_the_certificate(twin: TwinStatus) -> None:
    """HTTP/2 in the clear gets no frame of settings back, which a gRPC server sends first."""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
    assert [port for port in ports_of(twin) if said(port, preface)[3:4] == "\4"] == []


def test_mail_and_the_database_ask_who_it_is(twin: TwinStatus) -> None:
    """SMTP takes no message without the token, nor does reading; Postgres wants its password."""
    host, _, port = str(twin.smtp_address).rpartition(":")
    token = Path(str(twin.api_token_file)).read_text(encoding="ascii").strip()
    with smtplib.SMTP(host, int(port), timeout=PATIENCE_S) as smtp, pytest.raises(smtplib.SMTPException):
        smtp.sendmail("a@example.com", ["b@example.com"], "Subject: x\n\nx")
    with smtplib.SMTP(host, int(port), timeout=PATIENCE_S) as smtp:
        smtp.login("anybody", token)
        smtp.sendmail("a@example.com", ["b@example.com"], "Subject: x\n\nx")
    request = urllib.request.Request(f"{twin.email_api_url}/emails", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert len(json.loads(answer.read())["data"]) == 1
    where = psycopg.conninfo.conninfo_to_dict(str(twin.postgres_dsn))
    for password in ("", "wrong"):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(**{**where, "password": password, "connect_timeout": 5})
