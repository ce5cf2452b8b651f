"""Secrets of whoever starts the server: none is in its process, none in what it answers, writes or records.

What it was started with, what the configuration names, and what people log in with is looked for in every spelling.
"""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from canaries import spellings
from journal import toy
from starlette.routing import Route
from web_lab import JOURNAL_URL, PRODUCTION, Lab, Permission, make_lab, open_lab

from backout.config.secret_names import list_secret_variables
from backout.runbook.serve.logins import hash_secret
from backout.web.app import make_app
from backout.web.security import Guarded

from private import write_private

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MORE: Final = """
[notify.webhook]
url_env = "LAB_HOOK_URL"
secret_env = "LAB_HOOK_SECRET"
[notify.smtp]
host = "mail.example.com"
from = "a@example.com"
to = ["b@example.com"]
user = "shop"
password_file = "planted/mail"
[marks]
key_env = "LAB_MARKS_KEY"
[environments.guarded]
protected = false
platform = { provider = "cloudflare", script = "guarded", token_env = "LAB_TOKEN", read_token_file = "planted/read" }
[environments.guarded.database]
provider = "postgres"
url_env = "LAB_DATABASE"
admin_url_file = "planted/admin"
[environments.guarded.database.backup]
key_env = "LAB_BACKUP_KEY"
store = { bucket = "backups", credentials_env = "LAB_S3_KEYS" }
[environments.guarded.storage]
provider = "s3"
bucket = "uploads"
credentials_file = "planted/uploads"
[environments.guarded.health]
url = "https://shop.example.com/health"
headers_env = { Authorization = "LAB_HEADER" }
"""
FILES: Final = ("mail", "read", "admin", "uploads", "token-in-a-file")
KNOWN: Final = (
    "CLOUDFLARE_API_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PGPASSWORD", "DATABASE_URL", "GITHUB_TOKEN",
    "NEON_API_KEY", "BACKOUT_SECRET", "PYTHONPATH_SECRET", "LD_PRELOAD_SECRET",
)  # fmt: skip
"""Variables that no key names."""
IN_OPEN: Final = 0x20


@dataclass
class Planted:
    """What nobody may find: values by what they are, and the files that nobody may open."""

    lab: Lab
    values: dict[str, str]
    watch: int
    opened: list[str] = field(default_factory=list)

    def read_opened(self) -> list[str]:
        """Return the files below `planted` that any process has opened until now."""
        try:
            told = os.read(self.watch, 1 << 16)
        except BlockingIOError:
            told = b""
        at = 0
        while at < len(told):
            _watch, _mask, _cookie, length = struct.unpack_from("iIII", told, at)
            self.opened.append(told[at + 16 : at + 16 + length].rstrip(b"\0").decode())
            at += 16 + length
        return self.opened

    def find_in(self, data: bytes) -> list[str]:
        """Return what stands in a text, in whichever spelling."""
        return [name for name, value in self.values.items() if any(each in data for each in spellings(value))]


def start_watch(folder: Path) -> int:
    """Return a descriptor that tells which files of a folder are opened, by whichever process; see inotify(7)."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert descriptor >= 0, os.strerror(ctypes.get_errno())
    assert libc.inotify_add_watch(descriptor, bytes(folder), IN_OPEN) >= 0, os.strerror(ctypes.get_errno())
    return descriptor


def make_values(lab: Lab, folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return (variables of whoever starts the server, values that nobody may find)."""
    named = {name for name in list_secret_variables(lab.site.config.settings) if not name.endswith("_FILE")}
    variables = {
        name: f"canary-{number}-{os.urandom(9).hex()}"
        for number, name in enumerate(sorted({*named, *KNOWN} - {JOURNAL_URL}))
    }
    values = dict(variables)
    for name in FILES:
        values[name] = f"canary-in-{name}-{os.urandom(9).hex()}"
        write_private(folder / name, values[name] + "\n")
    variables |= {"LAB_DATABASE": f"postgresql://shop:{variables['LAB_DATABASE']}@db.example.com/shop"}
    variables |= {"LAB_TOKEN_FILE": str(folder / "token-in-a-file"), "CREDENTIALS_DIRECTORY": str(folder)}
    assert {"LAB_HOOK_URL", "LAB_HOOK_SECRET", "LAB_MARKS_KEY", "LAB_TOKEN", "LAB_S3_KEYS", "LAB_HEADER"} <= named
    return variables, values


