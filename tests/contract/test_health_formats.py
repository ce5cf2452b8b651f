"""The five formats of a health body, as their own documentation shows them, and anything else a server may say."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backout.model.guard.signals import ServiceState
from backout.providers.health.formats import MAX_SERVICES, list_contradictions, read
from backout.providers.health.words import find_canonical, find_worst, parse_state

OK, DEGRADED, DOWN, UNKNOWN = ServiceState.OK, ServiceState.DEGRADED, ServiceState.DOWN, ServiceState.UNKNOWN

RUNBOOK = {
    "status": "error",
    "timestamp": "2026-11-25T00:00:00Z",
    "version": {"id": "fbcb7d21-5bbd-417c-9adf-0184c5655823", "tag": "good"},
    "services": {
        "database": {"status": "ok", "latency_ms": 12},
        "storage": {"status": "error", "latency_ms": 1500, "message": "no answer within 1500 ms"},
        "email": "degraded",
        "cache": True,
    },
}
HEALTH_JSON = {
    "status": "warn",
    "version": "1",
    "releaseId": "1.2.2",
    "checks": {
        "cassandra:responseTime": [
            {
                "componentId": "a",
                "componentType": "datastore",
                "observedValue": 250,
                "observedUnit": "ms",
                "status": "pass",
            },
            {"componentId": "b", "observedValue": 2, "observedUnit": "s", "status": "fail", "output": "node b is gone"},
        ],
        "cassandra:connections": [{"observedValue": 75, "status": "warn"}],
        "uptime": [{"observedValue": 1209600.245, "observedUnit": "s", "status": "pass"}],
    },
}
ACTUATOR = {
    "status": "DOWN",
    "components": {
        "broker": {"components": {"us1": {"status": "UP"}, "us2": {"status": "DOWN"}}},
        "db": {"status": "DOWN", "details": {"database": "PostgreSQL", "error": "java.sql.SQLException: refused"}},
        "diskSpace": {"status": "UP", "details": {"free": 1}},
        "mail": {"status": "OUT_OF_SERVICE"},
    },
}
ACTUATOR_1 = {"status": "UP", "details": {"db": {"status": "UP", "details": {"database": "H2"}}}}
MICROPROFILE = {
    "status": "DOWN",
    "checks": [
        {"name": "database", "status": "DOWN", "data": {"error": "cannot connect"}},
        {"name": "queue", "status": "UP"},
    ],
}
DJANGO = {
    "Cache backend: default": "working",
    "DatabaseBackend": "unavailable: Database error",
    "DefaultFileStorageHealthCheck": "OK",
}


def states(body: object, format: str = "auto") -> dict[str, ServiceState]:  # noqa: A002
    reading = read(body, format)
    assert reading is not None
    return {service.name: service.state for service in reading.services}


def test_the_runbook_body() -> None:
    """Objects, words and truth values; words of its own; how long it took; which version answered."""
    reading = read(RUNBOOK)
    assert reading is not None
    assert reading.overall is DOWN
    assert states(RUNBOOK) == {"database": OK, "storage": DOWN, "email": DEGRADED, "cache": OK}
    assert reading.services[0].latency_ms == 12
    assert reading.services[1].detail == "no answer within 1500 ms"
    assert reading.version == "fbcb7d21-5bbd-417c-9adf-0184c5655823"
    assert reading.words == ()


def test_health_json() -> None:
    """Several measurements of one component are as bad as the worst, with that one's words."""
    reading = read(HEALTH_JSON)
    assert reading is not None
    assert reading.overall is DEGRADED
    assert states(HEALTH_JSON) == {"cassandra": DOWN, "uptime": OK}
    assert reading.services[0].detail == "node b is gone"
    assert reading.services[0].latency_ms == 2000


def test_actuator() -> None:
    """Nested components count through their parent; the error is found among the details."""
    assert states(ACTUATOR) == {"broker": DOWN, "db": DOWN, "diskSpace": OK, "mail": DOWN}
    reading = read(ACTUATOR)
    assert reading is not None
    assert reading.services[1].detail == "java.sql.SQLException: refused"
    assert states(ACTUATOR_1) == {"db": OK}


def test_microprofile() -> None:
    """A list of checks, with the reason in the data."""
    reading = read(MICROPROFILE)
    assert reading is not None
    assert states(MICROPROFILE) == {"database": DOWN, "queue": OK}
    assert reading.services[0].detail == "cannot connect"


def test_django() -> None:
    """It has no summary of its own: the worst service is it."""
    reading = read(DJANGO)
    assert reading is not None
    assert states(DJANGO) == {
        "Cache backend: default": OK,
        "DatabaseBackend": DOWN,
        "DefaultFileStorageHealthCheck": OK,
    }
    assert reading.overall is DOWN
    assert reading.services[1].detail == "Database error"


@pytest.mark.parametrize(
    ("body", "format"),
    [
        (RUNBOOK, "runbook"),
        (HEALTH_JSON, "health+json"),
        (ACTUATOR, "actuator"),
        (MICROPROFILE, "microprofile"),
        (DJANGO, "django"),
    ],
)
def test_a_named_format_reads_what_the_guess_reads(body: object, format: str) -> None:  # noqa: A002
    """The guess is right on every format's own example."""
    assert read(body, format) == read(body)


