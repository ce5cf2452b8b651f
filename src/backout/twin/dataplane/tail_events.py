"""Tail events as values: what `wrangler tail --format json` prints; pure."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from backout.model.triggers import name_queue, name_schedule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.twin.dataplane.exchange import Event, Exchange

REQUEST_HEADER = "x-backout-req"
RESET_HEADER = "x-backout-reset"
_OBJECT = "durableObject"
_OF_OBJECTS = ("entrypoint", "durableObjectId")


def make_blank(script: str, version: str, outcome: str, now: float) -> Event:
    """Return an event of which nothing else is known."""
    return {
        "outcome": outcome,
        "scriptName": script,
        "scriptVersion": {"id": version},
        "exceptions": [],
        "logs": [],
        "eventTimestamp": round(now * 1000),
        "event": None,
        "wallTime": 0,
        "cpuTime": 0,
        "truncated": False,
        "executionModel": "stateless",
        "diagnosticsChannelEvents": [],
    }


def make_notice(kind: str, message: str) -> bytes:
    """Return a notice of the tail itself, in the shape of an event."""
    event = make_blank("", "", "ok", time.time())
    event["event"] = {"type": kind, "message": message}
    return msgspec.json.encode(event)


def complete(event: Event) -> Event:
    """Return the event with every key of `_make_blank`, whatever this workerd left out."""
    blank = make_blank("", "", "unknown", 0.0)
    return {
        **{key: event.get(key, default) for key, default in blank.items()},
        **{key: event[key] for key in _OF_OBJECTS if event.get(key) and is_of_object(event)},
    }


def is_of_object(event: Event) -> bool:
    """Whether it is of a Durable Object, not of a request to the Worker."""
    return event.get("executionModel") == _OBJECT


def enrich(event: Event, exchange: Exchange) -> Event:
    """Return the event with what the router knows of its request."""
    whole = complete(event)
    whole["outcome"] = exchange.outcome
    whole["scriptVersion"] = {"id": exchange.version}
    whole["eventTimestamp"] = round(exchange.started_at * 1000)
    whole["wallTime"] = round(exchange.latency_ms or 0.0)
    inner = get_object(whole["event"])
    if exchange.status is not None:
        inner["response"] = {"status": exchange.status}
    whole["event"] = inner
    return whole


def redact_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers as the edge shows them in a tail: credentials redacted, our own left out."""
    hidden = ("auth", "cookie", "key", "secret", "token", "jwt")
    return {
        name.lower(): "REDACTED" if any(word in name.lower() for word in hidden) else value
        for name, value in headers.items()
        if name.lower() != REQUEST_HEADER
    }


def make_request(event: Event) -> dict[str, object]:
    """Return the request of an event, empty where it has none."""
    return get_object(get_object(event.get("event")).get("request"))


def get_version(event: Event) -> str:
    """Return the id of the version that ran, "" unknown."""
    return str(get_object(event.get("scriptVersion")).get("id", ""))


def describe_call(event: Event) -> tuple[str, str, int | None]:
    """Return what kind of event a Durable Object had, its outcome, and the status of its answer, None without one."""
    inner = get_object(event.get("event"))
    status = get_object(inner.get("response")).get("status")
    if isinstance(inner.get("rpcMethod"), str):
        kind = "rpc"
    else:
        kind = "fetch" if "request" in inner else "alarm" if "scheduledTime" in inner else "websocket"
    return kind, str(event.get("outcome")), status if isinstance(status, int) else None


def is_quiet(event: Event) -> bool:
    """Whether it is of no interest but to a tail: nothing failed, and nothing was logged."""
    return event.get("outcome") == "ok" and not event.get("exceptions") and not event.get("logs")


def get_trigger(event: Event) -> str:
    """Return the name of the schedule or the queue that ran, "" where it was neither."""
    inner = get_object(event.get("event"))
    if isinstance(inner.get("cron"), str):
        return name_schedule(str(inner["cron"]))
    return name_queue(str(inner["queue"])) if isinstance(inner.get("queue"), str) else ""


def get_object(value: object) -> dict[str, object]:
    """Return the value where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def format_text(event: Event) -> str:
    """Return what a text filter searches."""
    return msgspec.json.encode([event.get("logs"), event.get("exceptions")]).decode()