@pytest.fixture
def planted(engine: str, tmp_path: Path) -> Iterator[Planted]:
    """Lend a server that was started by somebody who has every secret there is."""
    folder = tmp_path / "planted"
    folder.mkdir(mode=0o700)
    url = toy.url_of(tmp_path) if engine == "postgres" else ""
    begun = make_lab(tmp_path, journal_url=url, more=MORE, told=(PRODUCTION,))  # who begins a journal looks where it is
    variables, values = make_values(begun, folder)
    begun.site.close()
    if url:
        values["the journal's password"] = toy.PASSWORD
    watch = start_watch(folder)
    try:
        with open_lab(tmp_path, journal_url=url, more=MORE, variables=variables) as lab:
            yield Planted(lab, values, watch)
            assert "Traceback" not in lab.said
    finally:
        os.close(watch)


def read_environment(pid: int) -> dict[str, str]:
    """Return the variables that a process was started with, as anybody of its user can read them."""
    told = Path("/proc", str(pid), "environ").read_bytes().split(b"\0")
    return {name.decode(): value.decode() for name, _, value in (each.partition(b"=") for each in told if each)}


def find_server(lab: Lab) -> int:
    """Return the process that answers: the one that was started, or what it became."""
    assert lab.process is not None
    return lab.process.pid


def test_the_process_holds_no_variable_that_it_does_not_need(planted: Planted) -> None:
    """Of all that it was started with: the journal's URL, and where programs and languages are."""
    found = read_environment(find_server(planted.lab))
    held = planted.find_in(repr(found).encode())
    assert held in ([], ["the journal's password"])
    assert (JOURNAL_URL in found) == ("the journal's password" in held)
    assert set(found) <= {"PATH", "HOME", "LANG", "TMPDIR", JOURNAL_URL}
    for child in Path(f"/proc/{find_server(planted.lab)}/task").glob("*/children"):
        assert child.read_text() == ""


def list_gets(lab: Lab) -> Iterator[str]:
    """Yield the address of everything that can be read."""
    guarded = make_app(lab.site, {"127.0.0.1"})
    assert isinstance(guarded, Guarded)
    night = lab.night
    for each in guarded._app.routes:  # type: ignore[attr-defined]
        if isinstance(each, Route) and "GET" in (each.methods or ()):
            for place in ("environments", f"environment/{PRODUCTION}", f"run/{PRODUCTION}/{night.runs[PRODUCTION]}"):
                yield each.path.replace("{place:path}", place).format(
                    environment=PRODUCTION, run=night.runs[PRODUCTION], incident=night.incidents[PRODUCTION],
                    number=night.requests[PRODUCTION],
                )  # fmt: skip
    yield from ("/env/guarded", "/env/guarded/hold", "/api/v1/environments/guarded", "/none", "/api/v1/none")


def read_all(lab: Lab, path: str, headers: Mapping[str, str]) -> bytes:
    """Return an answer, head and all; of a stream its first message."""
    answer = lab.ask("GET", path, headers=headers)
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        sent = {"Last-Event-ID": "0"} if "/events" in path else {}
        with lab.listen(path, token=token, headers=sent) as stream:
            return repr([stream.read() for _ in range(5 if sent else 1)]).encode()
    return repr(answer).encode()


def list_journal(lab: Lab) -> bytes:
    """Return all that the journal has."""
    return repr(list(lab.journal.events())).encode()


