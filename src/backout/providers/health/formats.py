"""Parses a health endpoint's JSON, in five formats; pure functions, and no input makes them fail.

- runbook: `{"status", "services": {name: {"status", ...} | word}}`
- health+json: draft-inadarei-api-health-check-06, `checks: {"component:measurement": [{"status", "output", ...}]}`
- actuator: Spring Boot, `components` (or, before 2.2, `details`) by name, possibly nested
- microprofile: MicroProfile Health 4.0, `checks: [{"name", "status", "data"}]`
- django: django-health-check, `{"DatabaseBackend": "working" | "unavailable: why"}`

Criticality is never read from here: it comes from backout.toml.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from backout.model.guard.signals import ServiceHealth, ServiceState
from backout.model.value import Value
from backout.providers.health.words import find_worst, parse_state

if TYPE_CHECKING:
    from collections.abc import Callable

    Rows = Iterator[tuple[str, object, ServiceHealth]]

AUTO: Final = "auto"
MAX_SERVICES: Final = 100
_MAX_DETAIL, _MAX_NAME, _MAX_WORD = 200, 64, 40
_MAX_DEPTH: Final = 5
_STATUS_KEYS: Final = ("status", "state", "healthy", "ok")
_DETAIL_KEYS: Final = ("message", "output", "error", "detail", "reason", "description")
_LATENCY_KEYS: Final = ("latency_ms", "latencyMs", "response_time_ms", "responseTimeMs", "duration_ms", "durationMs")


class Reading(Value, frozen=True):
    """The content of a body; `words` are the unknown state words, as (where, word)."""

    overall: ServiceState
    services: tuple[ServiceHealth, ...]
    words: tuple[tuple[str, str], ...] = ()
    version: str | None = None


def read(body: object, format: str = AUTO) -> Reading | None:
    """Return what the decoded JSON says, or None when it is no health report (of that format).

    >>> read({"status": "UP", "components": {"db": {"status": "DOWN"}}}).services[0].state.value
    'down'
    """
    if not isinstance(body, Mapping):
        return None
    name = format if format in _FORMATS else _recognise_format(body)
    if name is None:
        return None
    rows = list(_FORMATS[name](body))[:MAX_SERVICES]
    said = None if name == "django" else _get_first(body, _STATUS_KEYS)
    if said is None and not rows:
        return None
    services = _merge_services(rows)
    overall = parse_state(said) if said is not None else find_worst(tuple(s.state for s in services))
    words = [(service.name, word) for _, word, service in rows if service.state is ServiceState.UNKNOWN]
    if said is not None and overall is ServiceState.UNKNOWN:
        words.insert(0, ("the application", said))
    unknown = tuple((where, _get_text(word, _MAX_WORD)) for where, word in words if word is not None)
    return Reading(overall, services, unknown, _get_version(body))


def list_contradictions(reading: Reading, status: int) -> tuple[str, ...]:
    """Return what does not fit together, as whole sentences: summary, services, HTTP status, unknown words."""
    down = [s.name for s in reading.services if s.state is ServiceState.DOWN]
    listed = ", ".join(down)
    is_success, is_error = 200 <= status < 300, status >= 500
    found: list[str] = []
    if reading.overall is ServiceState.OK and down:
        found.append(f"The application calls itself ok while it reports {listed} as down.")
    all_ok = bool(reading.services) and all(s.state is ServiceState.OK for s in reading.services)
    if reading.overall is ServiceState.DOWN and all_ok:
        found.append("The application calls itself down while it reports every service as ok.")
    if is_success and down:
        found.append(f"The endpoint answers {status} although {listed} is down.")
    elif is_success and reading.overall is ServiceState.DOWN:
        found.append(f"The endpoint answers {status} although the application calls itself down.")
    if is_error and reading.overall is ServiceState.OK:
        found.append(f"The endpoint answers {status} although the application calls itself ok.")
    found += [f"The state '{word}' of {where} is not a known word." for where, word in reading.words]
    return tuple(found)


def _recognise_format(body: Mapping[object, object]) -> str | None:
    """Return the format whose mark the body carries; a bare status is a runbook body without services."""
    checks = body.get("checks")
    if isinstance(body.get("services"), Mapping):
        return "runbook"
    if isinstance(checks, list):
        return "microprofile"
    if isinstance(checks, Mapping):
        return "health+json"
    if isinstance(body.get("components"), Mapping) or _has_states(body.get("details")):
        return "actuator"
    if _get_first(body, _STATUS_KEYS) is not None:
        return "runbook"
    values = list(body.values())
    is_django = bool(values) and all(isinstance(v, str) for v in values)
    return "django" if is_django and any(parse_state(v) is not ServiceState.UNKNOWN for v in values) else None


def _has_states(value: object) -> bool:
    return isinstance(value, Mapping) and any(isinstance(v, Mapping) and "status" in v for v in value.values())


def _parse_runbook(body: Mapping[object, object]) -> Rows:
    services = body.get("services")
    if isinstance(services, Mapping):
        yield from (_make_row(name, value) for name, value in services.items())


def _parse_health_json(body: Mapping[object, object]) -> Rows:
    checks = body.get("checks")
    if not isinstance(checks, Mapping):
        return
    for key, value in checks.items():
        component, _, measurement = str(key).partition(":")
        for check in value if isinstance(value, list) else [value]:
            name, word, service = _make_row(component or str(key), check)
            yield (
                name,
                word,
                _add_latency(service, _read_observed_ms(check) if measurement == "responseTime" else None),
            )


def _parse_actuator(body: Mapping[object, object]) -> Rows:
    for key in ("components", "details"):
        parts = body.get(key)
        if isinstance(parts, Mapping):
            yield from (_parse_component(name, part) for name, part in parts.items())
            return


def _parse_component(name: object, part: object) -> tuple[str, object, ServiceHealth]:
    """Return the row of a component; one without a status of its own is as bad as its worst part."""
    found = _make_row(name, part)
    if found[1] is None:
        state = _judge_nested(part, _MAX_DEPTH)
        return found[0], found[1], ServiceHealth(found[2].name, state, found[2].detail, found[2].latency_ms)
    return found


def _judge_nested(part: object, depth: int) -> ServiceState:
    if not isinstance(part, Mapping) or depth == 0:
        return ServiceState.UNKNOWN
    if part.get("status") is not None:
        return parse_state(part.get("status"))
    parts = part.get("components")
    states = [_judge_nested(p, depth - 1) for p in parts.values()] if isinstance(parts, Mapping) else []
    return find_worst(tuple(states))


def _parse_microprofile(body: Mapping[object, object]) -> Rows:
    checks = body.get("checks")
    for check in checks if isinstance(checks, list) else []:
        if isinstance(check, Mapping):
            name, word, service = _make_row(check.get("name", "unnamed"), check)
            data = check.get("data")
            detail = service.detail or (_get_detail(data) if isinstance(data, Mapping) else "")
            yield name, word, ServiceHealth(service.name, service.state, detail, service.latency_ms)


def _parse_django(body: Mapping[object, object]) -> Rows:
    yield from (_make_row(name, value) for name, value in body.items())


_FORMATS: Final[dict[str, Callable[[Mapping[object, object]], Rows]]] = {
    "runbook": _parse_runbook,
    "health+json": _parse_health_json,
    "actuator": _parse_actuator,
    "microprofile": _parse_microprofile,
    "django": _parse_django,
}


def _make_row(name: object, value: object) -> tuple[str, object, ServiceHealth]:
    """Return (name, the application's word for the state or None, the service) of one entry."""
    plain = _get_text(name, _MAX_NAME) or "unnamed"
    if not isinstance(value, Mapping):
        detail = value if isinstance(value, str) and ":" in value else ""
        return plain, value, ServiceHealth(plain, parse_state(value), _get_text(detail.partition(":")[2], _MAX_DETAIL))
    word = _get_first(value, _STATUS_KEYS)
    latency_ms = next((ms for ms in (_parse_ms(value.get(key)) for key in _LATENCY_KEYS) if ms is not None), None)
    return plain, word, ServiceHealth(plain, parse_state(word), _get_detail(value), latency_ms)


def _merge_services(rows: list[tuple[str, object, ServiceHealth]]) -> tuple[ServiceHealth, ...]:
    """Return one service for each name: the worst of its entries, in the order of the body."""
    merged: dict[str, ServiceHealth] = {}
    for name, _, service in rows:
        known = merged.get(name)
        if known is None:
            merged[name] = service
        elif known.state is not find_worst((known.state, service.state)):
            merged[name] = _add_latency(service, known.latency_ms)
        else:
            merged[name] = _add_latency(known, service.latency_ms)
    return tuple(merged.values())


def _add_latency(service: ServiceHealth, latency_ms: float | None) -> ServiceHealth:
    if service.latency_ms is not None or latency_ms is None:
        return service
    return ServiceHealth(service.name, service.state, service.detail, latency_ms)


def _read_observed_ms(check: object) -> float | None:
    if not isinstance(check, Mapping):
        return None
    factor = {"ms": 1.0, "s": 1000.0, "us": 0.001}.get(str(check.get("observedUnit", "ms")))
    observed = _parse_ms(check.get("observedValue"))
    return None if factor is None or observed is None else observed * factor


def _parse_ms(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _get_first(value: Mapping[object, object], keys: tuple[str, ...]) -> object:
    return next((found for found in (value.get(key) for key in keys) if found is not None), None)


def _get_detail(value: Mapping[object, object]) -> str:
    """Return the application's own words: a message, or the error among an actuator's details."""
    found = _get_first(value, _DETAIL_KEYS)
    details = value.get("details")
    if not isinstance(found, str) and isinstance(details, Mapping):
        found = _get_first(details, _DETAIL_KEYS)
    return _get_text(found, _MAX_DETAIL) if isinstance(found, str) else ""


def _get_version(body: Mapping[object, object]) -> str | None:
    """Return the id of the version that answered, where the body says it: `version.id`, or `version` itself."""
    version = body.get("version")
    found = version.get("id") if isinstance(version, Mapping) else version
    return _get_text(found, _MAX_NAME) or None if isinstance(found, str) else None


def _get_text(value: object, longest: int) -> str:
    text = value if isinstance(value, str) else repr(value) if isinstance(value, int | float) else type(value).__name__
    return "".join(c if c.isprintable() else " " for c in text[: 4 * longest]).strip()[:longest]
