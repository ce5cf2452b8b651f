"""Starts, stops and queries a twin from outside; every function returns the twin's state afterwards."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from backout.decoding import decode_raw
from backout.errors import BackoutError, UsageError
from backout.extras import require
from backout.model.value import Value
from backout.providers.child_environment import make_bare_environment, make_module_command
from backout.twin.home import CLOUDFLARE, Home
from backout.twin.npm import CACHE_VARIABLE

if TYPE_CHECKING:
    from pathlib import Path

    from backout.twin.home import Note, ProcessMark

SCHEMA = "backout.twin/1"
UP_TIMEOUT_S = 60.0
_DOWN_TIMEOUT_S = 20.0
_ASK_TIMEOUT_S = 5.0
_POLL_S = 0.02
_MAX_LOG_BYTES = 5 * 1024 * 1024
_QUOTED_LOG_BYTES = 2000
_LOWEST_PORT, _HIGHEST_PORT = 1, 65535


@dataclass(frozen=True, slots=True)
class TwinStatus:
    """The current state of a twin; while it is down only `running` and what is on disk has a value.

    Args:
        api_base_url: ends in /client/v4.
        ingress_url: where Workers answer, by Host header; of plain hosts, where Caddy does.
        control_url: of the twin's own endpoints, which take the same token.
        workers: the Host header of each live Worker.
        d1_databases: the id of the first D1 database that a Worker is bound to, by Worker.
        postgres_dsn: holds the twin's loopback password.
        sealed: Workers reach the twin's own parts alone; refused are their calls to anything else, `METHOD URL`.
        outbox: the folder of captured email, sent by email_api_url (HTTP) or smtp_address (host:port).
        unknown_routes: `METHOD /path` that the twin had no answer for.
        pids: by name.
        failed: Workers whose live version does not start.
        home: what it stands in for: "cloudflare" or "hosts". The fields below are those of hosts alone.
        releases: the folder of releases.
        access_log: Caddy's.
        ports: the first and the last port of releases.
        env_file: the variables by which a release reaches the services.
    """

    running: bool
    directory: str
    api_base_url: str | None = None
    account_id: str | None = None
    api_token_file: str | None = None
    ingress_url: str | None = None
    workers: dict[str, str] = field(default_factory=dict)
    d1_databases: dict[str, str] = field(default_factory=dict)
    postgres_dsn: str | None = field(default=None, repr=False)
    s3_endpoint: str | None = None
    s3_credentials_file: str | None = None
    buckets: tuple[str, ...] = ()
    outbox: str | None = None
    email_api_url: str | None = None
    smtp_address: str | None = None
    unknown_routes: tuple[str, ...] = ()
    pids: dict[str, int] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    sealed: bool = False
    refused: tuple[str, ...] = ()
    control_url: str | None = None
    home: str = CLOUDFLARE
    releases: str = ""
    access_log: str = ""
    ports: tuple[int, ...] = ()
    env_file: str = ""

    def as_json(self) -> dict[str, object]:
        """Return the object of `backout twin ... --json`, schema included."""
        values = msgspec.to_builtins(self)
        return {"schema": SCHEMA, **values}


def start_twin(
    directory: Path,
    port: int | None = None,
    *,
    sealed: bool = False,
    kind: str | None = None,
    owner: ProcessMark | None = None,
    timeout_s: float = UP_TIMEOUT_S,
) -> TwinStatus:
    """Start the twin of this folder in the background and return when everything answers; a running one is returned.

    Args:
        directory: the twin's state; made when it is missing.
        port: where to listen; None is the port of the last start when it is free, else any.
        sealed: its Workers reach nothing but its own parts, and Hyperdrive caches nothing; a twin stays sealed.
        kind: what it stands in for, see `home.KINDS`; None: what it was before, at first Cloudflare.
        owner: the process with which it stops, however that ends; None: it goes on until it is stopped.

    Raises:
        UsageError: the port is not a port, a part is not installed, or the folder is that of another kind.
        BackoutError: the twin does not come up; the end of its log is quoted.
        Busy: another `up` or `down` is at work on this folder.
    """
    if port is not None and not _LOWEST_PORT <= port <= _HIGHEST_PORT:
        raise UsageError(f"{port} is not a port", where="backout twin up", hint=f"{_LOWEST_PORT} to {_HIGHEST_PORT}")
    require("twin", "the twin")
    home = Home(directory)
    home.create()
    with home.turn(timeout_s):
        if kind is not None:
            home.choose_kind(kind)
        running = read_status(directory)
        if running.running:
            return running
        _end_leftovers(home)
        if sealed:
            home.seal()
        _start(home, port, timeout_s, owner)
        started = read_status(directory)
        if not started.running:
            raise BackoutError("the twin came up but does not answer", where="backout twin up", hint=_see(home))
        return started


def stop_twin(directory: Path) -> TwinStatus:
    """Stop the twin of this folder with every process it started; a stopped one is left as it is."""
    home = Home(directory)
    if not home.directory.is_dir():
        return TwinStatus(running=False, directory=str(home.directory))
    with home.turn(UP_TIMEOUT_S):
        note = home.note()
        if note is not None and note.daemon.is_alive():
            _end_process(note)
            with contextlib.suppress(ChildProcessError):  # started by this very process: collect it
                os.waitpid(note.daemon.pid, os.WNOHANG)
        _end_leftovers(home)
        return read_status(directory)


def read_status(directory: Path) -> TwinStatus:
    """Return the state of the twin of this folder."""
    home = Home(directory)
    note = home.note()
    if note is not None and note.ready and note.daemon.is_alive():
        with contextlib.suppress(OSError, http.client.HTTPException, msgspec.MsgspecError):
            return _ask(home, note)
    return TwinStatus(running=False, directory=str(home.directory), home=home.read_kind())


def _end_leftovers(home: Home) -> None:
    """End what a killed daemon left behind."""
    home.sweep()
    if home.releases.is_dir():
        from backout.twin.hosts.leftovers import end_releases

        end_releases(home.releases)


def _ask(home: Home, note: Note) -> TwinStatus:
    connection = http.client.HTTPConnection("127.0.0.1", note.port, timeout=_ASK_TIMEOUT_S)
    try:
        connection.request("GET", "/twin/v1/status", headers={"Authorization": f"Bearer {home.token()}"})
        body = connection.getresponse().read()
    finally:
        connection.close()
    return decode_raw(body, _StatusAnswer).result


class _StatusAnswer(Value, frozen=True):
    result: TwinStatus


def _start(home: Home, port: int | None, timeout_s: float, owner: ProcessMark | None) -> None:
    if home.log_file.exists() and home.log_file.stat().st_size > _MAX_LOG_BYTES:
        home.log_file.replace(home.log_file.with_suffix(".log.1"))
    begins_at = home.log_file.stat().st_size if home.log_file.exists() else 0
    words = [str(home.directory), str(port or 0)]
    if owner is not None:
        words += [str(owner.pid), str(owner.started)]
    argv = make_module_command("backout.twin.process", *words)
    with home.log_file.open("ab") as log:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=home.directory.root,
            env=make_bare_environment(passed=(CACHE_VARIABLE,)),
            start_new_session=True,
        )
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        note = home.note()
        if note is not None and note.ready and note.daemon.pid == process.pid:
            process.returncode = 0  # it lives on without us: no warning about a child that was not waited for
            return
        if process.poll() is not None:
            raise BackoutError(_read_last_words(home, begins_at), where="backout twin up", hint=_see(home))
        time.sleep(_POLL_S)
    process.kill()
    process.wait()
    home.sweep()
    raise BackoutError(f"the twin did not come up within {timeout_s:g} s", where="backout twin up", hint=_see(home))


def _see(home: Home) -> str:
    return f"see {home.log_file}"


def _read_last_words(home: Home, begins_at: int) -> str:
    """Return the last words of a daemon that ended; its log holds no secrets."""
    with home.log_file.open("rb") as log:
        log.seek(begins_at)
        text = log.read()[-_QUOTED_LOG_BYTES:].decode(errors="replace").strip()
    return f"the twin did not come up: {text.splitlines()[-1] if text else 'it said nothing'}"


def _end_process(note: Note) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(note.daemon.pid, signal.SIGTERM)
    deadline = time.monotonic() + _DOWN_TIMEOUT_S
    while note.daemon.is_alive() and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    if note.daemon.is_alive():
        with contextlib.suppress(ProcessLookupError):
            os.kill(note.daemon.pid, signal.SIGKILL)
