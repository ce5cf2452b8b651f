"""The calls of a first contact about what a watch reads: telemetry, analytics, tails, triggers, the limit of calls."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Final

from backout.providers.cloudflare.conformance.reply import (
    Call,
    Reply,
    Told,
    as_text,
    get_first,
    get_safe_id,
    list_items,
    look_into,
    look_up,
)
from backout.providers.cloudflare.conformance.scratch import REACHED_S
from backout.providers.cloudflare.telemetry_query import (
    EVENT,
    MODEL,
    OUTCOME,
    PROBE,
    PROBE_ID,
    STATUS,
    TRIGGER,
    VERSION,
    Filter,
    make_query,
)
from backout.providers.exchange import quote_segment
from backout.providers.health.probe import PROBE_HEADER
from backout.providers.health.sent import PROBE_ID_HEADER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.providers.cloudflare.conformance.scratch import Scratch

_DIMENSIONS: Final = (
    '{ __type(name: "AccountWorkersInvocationsAdaptiveDimensions") { fields { name } } }'  # the counts by version
)
_TOLD_S, _AGAIN_S = 150.0, 1.0
_VISITS: Final = 4
"""What the telemetry is to count: one that throws, two that are answered, one of backout's own."""
_FAILED, _MOST = 500, 1e9
_TAILS, _OPENED, _REFUSED = 10, 200, 400
_NUMBERS: Final = re.compile(r";\s*[rt]=\d+")
_KEYS: Final = ("the keys `$workers.scriptVersion.id`",)
_FILTERS: Final = 'a filter by "neq" or "is_null"'
_OURS: Final = "the keys `$workers.executionModel`"


_Values = tuple[str | int | None, ...]


