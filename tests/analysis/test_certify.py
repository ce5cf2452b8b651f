"""The judgement on a trial: what says no, what leaves it open, and that no verdict on a text says yes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.analysis.certify.answers import Written, compare_schema, compare_written, list_failures
from backout.analysis.certify.judging import Judgement, KnownCode, judge_round_trip
from backout.analysis.certify.requests import fill, parse_requests
from backout.analysis.certify.statements import find_in_code, read_statement, select_known
from backout.analysis.certify.traces import find_before, find_trial
from backout.analysis.compatibility import judge
from backout.errors import UsageError
from backout.model.database.certificate import (
    HeardStatement,
    PhaseRecord,
    RoundTrip,
    RowLoss,
    TableRows,
    TrialAnswer,
    TrialRequest,
)
from backout.model.database.compatibility import MigrationFile
from backout.model.remark import Code, Remark, RemarkKind

from situations import deployment

if TYPE_CHECKING:
    from backout.model.deployment import Deployment

READ, WRITE = "SELECT id, note FROM orders WHERE id = $1", "INSERT INTO orders (note) VALUES ($1)"
REQUESTS = (TrialRequest("GET", "/orders/1"), TrialRequest("POST", "/orders"))
SCHEMA = "CREATE TABLE orders (id int PRIMARY KEY, note text NOT NULL DEFAULT '', status text, total numeric(10, 2))"
HARMLESS = "ALTER TABLE orders ADD COLUMN colour text"


def make_phase(*failing: HeardStatement, body: object = None, status: int = 200) -> PhaseRecord:
    """Return a phase in which both requests were answered, and both statements heard."""
    heard = (HeardStatement(READ, ("1",)), HeardStatement(WRITE, ("a",)), *failing)
    return PhaseRecord((TrialAnswer(0, status, body), TrialAnswer(1, 201)), heard)


GOOD = RoundTrip(REQUESTS, make_phase(), make_phase(), make_phase(), rows_written=2, rows_read_again=1)


def judge_trip(seen: RoundTrip = GOOD, sql: str = HARMLESS, known: tuple[str, ...] = (READ, WRITE)) -> Judgement:
    """Return the judgement on a trial of one migration."""
    verdicts = judge([MigrationFile("1", SCHEMA), MigrationFile("2", sql)])[1:]
    return judge_round_trip(seen, KnownCode(known), verdicts)


def test_enough_was_seen_and_nothing_failed() -> None:
    """Then the old code runs again, with the figures that say how far this goes."""
    found = judge_trip()
    assert (found.reversible, found.blocker, found.reasons) == (True, None, ())
    assert (found.coverage.routes_seen, found.coverage.statements_seen, found.coverage.share) == (2, 2, 1.0)
    write = read_statement(WRITE)
    assert write is not None
    assert found.shapes == (write.fingerprint,)


@pytest.mark.parametrize(
    ("seen", "blocker"),
    [
        (
            replace(GOOD, old_again=make_phase(HeardStatement(READ, (), "42703", 'column "note" does not exist'))),
            f'`{READ}` fails: column "note" does not exist (42703)',
        ),
        (replace(GOOD, losses=(RowLoss("orders", "note", 3),)), "3 rows of column note of orders differ or are gone"),
        (replace(GOOD, losses=(RowLoss("orders", "", 1),)), "1 row of orders differs or is gone"),
        (replace(GOOD, losses=(RowLoss("orders", "note", 0),)), "column note of orders is gone"),
        (replace(GOOD, changed=("POST /orders wrote 'a'",)), "POST /orders wrote 'a'"),
        (replace(GOOD, old_again=make_phase(status=503)), "GET /orders/1 was answered 200, and now 503"),
        (replace(GOOD, old_again=make_phase(status=404)), "GET /orders/1 was answered 200, and now 404"),
    ],
)
def test_what_failed_says_no(seen: RoundTrip, blocker: str) -> None:
    """A failing statement, lost rows, changed values, a worse answer; the statement of the migration is quoted."""
    found = judge_trip(seen)
    assert found.reversible is False
    assert found.blocker is not None
    assert found.blocker.startswith(blocker)
    if seen.losses:
        assert found.blocker.endswith(f"by: `{HARMLESS}`")


def test_what_failed_before_says_nothing() -> None:
    """The same error in the old code's first phase, a deadlock, an error of an answer: none is the migration's."""
    fails = HeardStatement("SELECT gone FROM orders", (), "42703", "no")
    deadlock = HeardStatement(WRITE, (), "40P01", "deadlock detected")
    found = judge_trip(replace(GOOD, old=make_phase(fails), old_again=make_phase(fails, deadlock)))
    assert found.reversible is True
    assert judge_trip(replace(GOOD, old=make_phase(status=500), old_again=make_phase(status=502))).blocker is None


@pytest.mark.parametrize(
    ("seen", "sql", "known", "reason"),
    [
        (replace(GOOD, rows_read_again=0), HARMLESS, (READ, WRITE), "the old code read none of the 2 rows"),
        (replace(GOOD, rows_written=0, rows_read_again=0), HARMLESS, (READ, WRITE), "the new code wrote no row"),
        (GOOD, HARMLESS, (), "no statement of the old code is known"),
        (GOOD, HARMLESS, (READ, WRITE, "DELETE FROM orders", "SELECT 1 FROM orders"), "only 4 of the 6 known routes"),
        (replace(GOOD, new=PhaseRecord()), HARMLESS, (READ, WRITE), "no request to the new code succeeded"),
        (replace(GOOD, refused_migration="2: no"), HARMLESS, (READ, WRITE), "the migrations could not be applied"),
        (GOOD, "ALTER TABLE orders DROP COLUMN total", (READ, WRITE), "by its text this breaks old code"),
        (GOOD, "ALTER TABLE orders ALTER total TYPE int", (READ, WRITE), "by its text this breaks old code"),
        (GOOD, "DELETE FROM orders WHERE status = 'x'", (READ, WRITE), "by its text this cannot be taken back"),
        (GOOD, "DO $$ BEGIN EXECUTE 'x' || 'y'; END $$", (READ, WRITE), "by its text this cannot be taken back"),
        (GOOD, "ALTER TABLE orders ENABLE ROW LEVEL SECURITY", (READ, WRITE), "the trial's role has every right"),
        (
            replace(GOOD, old_again=replace(make_phase(), statements=(HeardStatement(READ),))),
            "ALTER TABLE orders ADD CHECK (id > 0)", (READ, WRITE), "this depends on",
        ),
    ],
)  # fmt: skip
def test_too_little_leaves_it_open(seen: RoundTrip, sql: str, known: tuple[str, ...], reason: str) -> None:
    """Neither yes nor no, with the reason."""
    found = judge_trip(seen, sql, known)
    assert found.reversible is None
    assert found.blocker is None
    assert any(each.startswith(reason) for each in found.reasons), found.reasons


def test_no_text_says_yes() -> None:
    """However harmless a migration reads: without a trial that saw something nothing is reversible."""
    nothing = RoundTrip(REQUESTS, PhaseRecord())
    assert judge_trip(nothing, "CREATE TABLE more (id int)").reversible is None


def test_answers_are_compared_by_status_and_shape() -> None:
    """A field that is gone, a null where none was, a number that became a text; more fields, more rows: nothing."""

    def compare(before: object, after: object) -> list[str]:
        found = list_failures(REQUESTS, [TrialAnswer(0, 200, before)], [TrialAnswer(0, 200, after)])
        return [text.removeprefix("GET /orders/1: ") for text in found]

    old = {"orders": [{"id": 1, "note": "a"}], "next": None}
    assert compare(old, {"orders": [{"id": 2, "note": "b", "more": 1}, {"id": 3, "note": ""}], "next": None}) == []
    assert compare(old, {"orders": [], "next": None}) == []
    assert compare(old, {"orders": [{"id": 1}], "next": None}) == ["$.orders[].note is not in the answer any more"]
    assert compare(old, {"orders": [{"id": "1", "note": "a"}], "next": None}) == [
        "$.orders[].id was number in the answer, and is string now"
    ]
    assert compare(old, {"orders": [{"id": 1, "note": None}], "next": None}) == [
        "$.orders[].note was string in the answer, and is null now"
    ]
    both = [TrialAnswer(1, 201), TrialAnswer(1, 409)]
    assert list_failures(REQUESTS, both, [TrialAnswer(1, 409), TrialAnswer(1, 409)]) == ()


def test_what_a_request_always_wrote_is_compared() -> None:
    """One value each time before, another one now: a default, or a trigger. What differs by itself says nothing."""
    constant = [Written("orders", "status", "new"), Written("orders", "status", "new")]
    draft = [Written("orders", "status", "draft")]
    said = "POST /orders wrote 'new' into orders.status, and now 'draft'"
    assert compare_written(REQUESTS, {1: constant}, {1: draft}) == (said,)
    assert compare_written(REQUESTS, {1: constant}, {1: [*draft, *constant]}) == ()
    assert compare_written(REQUESTS, {1: constant}, {}) == ()
    assert compare_written(REQUESTS, {1: [*constant, *draft]}, {1: [Written("orders", "status", "odd")]}) == ()
    assert compare_written(REQUESTS, {1: constant[:1]}, {1: draft}) == ()


def test_what_the_old_code_takes_of_the_schema_is_told() -> None:
    """Tables and columns, by name and type; what is added takes nothing."""
    made = TableRows("t", ("id", "note"), ("integer", "text"), ("id",), ("note",), {})
    assert compare_schema({"t": made}, {"t": made}) == ()
    other = TableRows("t", ("id", "more"), ("bigint", "text"), ("id",), ("more",), {})
    assert compare_schema({"t": made, "u": made}, {"t": other, "v": made}) == (
        "column id of t was integer and is bigint: the old code changed it",
        "column note of t is gone: the old code removed it",
        "table u is gone: the old code removed it",
    )


def test_statements_are_found_in_code() -> None:
    """Literals of all three kinds, also as a bundler writes them; prose and statements on other tables are not."""
    code = r"""
    var COLUMNS = "id, note";
    var a = `SELECT ${COLUMNS} FROM orders WHERE id = ${id}`, b = 'SELECT \'x\' FROM orders';
    const c = "Select one of these", d = "select 1", e = `UPDATE orders
      SET note = ${f(`${note}`)}`, g = "DELETE FROM other";
    """
    found = find_in_code(code)
    assert "SELECT id, note FROM orders WHERE id = $1" in found
    assert "SELECT 'x' FROM orders" in found
    assert len(select_known((*found, *found), {"orders"})) == 2 + any("UPDATE" in sql for sql in found)
    assert read_statement("CREATE TABLE a (b int)") is None
    assert read_statement("SELECT") is not None


def test_requests_are_read_from_lines() -> None:
    """Comments and empty lines are left out; what is wrong is named with its line."""
    line = {"method": "post", "path": "/orders", "body": {"n": "{{n}}", "by": "{{who}}-{{n}}"}, "by": "new"}
    (request,) = parse_requests(f"# traffic\n\n{json.dumps(line)}\n", "certify.jsonl")
    assert (request.method, request.by, request.line) == ("POST", "new", 3)
    assert fill(request, {}, 1) is None
    filled = fill(request, {"who": "a"}, 7)
    assert filled is not None
    assert filled.body == {"n": 7, "by": "a-7"}


def test_requests_are_taken_from_what_was_recorded() -> None:
    """From a tail, on one line or many, and from Logpush; what has a body is known and not sent, a schedule is none."""

    def tail(method: str, url: str, indent: int | None = None) -> str:
        return json.dumps({"outcome": "ok", "event": {"request": {"method": method, "url": url}}}, indent=indent)

    host = "https://shop.example.com"
    lines = [
        tail("GET", f"{host}/orders/1?full=1"),
        tail("GET", f"{host}/orders/1?full=1", 2),
        *(tail("GET", f"{host}/orders/{number}", 2) for number in range(2, 20)),
        tail("POST", f"{host}/orders"),
        json.dumps({"event": {"cron": "* * * * *"}, "outcome": "ok"}),
        json.dumps({"event": {"request": {"method": "GET", "url": f"{host}/wp-login"}, "response": {"status": 404}}}),
        json.dumps({"Event": {"Request": {"Method": "GET", "URL": host}}, "EventType": "fetch"}),
        '{"method": "PUT", "path": "/orders/1", "body": {}}',
    ]
    found = parse_requests("\n".join(lines), "tail.json")
    assert [(each.method, each.path) for each in found] == [
        ("GET", "/orders/1?full=1"),
        *(("GET", f"/orders/{number}") for number in range(2, 6)),
        ("POST", "/orders"),
        ("GET", "/"),
        ("PUT", "/orders/1"),
    ]
    assert [fill(each, {}, 1) is None for each in found] == [each.method == "POST" for each in found]


def test_an_event_that_is_not_as_events_are_tells_of_no_request() -> None:
    """Others stand in the same file: a tail prints null for what no request led to."""
    asked: dict[str, object] = {"method": "GET", "url": "https://shop.example.com/lost"}
    wrong = (None, 1, 1.5, True, "x", [], [None], {"a": None})
    events: list[object] = [{"event": each} for each in wrong]
    events += [{"event": {"request": each}} for each in wrong]
    events += [{"event": {"request": {**asked, key: each}}} for key in asked for each in wrong]
    events += [{"event": {"request": asked, "response": each}} for each in wrong[1:-1]]
    events += [{"event": {"request": asked, "response": {"status": each}}} for each in (None, 1.5, "x", [], {})]
    events += [{"event": {"request": {**asked, "url": each}}} for each in ("https://[x/", "//[", "https:///")]
    events += [{"Event": each} for each in wrong] + [{"Event": {"Request": each}} for each in wrong]
    lines = [*map(json.dumps, events), '{"method": "GET", "path": "/orders"}']
    assert [each.path for each in parse_requests("\n".join(lines), "tail.json")] == ["/orders"]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "the line is not JSON"),
        ('{"path": "/"}', "the line does not have the expected shape"),
        ('{"method": "GET", "path": "/", "bdy": 1}', "the line does not have the expected shape"),
        ('{"method": "BREW", "path": "/"}', "a request has a method of HTTP"),
        ('{"method": "GET", "path": "orders"}', "a request has a method of HTTP"),
        (json.dumps({"method": "GET", "path": "/a\r\nHost: b"}), "a request has a method of HTTP"),
        (json.dumps({"method": "GET", "path": "/", "headers": {"a": "b\r\nc: d"}}), "a header holds a character"),
        ('{"method": "GET", "path": "/", "by": "both"}', "by is old or new, not 'both'"),
    ],
)
def test_a_wrong_line_is_named(line: str, what: str) -> None:
    """With its number, and the keys that a line may have."""
    with pytest.raises(UsageError, match=what) as caught:
        parse_requests(f'{{"method": "GET", "path": "/"}}\n{line}', "certify.jsonl")
    assert caught.value.where == "certify.jsonl:2"
    with pytest.raises(UsageError, match="it holds no request"):
        parse_requests("# nothing", "certify.jsonl")


def test_a_mark_on_top_hides_no_trial() -> None:
    """Guard watches staging, and calls the trial's versions stable: still what was there before is put back."""

    def show(at: float, version: str, message: str) -> Deployment:
        return replace(deployment(f"d{at:g}", at, (version, 100.0)), message=message)

    def mark(at: float, version: str) -> Deployment:
        return show(at, version, str(Remark(RemarkKind.STABLE, "guard-01234567", code=Code(version))))

    own, old, new = "a1a1a1a1", "b2b2b2b2", "c3c3c3c3"
    first = show(1, own, "release 7")
    trial = (show(2, old, "trial by backout: old code"), show(4, new, "trial by backout: new code"))
    history = (mark(5, new), trial[1], mark(3, old), trial[0], first)
    assert find_trial(history) == trial[1]
    assert find_before(history) == first
    back = show(6, own, "trial by backout: put back what was live")
    assert find_trial((back, *history)) is None
    assert find_trial(()) is None