@pytest.mark.parametrize("body", [{"status": "ok"}, {"status": "UP"}, {"healthy": True}, {"ok": True}])
def test_a_bare_summary_is_a_report_without_services(body: object) -> None:
    """Enough to know whether the application thinks it is well."""
    reading = read(body)
    assert reading is not None
    assert (reading.overall, reading.services) == (OK, ())


@pytest.mark.parametrize(
    "body", [None, 7, "ok", [], [{"status": "ok"}], {}, {"message": "hello"}, {"error": "not found"}]
)
def test_other_json_is_no_health_report(body: object) -> None:
    """Nothing is read into it."""
    assert read(body) is None


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        ({"status": "ok", "services": {"storage": "down"}}, 503, "calls itself ok while it reports storage as down"),
        (
            {"status": "down", "services": {"storage": "ok"}},
            503,
            "calls itself down while it reports every service as ok",
        ),
        ({"status": "degraded", "services": {"a": "down", "b": "down"}}, 200, "answers 200 although a, b is down"),
        ({"status": "down"}, 200, "answers 200 although the application calls itself down"),
        ({"status": "ok", "services": {"storage": "ok"}}, 503, "answers 503 although the application calls itself ok"),
        ({"status": "so-so"}, 200, "The state 'so-so' of the application is not a known word"),
        ({"status": "ok", "services": {"email": "meh"}}, 200, "The state 'meh' of email is not a known word"),
    ],
)
def test_what_does_not_fit_together_is_a_finding(body: object, status: int, sentence: str) -> None:
    """In a whole sentence."""
    reading = read(body)
    assert reading is not None
    findings = list_contradictions(reading, status)
    assert any(sentence in finding for finding in findings)
    assert all(finding.endswith(".") for finding in findings)


@pytest.mark.parametrize(
    ("body", "status"),
    [(RUNBOOK, 503), ({"status": "ok", "services": {"a": "ok"}}, 200), (ACTUATOR, 503), (DJANGO, 500)],
)
def test_what_fits_together_is_no_finding(body: object, status: int) -> None:
    """An honest report of an outage is no contradiction."""
    reading = read(body)
    assert reading is not None
    assert list_contradictions(reading, status) == ()


def test_a_degraded_service_that_may_be_missing_is_no_finding() -> None:
    """Answering 200 without email is right where email is degradable."""
    reading = read({"status": "degraded", "services": {"database": "ok", "email": "degraded"}})
    assert reading is not None
    assert list_contradictions(reading, 200) == ()


def test_words_and_names_of_an_application_are_bounded() -> None:
    """A report of a thousand services with novels in it stays small, and holds no control characters."""
    services = {
        f"s{n}\x1b[31m" + "x" * 500: {"status": "err\nor" * 50, "message": "a\x00b" * 5000} for n in range(1000)
    }
    reading = read({"status": "ok", "services": services})
    assert reading is not None
    assert len(reading.services) <= MAX_SERVICES
    assert len(msgspec.json.encode(reading)) < 60_000
    assert all(text.isprintable() for s in reading.services for text in (s.name, s.detail))
    assert all(len(word) <= 40 for _, word in reading.words)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=30)
    | st.sampled_from(["ok", "down", "UP"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["status", "services", "checks", "components", "details", "db:x", "name", "data", "version"]
            )
            | st.text(max_size=8),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(
    JSON,
    st.integers(100, 599),
    st.sampled_from(["auto", "runbook", "health+json", "actuator", "microprofile", "django"]),
)
def test_no_json_crashes_it(body: object, status: int, format: str) -> None:  # noqa: A002
    """Whatever it is, it is a report with bounded texts or none."""
    reading = read(body, format)
    if reading is not None:
        assert len(reading.services) <= MAX_SERVICES
        assert len({service.name for service in reading.services}) == len(reading.services)
        assert all(s.latency_ms is None or 0 <= s.latency_ms < float("inf") for s in reading.services)
        assert all(isinstance(finding, str) for finding in list_contradictions(reading, status))


@given(st.lists(st.sampled_from(ServiceState), min_size=1, max_size=6))
def test_the_worst_state_does_not_depend_on_the_order(found: list[ServiceState]) -> None:
    """And one that is down is never outvoted."""
    assert find_worst(tuple(found)) is find_worst(tuple(reversed(found)))
    assert (find_worst(tuple(found)) is DOWN) == (DOWN in found)


def test_the_usual_other_names_are_known() -> None:
    """And nothing else is claimed to be one of them."""
    assert {find_canonical(name) for name in ("db", "Postgres", "DatabaseBackend", "database", "hyperdrive")} == {
        "database"
    }
    assert {find_canonical(name) for name in ("S3", "r2", "Object Storage", "bucket")} == {"storage"}
    assert {find_canonical(name) for name in ("SMTP", "mail", "e-mail")} == {"email"}
    assert [find_canonical(name) for name in ("cache", "redis", "", "data")] == [None] * 4


@given(st.text())
def test_any_word_has_a_state(word: str) -> None:
    """Of the four."""
    assert parse_state(word) in ServiceState
