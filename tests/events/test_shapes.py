"""Every kind of source is told by its look, and counts by the same rules."""

# ruff: noqa: E501, S311 - log lines read best whole, and what is drawn is no secret

from __future__ import annotations

import gzip
import io
import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from backout.analysis.diagnosis.templates import Templates
from backout.errors import UsageError
from backout.model.incident.events import InvocationCounts, Origin
from backout.providers.events.reader import EventReader
from backout.providers.events.tally import EventTally
from backout.providers.events.work import divide_files
from backout.wiring.diagnosis import count_events

from event_lab import BEGIN_MS, VERSIONS, compact, event, logged, mixed, pretty, read, thrown

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW = VERSIONS
RESET = "Durable Object reset because its code was updated."
"""What a healthy deployment makes an object's requests throw."""


def counts(data: bytes) -> tuple[int, int, int]:
    found = read(data)
    rows = found.by_version.values()
    return found.invocations, found.errors, sum(row.canceled for row in rows)


@pytest.mark.parametrize(
    ("changed", "is_error"),
    [
        pytest.param({}, False, id="ok"),
        pytest.param({"outcome": "canceled"}, False, id="canceled"),
        pytest.param({"outcome": "canceled", "exceptions": [thrown("gone")]}, False, id="canceled_while_it_threw"),
        pytest.param({"outcome": "exceededCpu"}, True, id="another_outcome"),
        pytest.param({"exceptions": [thrown("no")]}, True, id="an_exception"),
        pytest.param({"outcome": "exception", "exceptions": [thrown(RESET)]}, False, id="an_object_reset"),
        pytest.param({"outcome": "exception", "exceptions": [thrown(RESET), thrown("no")]}, True, id="and_more"),
        pytest.param({"outcome": "exception", "exceptions": [thrown(f"no {RESET}")]}, True, id="only_quoted"),
        pytest.param({"outcome": "responseStreamDisconnected"}, False, id="a_stream_that_ended_early"),
        pytest.param({"event": {"response": {"status": 503}}}, True, id="a_caught_error"),
        pytest.param({"event": {"response": {"status": 404}}}, False, id="the_clients_mistake"),
        pytest.param({"logs": [logged("error", "careful")]}, False, id="an_error_logged_by_an_ok_invocation"),
        pytest.param({"event": None, "outcome": "ok"}, False, id="no_request"),
        pytest.param({"event": {"response": {"status": "503"}}}, False, id="a_status_that_is_none"),
    ],
)
@pytest.mark.parametrize("spell", [pytest.param(compact, id="compact"), pytest.param(pretty, id="pretty")])
def test_what_is_an_error(changed: dict[str, Any], is_error: bool, spell: Any) -> None:
    found = read(spell([{**event(), **changed}]))
    assert (found.invocations, found.errors) == (1, int(is_error))


def test_templates_are_counted_per_version_and_minute() -> None:
    bad = {"outcome": "exception", "exceptions": [thrown("no user 7")]}
    found = read(
        compact(
            [
                event(OLD),
                event(NEW, BEGIN_MS + 60_000, **bad),
                event(NEW, BEGIN_MS + 61_000, **{**bad, "exceptions": [thrown("no user 8")]}),
                event(
                    OLD, BEGIN_MS + 125_000, logs=[logged("error", "TypeError: no user 9\n    at save (other.js:9:9)")]
                ),
            ]
        )
    )
    [template] = found.templates
    minute = BEGIN_MS // 60_000
    assert str(template.key) == "TypeError: no user <n> (in save)"
    assert {version: (seen.invocations, seen.errors) for version, seen in template.by_version.items()} == {
        NEW: (2, 2),
        OLD: (1, 0),
    }
    assert template.by_minute == {(NEW, minute + 1): 2, (OLD, minute + 2): 1}
    assert (template.first_seen, template.last_seen) == (BEGIN_MS / 1000 + 60, BEGIN_MS / 1000 + 125)
    assert (template.origin, template.outcome, template.source) == (Origin.EXCEPTION, "exception", "shop")
    assert found.by_version == {OLD: InvocationCounts(2, 0), NEW: InvocationCounts(2, 2)}
    assert (found.first_at, found.last_at) == (BEGIN_MS / 1000, BEGIN_MS / 1000 + 125)


def test_an_error_that_says_nothing_is_named_by_its_status_or_outcome() -> None:
    found = read(compact([event(event={"response": {"status": 500}}), event(outcome="exceededMemory")]))
    assert sorted(str(one.key) for one in found.templates) == [
        "HTTP 500 without a logged error",
        "The invocation ended with outcome exceededMemory and logged no error",
    ]


