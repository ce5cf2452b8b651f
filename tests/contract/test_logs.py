"""Port Traffic on a log of requests: a file that grows, is rotated, truncated, half written, and full of odd lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backout.errors import ProviderUnavailable
from backout.model.guard.answers import EVERY_CLASS, AnswerClass
from backout.model.guard.bodies import find_size_bucket, make_size_key
from backout.model.guard.signals import RouteCounts, find_bucket, sum_counts
from backout.providers.logs.growing import MAX_LINE_BYTES, GrowingFile
from backout.providers.logs.request import Fields, Unreadable, parse_logged
from backout.providers.logs.traffic import LogTraffic
from backout.providers.memory import WorldClock

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_800_000_000


class Log:
    """A log, who writes it, and the source that reads it, at a time that stands still."""

    def __init__(self, path: Path, fields: Fields | None = None, ignore_routes: tuple[str, ...] = ()) -> None:
        self.path = path
        self.clock = WorldClock(NOW)
        self.source = LogTraffic(path, fields, ignore_routes=ignore_routes, clock=self.clock)

    def raw(self, text: str | bytes) -> None:
        with self.path.open("ab") as file:
            file.write(text if isinstance(text, bytes) else text.encode())

    def write(self, **line: object) -> None:
        self.raw(json.dumps({"ts": NOW - 5, "version": "v1", "status": 200, **line}) + "\n")

    def total(self) -> tuple[int, int]:
        return sum_counts(self.source.read(0, NOW * 2).counts)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "requests.jsonl")


# --- the file -------------------------------------------------------------------------------------------------------


def test_what_is_appended_is_counted_once(log: Log) -> None:
    """At each reading what came since the last one."""
    log.write()
    assert log.total() == (1, 0)
    log.write(status=500)
    assert log.total() == log.total() == (2, 1)


def test_half_a_line_waits_for_its_end(log: Log) -> None:
    """Whoever writes it flushes when it likes."""
    line = json.dumps({"ts": NOW - 5, "version": "v1", "status": 200})
    log.raw(line[:20])
    assert log.total() == (0, 0)
    log.raw(line[20:])
    assert log.total() == (0, 0)
    log.raw("\n")
    assert log.total() == (1, 0)
    assert log.source.read(0, NOW).unreadable == {}


def test_a_rotation_loses_nothing(log: Log) -> None:
    """What was written to the old file after the last look comes first, its last line even without an end."""
    log.write()
    assert log.total() == (1, 0)
    log.write(status=500)
    log.raw(json.dumps({"ts": NOW - 4, "version": "v1", "status": 503}))
    log.path.rename(log.path.with_suffix(".1"))
    assert log.total()[0] in {2, 3}  # between the two steps of a rotation there is no file, and that is no error
    log.write(status=201)
    assert log.total() == (4, 2)
    log.write()
    assert log.total() == (5, 2)


def test_a_truncation_begins_again(log: Log) -> None:
    """To a shorter file, and to one that has grown beyond the old length since (`copytruncate`)."""
    for _ in range(3):
        log.write()
    assert log.total() == (3, 0)
    log.path.write_bytes(b"")
    log.write(status=500)
    assert log.total() == (4, 1)
    log.path.write_bytes(b"")
    for _ in range(9):
        log.write(status=502)
    assert log.total() == (13, 10)


def test_a_file_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    """Neither is a folder a log."""
    with pytest.raises(ProviderUnavailable, match="No such file"):
        LogTraffic(tmp_path / "none").read(0, 1)
    with pytest.raises(ProviderUnavailable, match="directory"):
        LogTraffic(tmp_path).read(0, 1)


def test_a_large_file_is_read_from_near_its_end(tmp_path: Path) -> None:
    """The line that the first byte falls into is left out."""
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"%09d\n" % number for number in range(100)))
    followed = GrowingFile(path, first_bytes=35)
    assert list(followed.lines()) == [(970, b"000000097"), (980, b"000000098"), (990, b"000000099")]
    followed.close()


def test_a_line_without_an_end_is_cut(tmp_path: Path) -> None:
    """It costs no memory, and the next line is whole."""
    path = tmp_path / "log"
    path.write_bytes(b"x" * (3 * MAX_LINE_BYTES) + b"\nshort\n")
    followed = GrowingFile(path)
    assert [(place, len(line)) for place, line in followed.lines()] == [
        (0, MAX_LINE_BYTES),
        (3 * MAX_LINE_BYTES + 1, 5),
    ]
    followed.close()


@given(
    pieces=st.lists(st.sampled_from([b"a", b"bb\n", b"\n", b"c\nd", b"eee\n"]), max_size=20),
    looks=st.sets(st.integers(0, 20)),
)
def test_lines_do_not_depend_on_when_it_is_looked(
    pieces: list[bytes], looks: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each whole line once, with the place where it begins."""
    path = tmp_path_factory.mktemp("grow") / "log"
    path.write_bytes(b"")
    followed = GrowingFile(path)
    seen = []
    for number, piece in enumerate(pieces):
        with path.open("ab") as file:
            file.write(piece)
        if number in looks:
            seen += list(followed.lines())
    seen += list(followed.lines())
    followed.close()
    whole = b"".join(pieces)
    wanted, at = [], 0
    for line in whole.split(b"\n")[:-1]:
        wanted.append((at, line))
        at += len(line) + 1
    assert seen == wanted