class Watching:
    """The calls; `visits` come as soon as the Worker can be reached, so that no other visit is counted with them."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._probe = secrets.token_hex(8)
        self._since = 0
        self._visited_at = 0.0  # until then, nothing is waited for

    @property
    def visits(self) -> tuple[Call, ...]:
        """A visit that throws, and what the telemetry tells of it."""
        sampled = ("`sampleInterval` of each number",)
        return (
            Call(
                "logs",
                "do the settings say that every invocation is kept?",
                self._settings,
                ("`observability` of `GET workers/workers/{name}`",),
            ),
            Call("throwing request", "what does a visitor get when the code throws?", self._throw, _KEYS),
            Call("telemetry", "is it counted, by its version, and when?", self._telemetry, (*_KEYS, *sampled)),
            Call(
                "telemetry by status",
                "is what has no status left out?",
                self._by_status,
                ("a group by a key leaves out",),
            ),
            Call("telemetry by request", "is the request named?", self._by_trigger, ("the keys `$workers.eventType`",)),
            Call("telemetry filters", "do filters keep what lacks their key?", self._filter, (_FILTERS, _OURS)),
            Call(
                "telemetry of probes",
                "are our own requests known by their header?",
                self._probes,
                ("the key `$workers.event.request.headers.x-backout-probe-id`", _OURS),
            ),
        )

    @property
    def others(self) -> tuple[Call, ...]:
        """The rest."""
        return (
            Call("tail", "can a tail be opened?", self._tail),
            Call(
                "unheard tail",
                "can a tail be deleted that nobody listened to?",
                self._unheard,
                ("a tail that nobody listened to",),
            ),
            Call("eleventh tail", "is it refused?", self._fill, ("the eleventh tail of a Worker",)),
            Call("schedules", "can schedules be set and read?", self._schedules),
            Call("routes", "is there a list of a Worker's routes?", self._routes, ("the list of a Worker's routes",)),
            Call(
                "counts",
                "do the analytics know versions and outcomes?",
                self._graphql,
                ("counts by version (`scriptVersion`)",),
            ),
            Call(
                "limit of calls",
                "does an answer say how many calls are left?",
                self._limit,
                ("each answer of the API says how many calls are left",),
            ),
        )

    def _settings(self) -> Told:
        path = f"{self._scratch.account}/workers/workers/{quote_segment(self._scratch.script)}"
        reply = self._scratch.call("GET", path)
        kept = look_up(reply.result, "observability")
        rates = (look_into(kept, "logs", "head_sampling_rate"), look_up(kept, "head_sampling_rate"))
        rate = next((rate for rate in rates if rate is not None), 1)
        return Told(reply, {"on": look_up(kept, "enabled") is True, "all are kept": rate == 1})

    def _throw(self) -> Told:
        for reply in self._scratch.keep_visiting(REACHED_S if self._scratch.versions else 0.0, {PROBE_HEADER: "1"}):
            if look_up(reply.json, "version") is not None:
                break
        self._since = int(self._scratch.clock.now()) + 1  # none of those before is counted
        if not reply.trouble:
            self._scratch.clock.sleep(self._since - self._scratch.clock.now())
        thrown = self._scratch.visit({}, "/throw")
        answered = [self._scratch.visit({}) for _ in range(2)]
        probed = self._scratch.visit({PROBE_HEADER: "1", PROBE_ID_HEADER: self._probe})
        if self._scratch.versions and not thrown.trouble:
            self._visited_at = self._scratch.clock.now()
        facts = {
            "a status of 500": thrown.status == _FAILED,
            "the others are answered": all(each.status == 200 for each in (*answered, probed)),
        }
        return Told(Reply(thrown.status, trouble=thrown.trouble), facts)

    def _telemetry(self) -> Told:
        """Ask until everything is told."""
        deadline = self._visited_at + (_TOLD_S if self._visited_at else 0.0)
        while True:
            reply, counted = self._count(VERSION, OUTCOME)
            if sum(counted.values()) >= _VISITS or self._scratch.clock.now() >= deadline or reply.status != 200:
                break
            self._scratch.clock.sleep(_AGAIN_S)
        version = self._scratch.name_version(0)
        level = look_into(reply.result, "statistics", "abr_level")
        intervals = [look_up(each, "sampleInterval") for each in _list_data(reply)]
        facts = {
            "the exception is counted, by its version": counted.get((version, "exception")) == 1,
            "so are the others": counted.get((version, "ok")) == _VISITS - 1,
            "every one was read": bool(intervals) and all(each == 1 for each in intervals) and level in (None, 1),
        }
        waited_s = round(self._scratch.clock.now() - self._visited_at)
        measured = {"seconds until all were told": waited_s if sum(counted.values()) >= _VISITS else None}
        return Told(Reply(reply.status, _strip(reply.json), reply.trouble), facts, measured)

    def _by_status(self) -> Told:
        reply, counted = self._count(OUTCOME, STATUS)
        facts = {
            "what was answered is there": counted.get(("ok", 200)) == _VISITS - 1,
            "the exception, which has none, is not": all(outcome == "ok" for outcome, _ in counted),
        }
        return Told(Reply(reply.status, _strip(reply.json), reply.trouble), facts)

    def _by_trigger(self) -> Told:
        reply, counted = self._count(EVENT, TRIGGER)
        return Told(
            Reply(reply.status, _strip(reply.json), reply.trouble),
            {"the one that threw": counted.get(("fetch", "GET /throw")) == 1},
        )

    def _filter(self) -> Told:
        reply, unlike = self._count(filters=[Filter(MODEL, "durableObject", "neq")])
        _, without = self._count(filters=[Filter(PROBE, "", "is_null")])
        facts = {
            "neq keeps all of another value": sum(unlike.values()) == _VISITS,
            "is_null keeps what lacks the header": sum(without.values()) == _VISITS - 1,
        }
        return Told(Reply(reply.status, _strip(reply.json), reply.trouble), facts)

    def _probes(self) -> Told:
        reply, ours = self._count(filters=[Filter(PROBE_ID, self._probe)])
        _, by_model = self._count(MODEL, filters=[Filter(PROBE, "1")])
        facts = {"by their id": sum(ours.values()) == 1, "and what ran them": by_model == {("stateless",): 1}}
        return Told(Reply(reply.status, _strip(reply.json), reply.trouble), facts)

    def _count(
        self, *keys: str, filters: Sequence[Filter] = ()
    ) -> tuple[Reply, dict[tuple[str | int | None, ...], int]]:
        """Return the answer to a count of all invocations since the visits, and the numbers by the keys' values."""
        until = int(self._scratch.clock.now()) + 1
        body = make_query(self._scratch.script, (min(self._since, until - 1), until), keys, filters)
        reply = self._scratch.call("POST", f"{self._scratch.account}/workers/observability/telemetry/query", body)
        found: dict[_Values, int] = {}
        for each in _list_data(reply):
            groups = list_items(look_up(each, "groups"))
            values = {as_text(look_up(group, "key")): look_up(group, "value") for group in groups}
            named = tuple(_make_plain(values.get(key)) for key in keys)
            found[named] = found.get(named, 0) + (_make_number(look_up(each, "value")) or 0)
        return reply, found

    def _tail(self) -> Told:
        reply = self._open_tail()
        url = look_up(reply.result, "url")
        self._close_tail(reply)
        return Told(reply, {"a websocket": isinstance(url, str) and url.startswith(("ws://", "wss://"))})

    def _unheard(self) -> Told:
        """It is one of the ten that a Worker can have, so it has to go."""
        opened = self._open_tail()
        closed = self._close_tail(opened)
        return Told(closed, {"it would end by itself": as_text(look_up(opened.result, "expires_at")) is not None})

    def _fill(self) -> Told:
        """Open more tails than a Worker can have, and delete them."""
        opened = [self._open_tail() for _ in range(_TAILS + 1)]
        closed = [self._close_tail(each) for each in opened if each.status == _OPENED]
        last = opened[-1]
        facts = {"ten are opened": len(closed) >= _TAILS, "the eleventh is refused": last.status >= _REFUSED}
        return Told(opened[0], facts, {"its status": last.status, "its code": last.code})

    def _open_tail(self) -> Reply:
        return self._scratch.call("POST", f"{self._scratch.base}/tails", {"filters": []})

    def _close_tail(self, opened: Reply) -> Reply:
        tail = get_safe_id(look_up(opened.result, "id"))
        if tail is None:
            return Reply(0, trouble="no tail was opened")
        return self._scratch.call("DELETE", f"{self._scratch.base}/tails/{quote_segment(tail)}")

    def _schedules(self) -> Told:
        path = f"{self._scratch.base}/schedules"
        self._scratch.call("PUT", path, [{"cron": "0 3 * * *"}])
        reply = self._scratch.call("GET", path)
        self._scratch.call("PUT", path, [])
        return Told(reply, {"cron": as_text(look_up(get_first(look_up(reply.result, "schedules")), "cron"))})

    def _routes(self) -> Told:
        service = f"{self._scratch.account}/workers/services/{quote_segment(self._scratch.script)}"
        reply = self._scratch.call("GET", f"{service}/environments/production/routes")
        return Told(reply, {"a list": isinstance(reply.result, list)})

    def _graphql(self) -> Told:
        reply = self._scratch.call("POST", "graphql", {"query": _DIMENSIONS})
        fields = list_items(look_into(reply.json, "data", "__type", "fields"))
        names = {as_text(look_up(field, "name")) for field in fields}
        return Told(reply, {name: name in names for name in ("scriptVersion", "status", "scriptName", "datetime")})

    def _limit(self) -> Told:
        reply = self._scratch.call("GET", f"{self._scratch.base}/schedules")
        left, policy = reply.headers.get("ratelimit", ""), reply.headers.get("ratelimit-policy", "")
        facts = {
            "calls left, and until when": len(_NUMBERS.findall(left)) > 1,
            "1,200 in five minutes": ";q=1200;w=300" in policy.replace(" ", ""),
        }
        return Told(Reply(reply.status, None, reply.trouble), facts)


def _list_data(reply: Reply) -> list[object]:
    calculations = list_items(look_up(reply.result, "calculations"))
    buckets = (bucket for each in calculations for bucket in list_items(look_up(each, "series")))
    return [data for bucket in buckets for data in list_items(look_up(bucket, "data"))]


def _make_plain(value: object) -> str | int | None:
    return value if isinstance(value, str) else _make_number(value)


def _make_number(value: object) -> int | None:
    return round(value) if isinstance(value, int | float) and abs(value) < _MOST else None


def _strip(json: object) -> object:
    """Return an answer of the telemetry without its numbers, which are facts: how it is cut into seconds is chance."""
    return {"success": look_up(json, "success"), "errors": look_up(json, "errors")} if json is not None else None