def test_a_failed_batch_of_calls_is_evidence_though_its_status_is_207() -> None:
    request = {"url": "https://shop.example.com/api/trpc/orders.create,orders.list?batch=1", "method": "POST"}
    found = read(compact([event(event={"request": request, "response": {"status": 207}})]))
    assert found.errors == 0
    assert [one.key.procedure for one in found.templates] == ["orders.create"]


def test_a_tail_that_leaves_out_events_is_a_sample() -> None:
    notice = {**event(), "event": {"type": "overload", "message": "Tail is currently in sampling mode"}}
    for data in (compact([event(), notice]), pretty([event(), notice]), b"Tail is currently in sampling mode\n"):
        assert read(data).sampled
    assert read(compact([event(), notice])).invocations == 1
    assert not read(compact([event()])).sampled


def test_truncated_events_are_counted() -> None:
    assert read(compact([event(truncated=True), event()])).truncated == 1


def test_logpush() -> None:
    stored = {
        "CPUTimeMs": 1, "Event": {"Request": {"URL": "/a", "Method": "GET"}, "Response": {"Status": 500}},
        "EventTimestampMs": BEGIN_MS, "EventType": "fetch", "Exceptions": [{"Name": "Error", "Message": "no", "TimestampMs": BEGIN_MS}],
        "Logs": [{"Level": "error", "Message": ["bad", 1], "TimestampMs": BEGIN_MS}], "Outcome": "exception",
        "ScriptName": "shop", "ScriptVersion": {"ID": NEW, "Tag": ""}, "WallTimeMs": 3,
    }  # fmt: skip
    fine = {**stored, "Outcome": "ok", "Exceptions": [], "Logs": [], "Event": {"Response": {"Status": 200}}}
    found = read(gzip.compress(compact([stored, fine])))
    assert found.by_version == {NEW: InvocationCounts(2, 1)}
    assert found.shapes == {"logpush": 2}
    assert sorted(str(one.key) for one in found.templates) == ["Error: no", "bad <n>"]


def test_an_answer_of_a_telemetry_query_counts_requests_not_lines() -> None:
    workers = {"scriptName": "shop", "scriptVersion": {"id": NEW}, "requestId": "r1"}
    line = {
        "timestamp": BEGIN_MS,
        "$workers": workers,
        "$metadata": {"level": "error", "type": "cf-worker"},
        "source": "boom",
    }
    summary = {
        "timestamp": BEGIN_MS + 5,
        "$workers": {**workers, "outcome": "ok", "event": {"response": {"status": 500}}},
        "$metadata": {"type": "cf-worker-event"},
    }
    other = {**summary, "$workers": {**workers, "requestId": "r2", "outcome": "ok"}}
    for data in (
        json.dumps({"success": True, "result": {"events": {"events": [line, summary, other]}}}).encode(),
        json.dumps({"result": {"invocations": {"r1": [line, summary], "r2": [other]}}}, indent=2).encode(),
        compact([line, summary, other]),
    ):
        found = read(data)
        assert found.by_version == {NEW: InvocationCounts(2, 1)}
        assert [str(one.key) for one in found.templates] == ["boom"]
        assert found.shapes == {"telemetry": 2}


@pytest.mark.parametrize(
    ("line", "key", "at"),
    [
        pytest.param(
            {"level": 50, "time": BEGIN_MS, "msg": "x", "err": {"type": "TypeError", "message": "no", "stack": "TypeError: no\n    at fetchIt (a.js:1:2)"}},
            "TypeError: no (in fetchIt)", BEGIN_MS / 1000, id="pino",
        ),
        pytest.param({"level": "error", "message": "no 7", "timestamp": "2025-11-24T16:00:00.000Z"}, "no <n>", BEGIN_MS / 1000, id="winston"),
        pytest.param(
            {"event": "failed", "level": "error", "timestamp": "2025-11-24T16:00:00Z", "exception": 'Traceback (most recent call last):\n  File "/app/a.py", line 1, in save\nKeyError: \'KEY\''},
            "KeyError: 'KEY' (in save)", BEGIN_MS / 1000, id="structlog",
        ),
        pytest.param(
            {"levelname": "ERROR", "asctime": "2025-11-24 16:00:00,000", "message": "x", "exc_info": "Traceback (most recent call last):\nValueError: bad"},
            "ValueError: bad", BEGIN_MS / 1000, id="python_json_logger",
        ),
        pytest.param({"ts": BEGIN_MS / 1000, "version": NEW, "status": 503}, "HTTP 503 without a logged error", BEGIN_MS / 1000, id="requests"),
    ],
)  # fmt: skip
def test_structured_logs(line: dict[str, Any], key: str, at: float) -> None:
    found = read(compact([line]))
    assert (found.errors, [str(one.key) for one in found.templates], found.first_at) == (1, [key], at)