# --- the lines ------------------------------------------------------------------------------------------------------


def test_what_cannot_be_counted_is_counted_by_its_reason(log: Log) -> None:
    """With the place of the first of its kind, and without a word of the line itself; the others still count."""
    log.write()
    log.raw("canary, no JSON\n[1]\n\n")
    log.raw(b"\xff\xfe\n")
    log.write(version=None)
    log.write(ts="yesterday")
    log.write(status="canary")
    log.write(ts=NOW + 60)
    log.write(latency_ms=-1)
    log.write(outcome=7)
    page = log.source.read(0, NOW)
    assert sum_counts(page.counts) == (1, 0)
    reasons = {why.partition(" (first at byte")[0]: number for why, number in page.unreadable.items()}
    assert reasons == {
        "no JSON": 2,
        "no JSON object": 1,
        "no text in the field 'version'": 1,
        "no time in the field 'ts'": 1,
        "no HTTP status in the field 'status'": 1,
        "its time is in the future": 1,
        "no duration in the field 'latency_ms'": 1,
        "no text in the field 'outcome'": 1,
    }
    assert "no JSON (first at byte 51 of requests.jsonl)" in page.unreadable
    assert "canary" not in str(page.unreadable)


def test_lines_about_something_else_do_not_count(log: Log) -> None:
    """They say that the log is alive."""
    log.raw(json.dumps({"ts": NOW - 3, "level": "info", "msg": "started"}) + "\n")
    page = log.source.read(0, NOW)
    assert (page.counts, page.unreadable, page.complete_until) == ((), {}, NOW - 2)


def test_a_websocket_is_no_slow_request(log: Log) -> None:
    """Its line comes when it ends, with how long it was open; one that was refused is a request that failed."""
    log.write(status=101, latency_ms=3_600_000.0)
    log.write(status=502, latency_ms=3.0)
    assert log.total() == (1, 1)


def test_names_units_and_times_of_all_kinds(tmp_path: Path) -> None:
    """A dot leads into an inner object; a name with a dot in it is taken as it is first."""
    fields = Fields("time", "labels.version", "http.response.status", "out", "event.duration", 1e-6, "url.path")
    log = Log(tmp_path / "ecs.json", fields, ignore_routes=("/health",))
    for time in (NOW - 5, (NOW - 5) * 1e3, (NOW - 5) * 1e6, (NOW - 5) * 10**9, "2027-01-15T07:59:55Z",
                 "2027-01-15T08:59:55+01:00", "2027-01-15T07:59:55.250"):  # fmt: skip
        log.raw(
            json.dumps(
                {
                    "time": time,
                    "labels": {"version": "v7"},
                    "http.response.status": "503",
                    "event": {"duration": 90_000_000},
                    "url": {"path": "/app?x=1"},
                }
            )
            + "\n"
        )
    log.raw(
        json.dumps({"time": NOW - 5, "labels": {"version": "v7"}, "out": "ok", "url": {"path": "/health?x"}}) + "\n"
    )
    (row,) = log.source.read(0, NOW).counts
    assert (row.version, row.second, row.requests, row.errors) == ("v7", NOW - 5, 7, 7)
    assert row.latency == {find_bucket(90): 7}


def test_outcomes_count_as_in_a_replay(log: Log) -> None:
    """An outcome that is not ok is an error, also without a status; `canceled` counts neither way; 404 is none."""
    log.write(outcome="ok", latency_ms=5)
    log.write(outcome="ok", status=500)
    log.write(outcome="exception", status=None)
    log.write(outcome="canceled", latency_ms=5, route="/app")
    log.write(status=499)
    log.write(status=404)
    (row,) = log.source.read(0, NOW).counts
    assert (row.requests, row.errors, row.canceled, sum(row.latency.values())) == (4, 2, 2, 1)
    assert row.left == {"other": {find_bucket(5): 1}}  # nobody asked for that route before


def refused(line: bytes) -> str | None:
    """Return why a line is refused, or None for one that is read."""
    try:
        parse_logged(line, Fields())
    except Unreadable as error:
        return str(error)
    return None


@given(st.binary(max_size=60))
def test_any_line_is_read_or_refused(line: bytes) -> None:
    """Nothing that is in a file ends a watch."""
    assert refused(line) != ""


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), st.lists))
def test_any_value_in_any_field_is_read_or_refused(value: object) -> None:
    """The same with the right names."""
    for name in ("ts", "version", "status", "outcome", "latency_ms", "route"):
        assert refused(json.dumps({"ts": 5, "version": "v", "status": 200, name: value}).encode()) != ""


# --- what it says of itself -----------------------------------------------------------------------------------------


