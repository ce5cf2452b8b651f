"""Lines that applications and visitors write: none of them ends a source, a diagnosis or a replay; the others count."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from cli_shell import backout
from nastiness import BYTES, JSON, LINES, Nasty, filled
from tail_server import event, tail_server

from backout.analysis.diagnosis.templates import Templates
from backout.errors import ProviderUnavailable
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.tail import TailTraffic
from backout.providers.cloudflare.tailing import Opened, Tailing
from backout.providers.events.reader import EventReader
from backout.providers.events.tally import EventTally
from backout.providers.logs.traffic import LogTraffic
from backout.providers.memory import WorldClock
from backout.providers.retry import Retry
from backout.runbook.hindsight.replay import replay

from polling import until
from scripted_server import hang, scripted_server

if TYPE_CHECKING:
    from pathlib import Path

    from backout.model.guard.signals import Counts

NOW = 1_800_000_010.0
GOOD = b'{"ts": 1800000000, "version": "v", "status": 200, "outcome": "ok"}'
EVENT = {
    "outcome": "exception", "scriptVersion": {"id": "v"}, "eventTimestamp": NOW * 1000, "wallTime": 5,
    "exceptions": [{"name": "E", "message": "m", "stack": "s"}],
    "logs": [{"level": "error", "message": ["m", {"a": 1}]}],
    "event": {"request": {"url": "https://a/b", "method": "GET", "headers": {}}, "response": {"status": 500}},
    "scriptName": "s", "truncated": False,
}  # fmt: skip
NASTY = [each for each in (*LINES, *JSON, *BYTES) if b"\n" not in each.content]


@pytest.mark.parametrize("nasty", NASTY, ids=str)
def test_a_line_of_a_log_of_requests(tmp_path: Path, nasty: Nasty) -> None:
    """Before it and behind it a request is counted, and it is named when it cannot be."""
    log = tmp_path / "requests.log"
    log.write_bytes(b"\n".join((GOOD, nasty.content, GOOD, b"")))
    page = LogTraffic(log, clock=WorldClock(NOW)).read(1_799_999_000, 1_800_000_005)
    rows = [row for row in page.counts if row.version == "v"]
    assert sum(row.requests for row in rows) >= 2
    assert all(0 <= row.second < 2**40 for row in rows)
    assert page.unreadable or sum(row.requests + row.canceled for row in page.counts) == 3 or not nasty.content


@pytest.mark.parametrize("nasty", [*NASTY, *filled(EVENT)], ids=str)
def test_a_line_of_events(nasty: Nasty) -> None:
    """The ordinary events around it are counted, by version."""
    good = json.dumps(EVENT).encode()
    for stream in (b"\n".join((good, nasty.content, good, b"")), nasty.content):
        tally = EventTally(Templates())
        EventReader(tally, "a file").read(io.BytesIO(stream))
        found = tally.result()
        if good in stream:
            assert found.by_version["v"].invocations >= 2


def test_events_of_a_tail() -> None:
    """All of it through a websocket, between ordinary events: these are counted, the rest is named."""
    good = event("v", NOW - 5)
    odd = [*NASTY, *filled({**good, "exceptions": EVENT["exceptions"], "logs": EVENT["logs"]})]
    texts = [each.content.decode("utf-8", "replace") for each in odd]
    texts.append(json.dumps({**good, "eventTimestamp": 1.7e308, "wallTime": 1.7e308}))
    with tail_server() as server:
        client = ApiClient(server.url, lambda: "token", retry=Retry(attempts=1))
        source = TailTraffic(client, "a", "s", clock=WorldClock(NOW - 60), most=10_000)
        try:
            source.read(int(NOW) - 60, int(NOW))
            until(lambda: server.sockets, 10, "the tail")
            server.send(good, *texts, good)
            rows = until(lambda: _counted(source, 2), 20, "the events around it")
            assert all(abs(row.second - NOW) < 90_000 for row in rows)
            assert source.read(int(NOW) - 60, int(NOW) + 60).unreadable
        finally:
            source.close()


def test_a_tail_whose_handshake_never_ends() -> None:
    """A server that takes the connection and says nothing is given up, and asked again."""
    with scripted_server() as server:
        server.will(hang())
        tailing = Tailing(lambda: Opened(server.url.replace("http", "ws"), lambda: None), open_s=0.2)
        try:
            with pytest.raises(ProviderUnavailable, match="the tail broke off"):
                tailing.ensure(20)
        finally:
            tailing.close()


def _counted(source: TailTraffic, least: int) -> tuple[Counts, ...]:
    rows = tuple(row for row in source.read(int(NOW) - 60, int(NOW) + 60).counts if row.version == "v")
    return rows if sum(row.requests for row in rows) >= least else ()


def test_lines_of_a_replay() -> None:
    """All of them in one replay, between requests: the tick is answered, and what is wrong is said."""
    start = b'{"type": "start", "deploy_ts": 1799999999, "old": "w", "new": "v"}'
    lines = [start, GOOD, *(each.content for each in NASTY), GOOD, b'{"type": "tick", "ts": 1800000001}', b""]
    written: list[str] = []
    warned: list[str] = []
    assert replay([b"\n".join(lines)], written.append, warn=warned.append) == 0
    assert [json.loads(line)["verdict"] for line in written] == ["continue"]
    assert "nested too deeply" in warned[0]


def test_lines_of_a_classification(tmp_path: Path) -> None:
    """One answer a line, in order; what cannot be read is unknown."""
    lines = [
        b'{"id": 1, "text": "x"}',
        *(each.content for each in NASTY if each.content.strip()),
        b'{"id": 2, "text": "x"}',
    ]
    lines.append(b'{"id": ' + b"[" * 900 + b"]" * 900 + b', "text": "x"}')
    lines.append(b'{"id": ' + b"9" * 30 + b', "text": "x"}')
    (tmp_path / "lines.jsonl").write_bytes(b"\n".join(lines))
    answer = backout(tmp_path, "diagnose", "classify", "lines.jsonl")
    assert answer.code == 0, answer.err
    found = [json.loads(line) for line in answer.out.splitlines()]
    assert len(found) == len(lines)
    assert (found[0]["id"], found[-3]["id"], found[-1]["id"]) == (1, 2, None)
    assert all(each["label"] == "unknown" and each["error"] for each in found[1:-3])


def test_events_on_the_command_line(tmp_path: Path) -> None:
    """All of it in one file: counted and named, one line of JSON."""
    good = json.dumps(EVENT).encode()
    (tmp_path / "events.jsonl").write_bytes(b"\n".join((good, *(each.content for each in NASTY), good, b"")))
    answer = backout(tmp_path, "diagnose", "events", "events.jsonl", "--json")
    assert answer.code in (0, 1), answer.err
    counts = answer.json["counts"]
    assert isinstance(counts, dict)
    assert counts["v"]["invocations"] >= 2
    assert answer.json["unreadable"]