TAIL_IN_WORDS = """\x1b[33m ⛅️ wrangler 4.164.0\x1b[0m
Successfully created tail, expires at 2025-11-25T21:46:42Z
Connected to shop, waiting for logs...
GET https://shop.example.com/api?x=1 - Ok @ 11/24/2025, 4:00:00 PM
  (log) hello
GET https://shop.example.com/b - Exception Thrown @ 11/24/2025, 4:01:00 PM
  (warn) careful
\x1b[31m✘ \x1b[41;31m[\x1b[41;97mERROR\x1b[41;31m]\x1b[0m \x1b[1m  TypeError: x is undefined\x1b[0m

      at save (worker.js:1:2)

"*/5 * * * *" @ 11/24/2025, 4:02:00 PM - Exceeded CPU Limit
POST https://shop.example.com/c - Canceled @ 24.11.2025, 16:03:00
"""


def test_a_tail_in_words() -> None:
    found = read(TAIL_IN_WORDS.encode())
    assert found.by_version == {"": InvocationCounts(4, 2, 1)}
    assert {str(one.key): one.origin for one in found.templates} == {
        "careful": Origin.WARNING,
        "TypeError: x is undefined (in save)": Origin.EXCEPTION,
        "The invocation ended with outcome exceededCpu and logged no error": Origin.OUTCOME,
    }
    assert sorted(found.by_minute) == [BEGIN_MS // 60_000 + minute for minute in range(4)]


PLAIN = """2026-11-24 10:00:00,123 ERROR app: failed for 17
Traceback (most recent call last):
  File "/app/a.py", line 3, in save
    x()
psycopg.errors.UndefinedColumn: column "a" does not exist
LINE 1: select a

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/app/a.py", line 9, in view
    y
RuntimeError: wrapped
2026-11-24 10:00:01,123 INFO app: fine
INFO:     127.0.0.1:58446 - "GET /env HTTP/1.1" 500 Internal Server Error
2026-11-24 10:00:02.150 UTC [7127] ERROR:  duplicate key value violates unique constraint "users_email_key"
2026-11-24 10:00:02.150 UTC [7127] DETAIL:  Key (email)=(a@example.com) already exists.
\x1b[31mError: no connection\x1b[0m
    at connect (src/db.ts:1:2) {
  code: 'ECONNREFUSED'
}
127.0.0.1 - - [24/Nov/2026:10:00:03 +0000] "GET / HTTP/1.1" 200 612
"""


def test_plain_text_is_grouped_to_entries() -> None:
    found = read(PLAIN.encode())
    assert (found.invocations, found.errors) == (6, 4)
    assert sorted(str(one.key) for one in found.templates) == [
        "Error: no connection [ECONNREFUSED] (in connect)",
        'INFO: <ip>:<n> - "<value>" 500 Internal Server Error'.replace("INFO: ", "INFO:     "),
        'UndefinedColumn: column "a" does not exist (in save)',
        'duplicate key value violates unique constraint "users_email_key"',
    ]
    assert not found.unreadable


def test_github_actions() -> None:
    found = read(
        b"2026-11-25T21:46:42.1234567Z ##[group]Run npm ci\n2026-11-25T21:46:43.1234567Z npm error code EUSAGE\n"
        b"2026-11-25T21:46:43.1234567Z npm error `npm ci` can only install\n"
        b"build\tRun tsc\t2026-11-25T21:46:44.1234567Z src/a.ts(3,1): error TS2345: Argument\n"
        b"2026-11-25T21:46:44.1234567Z ##[error]Process completed with exit code 1.\n"
    )
    assert found.shapes == {"actions": 4}
    assert sorted(str(one.key) for one in found.templates) == [
        "Process completed with exit code 1.",
        "npm error code EUSAGE",
        "src/a.ts(<n>): error TS2345: Argument",
    ]


@pytest.mark.parametrize(
    ("data", "unreadable", "oddities", "invocations"),
    [
        pytest.param(compact([event()])[:-30], {"JSON that is cut off": 1}, {}, 0, id="cut_off"),
        pytest.param(pretty([event()])[:-30] + b"\n" + pretty([event()]), {"JSON that is cut off": 1}, {}, 1, id="cut_off_in_lines"),
        pytest.param(b'{"a":nope}\n', {"broken JSON": 1}, {}, 0, id="broken"),
        pytest.param(b'{"a":' + b"[" * 5000 + b"\n", {"JSON that is nested too deeply": 1}, {}, 0, id="deep"),
        pytest.param(b"\x00\x01\x02binary\n", {"binary data": 1}, {}, 0, id="binary"),
        pytest.param(gzip.compress(compact([event()] * 9))[:-20], {"broken gzip data": 1, "JSON that is cut off": 1}, {}, None, id="broken_gzip"),
        pytest.param("caf\xe9\n".encode("latin-1"), {}, {"text that is not UTF-8 (read as Latin-1)": 1}, 1, id="latin_1"),
        pytest.param(compact([event(logs=[logged("error", "caf\xe9")])]).decode().encode("latin-1"), {}, {"text that is not UTF-8 (read as Latin-1)": 1}, 1, id="latin_1_json"),
        pytest.param("2026-11-24 10:00:00 ERROR x\r\n".encode("utf-16"), {}, {"text in UTF-16-LE": 1}, 1, id="utf_16"),
        pytest.param(b"\xef\xbb\xbf" + compact([event()]), {}, {}, 1, id="byte_order_mark"),
        pytest.param(compact([event()]).replace(b"\n", b"\r\n"), {}, {}, 1, id="windows_lines"),
        pytest.param(compact([event(outcome="x"), event(at_ms=BEGIN_MS - 4_000_000, outcome="x")]), {}, {"the time goes back by more than five minutes": 1}, 2, id="clock_back"),
        pytest.param(compact([event(outcome="x"), event(at_ms=BEGIN_MS * 2, outcome="x")]), {}, {"the time jumps ahead by more than a day": 1}, 2, id="clock_ahead"),
        pytest.param(compact([event(at_ms=5, outcome="x")]), {}, {"a time before 2000 or after 2100 (not used)": 1}, 1, id="clock_wrong"),
        pytest.param(b"", {}, {}, 0, id="empty"),
    ],
)  # fmt: skip
def test_bad_input_is_counted_and_named(
    data: bytes, unreadable: dict[str, int], oddities: dict[str, int], invocations: int | None
) -> None:
    found = read(data)
    assert {why: noted.count for why, noted in found.unreadable.items()} == unreadable
    assert {what: noted.count for what, noted in found.oddities.items()} == oddities
    if invocations is not None:
        assert found.invocations == invocations


def test_places_name_the_line() -> None:
    found = read(compact([event()]) + b'{"a":nope}\n' + b"\xff text\n")
    assert found.unreadable["broken JSON"].first == "events, line 2"
    assert found.oddities["text that is not UTF-8 (read as Latin-1)"].first == "events, line 3"


def test_mixed_formats_are_all_read() -> None:
    found = read(
        compact([event()] * 3) + PLAIN.encode() + pretty([event()] * 2) + compact([{"level": 50, "msg": "no"}])
    )
    assert found.shapes == {"tail": 5, "plain": 5, "json": 1}
    assert not found.unreadable


def test_live_events_and_answers_join_the_same_tally() -> None:
    tally = EventTally(Templates())
    reader = EventReader(tally, "tail")
    reader.take_event(json.dumps(event(OLD, outcome="exception", exceptions=[thrown("no")])))
    reader.take_event(b"not an event")
    reader.take_answer(
        {
            "result": {
                "events": {
                    "events": [{"$workers": {"scriptVersion": {"id": NEW}, "outcome": "ok"}, "timestamp": BEGIN_MS}]
                }
            }
        }
    )
    reader.finish()
    found = tally.result()
    assert found.by_version == {OLD: InvocationCounts(1, 1), NEW: InvocationCounts(1, 0)}
    assert found.unreadable["broken JSON"].count == 1


@pytest.mark.parametrize(
    "spell", [pytest.param(compact, id="compact"), pytest.param(pretty, id="pretty", marks=pytest.mark.long)]
)
def test_two_processes_count_what_one_does(tmp_path: Path, spell: Any) -> None:
    path = tmp_path / "events.json"
    path.write_bytes(spell(mixed(random.Random(5), 12_000)) * 4)
    assert len(divide_files([path, path], 2)) > 2
    one, two = (count_events([path, path], jobs=jobs) for jobs in (1, 2))
    assert (two.by_version, two.invocations, two.errors) == (one.by_version, one.invocations, one.errors)
    assert {one.key: one.by_version for one in two.templates} == {each.key: each.by_version for each in one.templates}


def test_a_missing_file_is_named_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        count_events([tmp_path / "none"])


def test_an_empty_pipe_says_nothing() -> None:
    tally = EventTally(Templates())
    EventReader(tally, "pipe").read(io.BytesIO())
    assert tally.result().invocations == 0
