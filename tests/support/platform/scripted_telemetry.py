"""The telemetry query as it is documented, and as people report it: what lacks a key of the grouping vanishes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from scripted_server import answer

if TYPE_CHECKING:
    import socket
    import threading
    from collections.abc import Callable, Mapping

    from scripted_server import ScriptedServer, Step

VERSION = "$workers.scriptVersion.id"
OUTCOME = "$workers.outcome"
STATUS = "$workers.event.response.status"
EVENT = "$workers.eventType"
MODEL = "$workers.executionModel"
TRIGGER = "$metadata.trigger"
PROBE = "$workers.event.request.headers.x-backout-probe"
PROBE_ID = "$workers.event.request.headers.x-backout-probe-id"
_NAMES = (VERSION, OUTCOME, STATUS, EVENT, TRIGGER)
Invocation = tuple[int, "Mapping[str, object]", int]


def invoked(at: int, *rows: tuple[object, ...], **more: object) -> list[Invocation]:
    """Return invocations in a second: rows are (version, outcome, status, event, trigger, ..., how many).

    Args:
        more: `model`, `probe` and `probe_id` of all of them.
    """
    extra = {{"model": MODEL, "probe": PROBE, "probe_id": PROBE_ID}[name]: value for name, value in more.items()}
    found: list[Invocation] = []
    for *values, number in rows:
        known = {name: value for name, value in zip(_NAMES, values, strict=False) if value is not None}
        assert isinstance(number, int)
        found.append((at, {**known, **extra}, number))
    return found


@dataclass
class TelemetryApi:
    """Answers queries about some invocations.

    Args:
        unknown: keys that it refuses, with what it says.
        every: one in so many was read; `level`: the level of adaptive bit rate, None as it is left out.
        observability: what the Worker's settings say of its logs.
        drops: operations of filters that leave out what lacks their key, too; `refuses`: that it does not take.
        hides: what is not told yet, by the second and what is known.
    """

    invocations: list[Invocation] = field(default_factory=list)
    unknown: dict[str, str] = field(default_factory=dict)
    every: int = 1
    level: float | None = None
    observability: Mapping[str, object] = field(default_factory=lambda: {"enabled": True, "head_sampling_rate": 1})
    drops: frozenset[str] = frozenset()
    refuses: frozenset[str] = frozenset()
    hides: Callable[[int, Mapping[str, object]], bool] = lambda _at, _known: False
    asked: list[list[str]] = field(default_factory=list)

    def answers(self, server: ScriptedServer) -> Step:
        """Return the step that answers what the server is asked last."""

        def step(connection: socket.socket, ended: threading.Event) -> bool:
            asked = server.asked[-1]
            if asked.method == "GET":
                worker = {"id": "w", "name": "fm5", "observability": self.observability}
                return answer({"success": True, "errors": [], "messages": [], "result": worker})(connection, ended)
            return self._answer(json.loads(asked.body))(connection, ended)

        return step

    def _answer(self, body: Mapping[str, object]) -> Step:
        parameters = body["parameters"]
        assert isinstance(parameters, dict)
        keys = [group["value"] for group in parameters["groupBys"]]
        filters = parameters["filters"]
        named = [each["key"] for each in filters]
        self.asked.append(keys)
        unknown = dict(self.unknown)
        unknown |= {
            each["key"]: f"{each['operation']}: {each['key']}" for each in filters if each["operation"] in self.refuses
        }
        for key in (*keys, *named):
            if key in unknown:
                place = f"groupBys[{keys.index(key)}]" if key in keys else f"filters[{named.index(key)}]"
                said = unknown[key].format(place=place)
                error = {"code": 7400, "message": said}
                return answer({"success": False, "errors": [error], "messages": [], "result": None}, 400)
        timeframe = body["timeframe"]
        assert isinstance(timeframe, dict)
        wanted = [each for each in filters if each["key"] not in ("$workers.scriptName", "$metadata.type")]
        series: dict[int, Counter[tuple[object, ...]]] = {}
        for at, known, number in self.invocations:
            inside = timeframe["from"] <= at * 1000 < timeframe["to"] and not self.hides(at, known)
            if inside and all(self._holds(each, known) for each in wanted) and set(keys) <= set(known):
                series.setdefault(at, Counter())[tuple(known[key] for key in keys)] += number
        told = [
            {
                "time": datetime.fromtimestamp(at, UTC).isoformat(),
                "data": [self._tell(keys, values, number) for values, number in groups.items()],
            }
            for at, groups in sorted(series.items())
        ]
        level = {} if self.level is None else {"abr_level": self.level}
        result = {
            "calculations": [{"calculation": "count", "aggregates": [], "series": told}],
            "statistics": {"bytes_read": 1, "elapsed": 0.1, "rows_read": 1, **level},
        }
        return answer({"success": True, "errors": [], "messages": [], "result": result})

    def _holds(self, wanted: Mapping[str, object], known: Mapping[str, object]) -> bool:
        key, operation = str(wanted["key"]), wanted["operation"]
        if key not in known:
            return operation in {"neq", "is_null"} - self.drops
        return {"eq": known[key] == wanted.get("value"), "neq": known[key] != wanted.get("value")}.get(
            str(operation), False
        )

    def _tell(self, keys: list[str], values: tuple[object, ...], number: int) -> dict[str, object]:
        groups = [{"key": key, "value": value} for key, value in zip(keys, values, strict=True)]
        return {"count": number, "value": number, "interval": 1, "sampleInterval": self.every, "groups": groups}