def test_nothing_that_leaves_the_server_has_a_secret(planted: Planted) -> None:
    """Every page, answer and stream, its log and the journal: of its starter, and of those who log in."""
    lab = planted.lab
    offer = lab.login_url.partition("offer=")[2]
    begun = lab.ask("POST", "/login", form={"offer": offer, "next": "/"})
    assert begun.status == 303
    session = begun.cookies[0].partition(";")[0].partition("=")[2]
    token, spare = lab.issue(Permission.APPROVER), lab.logins.offer("eve", Permission.VIEWER)
    planted.values |= {
        "an address that was used": offer,
        "one that was not": spare,
        "a session": session,
        "a token": token,
    }
    wrong, read = [], 0
    for path in dict.fromkeys(list_gets(lab)):
        for headers in ({"Authorization": f"Bearer {token}"}, {"Cookie": f"backout={session}"}, {}):
            if "stream" in path or path.endswith("/events"):
                headers = {"Authorization": f"Bearer {token}"}  # noqa: PLW2901 - a stream is read to its first message
            read += 1
            wrong += [f"{name} in {path}" for name in planted.find_in(read_all(lab, path, headers))]
    assert read > 60
    for form in ({"offer": session}, {"offer": token}, {"offer": offer}):
        answer = lab.ask("POST", "/login", form=form)
        assert answer.status == 403
        wrong += [f"{name} in a refused login" for name in planted.find_in(repr(answer).encode())]
    wrong += [f"{name} in the log" for name in planted.find_in(lab.said.encode())]
    events = list_journal(lab)
    wrong += [f"{name} in the journal" for name in planted.find_in(events)]
    assert wrong == []
    for secret in (offer, spare, session, token):
        assert hash_secret(secret).encode() in events
    if not lab.variables:
        kept = b"".join(each.read_bytes() for each in (lab.folder / "journal").iterdir() if each.is_file())
        assert planted.find_in(kept) == []
        assert hash_secret(token).encode() in kept


def test_the_server_opens_no_file_with_a_secret(planted: Planted) -> None:
    """Neither when it starts nor when it answers; the same look sees that the test opens one."""
    lab, token = planted.lab, planted.lab.issue(Permission.APPROVER)
    for path in dict.fromkeys(list_gets(lab)):
        read_all(lab, path, {"Authorization": f"Bearer {token}"})
    made = lab.ask("POST", "/api/v1/environments/guarded/requests", token=token, body={"act": "plan"})
    assert made.status == 202
    assert planted.read_opened() == []
    assert (lab.folder / "planted" / "read").read_text().startswith("canary")
    assert planted.read_opened() == ["read"]


def test_what_people_type_is_recorded_without_secrets(planted: Planted) -> None:
    """A reason or a note with a password, a token or the address that logs somebody in, from each form there is."""
    lab = planted.lab
    token, offer = lab.issue(Permission.APPROVER), lab.logins.offer("eve", Permission.VIEWER)
    planted.values = {"a password": "s3cr3t-of-a-person", "a token": token, "an address": offer}
    typed = (
        f"see postgresql://ada:s3cr3t-of-a-person@db.example.com/shop, {token} and {lab.url}/login?offer={offer} now"
    )
    one, night = f"/api/v1/environments/{PRODUCTION}", lab.night
    before = lab.journal.find_newest()
    sent: tuple[tuple[str, dict[str, str], int], ...] = (
        (f"{one}/requests", {"act": "plan", "why": typed}, 202),
        (f"{one}/requests", {"act": "hold", "why": typed, "confirm": PRODUCTION}, 202),
        (f"{one}/runs/{lab.start_run(PRODUCTION)}/ask", {"what": "abort", "why": typed}, 200),
        (f"{one}/incidents/{night.incidents[PRODUCTION]}/remarks", {"kind": "note", "text": typed}, 201),
    )
    for path, body, status in sent:
        answer = lab.ask("POST", path, token=token, body=body)
        assert (answer.status, planted.find_in(answer.body)) == (status, []), answer.text
    told = repr(list(lab.journal.events(after=before))).encode()
    assert planted.find_in(told) == []
    assert told.count(b"@db.example.com/shop") >= len(sent), "the rest of what was typed is kept"