def test_a_silent_log_tells_nothing_newer(log: Log) -> None:
    """An empty one nothing at all; one that nobody writes any more is not an application without visitors."""
    log.raw("")
    assert log.source.read(NOW - 60, NOW).complete_until == NOW - 60
    log.write(ts=NOW - 1)
    assert log.source.read(NOW - 60, NOW).complete_until == NOW - 2
    log.clock.sleep(100)
    assert log.source.read(NOW - 60, NOW + 100).complete_until == NOW


def test_lines_that_come_late_make_it_slow(log: Log) -> None:
    """For ten minutes after the last of them; what was there at the first look is a past, not a delay."""
    log.write(ts=NOW - 3000)
    log.total()
    assert log.source.traits.may_act
    log.clock.sleep(60)
    log.write(ts=NOW - 40)
    log.total()
    assert log.source.traits.lag_s == 40
    assert not log.source.traits.may_act
    log.clock.sleep(700)
    log.write(ts=NOW + 759)
    log.total()
    assert log.source.traits.may_act


def test_routes_are_templates_or_the_applications_names(log: Log) -> None:
    """With the method, where the log has it; a line without a route is in the whole alone."""
    log.write(route="/app/4711?key=x", method="get", bytes=1500)
    log.write(route="/app/8?key=y", method="GET", bytes="70", content_type="application/json; charset=utf-8")
    log.write(route="/app/9?key=y", method="POST", bytes=70)
    for name in ("/app/4711?key=x", "models.show", None):
        log.write(route=name)
    log.write(route="models.show", method="POST", status=302)
    log.write(route="/app/1", method="GET", status=500, latency_ms=90)
    (row,) = log.source.read(0, NOW).counts
    assert row.requests == 8
    assert row.routes == {
        "GET /app/{id}?key": RouteCounts(
            2, 0, sizes={find_size_bucket(1500): 1, make_size_key(70, "application/json"): 1}
        ),
        "POST /app/{id}?key": RouteCounts(1, 0),
        "/app/{id}?key": RouteCounts(1, 0),
        "models.show": RouteCounts(1, 0),
        "POST models.show": RouteCounts(1, 0, classes={AnswerClass.REDIRECT: 1}),
        "GET /app/{id}": RouteCounts(1, 1, {find_bucket(90): 1}),
    }
    assert row.classes == {AnswerClass.REDIRECT: 1}


def test_what_the_lines_do_not_say_is_not_seen(log: Log) -> None:
    """No classes without a status; methods and lengths only where each line has them (no answer to POST needs one)."""
    log.write(method="GET", bytes=10)
    log.write(method="POST")
    log.total()
    traits = log.source.traits
    assert (traits.classes, traits.has_method, traits.has_sizes) == (EVERY_CLASS, True, True)
    assert (traits.has_started, traits.has_triggers) == (False, False)
    log.write(method="GET", bytes="-")
    log.write(status=None, outcome="ok")
    log.total()
    traits = log.source.traits
    assert (traits.classes, traits.has_method, traits.has_sizes) == (frozenset(), False, False)


def test_routes_that_do_not_count_are_given_without_a_query(log: Log) -> None:
    """As they were before."""
    ignoring = LogTraffic(log.path, ignore_routes=["/health"], clock=log.clock)
    for route in ("/health", "/health?deep=1", "/healthy"):
        log.write(route=route)
    assert sum_counts(ignoring.read(0, NOW).counts)[0] == 1


@pytest.mark.parametrize("status", [200, 404])
def test_visitors_who_try_thousands_of_paths_get_no_thousands_of_counts(log: Log, status: int) -> None:
    """Whether the application answers them or not; what is in use keeps its name."""
    log.write(route="/app")
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [f"{a}{b}{c}" for a in letters for b in letters for c in letters][:5000]
    log.raw(
        "".join(
            json.dumps({"ts": NOW - 5, "version": "v1", "status": 200 if number % 10 == 0 else status, "route": route})
            + "\n"
            for number, word in enumerate(words)
            for route in (["/app"] if number % 10 == 0 else []) + [f"/{word}" + "\x1b[2J" * (number % 2)]
        )
    )
    (row,) = log.source.read(0, NOW).counts
    assert row.requests == 5501
    assert len(row.routes) <= 20
    assert row.routes["/app"].requests == 501
    assert sum(route.requests for route in row.routes.values()) == 5501
    assert all(name.isprintable() and len(name) <= 64 for name in row.routes)


def test_a_log_without_statuses_is_advice(log: Log) -> None:
    """A failure that is answered properly is not seen in it."""
    log.write(status=None, outcome="ok")
    assert log.source.traits.may_act
    log.total()
    assert not log.source.traits.may_act


@pytest.mark.parametrize("line", [{"outcome": "canceled"}, {"status": 499, "outcome": None}])
def test_whoever_leaves_before_the_answer_disarms_nothing(log: Log, line: dict[str, object]) -> None:
    """A canceled request has no status in many a log; that is no sign that others have none."""
    log.write()
    log.write(status=None, outcome="canceled")
    log.write(**line)
    assert log.total() == (1, 0)
    assert log.source.traits.may_act
    assert log.source.traits.has_status
