"""The calls of a first contact about what a recovery changes: maintenance, queues' delivery, Hyperdrive's caching.

Each is about a thing of its own: the Worker, a queue without messages of anyone, and, where a database was named, a
Hyperdrive configuration for it. The last two are deleted after the calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.model.version import MAINTENANCE_TAG
from backout.providers.cloudflare.conformance.reply import (
    Call,
    Reply,
    Told,
    as_number,
    as_text,
    get_safe_id,
    list_items,
    look_into,
    look_up,
)
from backout.providers.cloudflare.conformance.scratch import REACHED_S
from backout.providers.cloudflare.maintenance import RETRY_AFTER_S, render_code

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.providers.cloudflare.conformance.scratch import Scratch

FILE, CONTENT = "/kept.txt", "kept\n"
_UNAVAILABLE, _OK = 503, 200
_MADE: Final = range(200, 300)
"""Any of these made it: what is made and not noted would be left behind."""
_DELAY_S, _FRESH_S, _STALE_S = 3, 30, 5
"""A queue's delivery delay, and a configuration's own durations: none is the default."""
_MOST_PAGES, _PORT = 20, 5432
_MAINTENANCE: Final = ("a version whose upload names no static files",)
_QUEUE: Final = ("`PATCH queues/{id}` changes only",)
_CACHE: Final = ("Hyperdrive's own durations",)


class Recovering:
    """The calls, in their order.

    Args:
        scratch: the Worker, with no Durable Object yet.
        database: returns host, port, user, password and dbname of a database that Hyperdrive can reach; None: nothing
            is asked of Hyperdrive.
    """

    def __init__(self, scratch: Scratch, database: Callable[[], Mapping[str, str]] | None) -> None:
        self._scratch = scratch
        self._database = database
        self._queues = f"{scratch.account}/queues"
        self._configs = f"{scratch.account}/hyperdrive/configs"
        self._queue: str | None = None
        self._config: str | None = None

    @property
    def calls(self) -> tuple[Call, ...]:
        """Those that can be made."""
        of_caches = (
            Call("query cache", "can a Hyperdrive configuration be made?", self._make_cache, _CACHE),
            Call("query cache off", "is its caching off once that is set?", self._turn_off, _CACHE),
            Call("query cache on", "and on again, with its own durations?", self._turn_on, _CACHE),
        )
        return (
            Call("static file", "is a file of a version answered?", self._upload_file, _MAINTENANCE),
            Call("maintenance version", "does one without files answer 503 to all?", self._maintain, _MAINTENANCE),
            Call("paused queue", "is a queue paused, and nothing else of it changed?", self._pause, _QUEUE),
            Call("queue's consumer", "does the list of queues name who consumes one?", self._consume, _QUEUE),
            *(of_caches if self._database is not None else ()),
        )

    def _upload_file(self) -> Told:
        session = self._scratch.upload_file(FILE, CONTENT)
        assets = {"jwt": as_text(look_up(session.result, "jwt")) or "missing"}
        reply = self._scratch.upload("PUT", self._scratch.base, "with a file", assets=assets)
        return Told(reply, {"it is answered": self._visit_until(_OK if reply.status == _OK else 0, FILE).status == _OK})

    def _maintain(self) -> Told:
        """Upload what `backout recover` uploads, make it live, and ask for everything."""
        annotations = {"workers/message": "maintenance", "workers/tag": MAINTENANCE_TAG}
        made = self._scratch.upload(
            "POST",
            f"{self._scratch.base}/versions",
            "closed",
            code=render_code(()),
            query="bindings_inherit=strict",
            annotations=annotations,
        )
        version = get_safe_id(look_up(made.result, "id"))
        body = {"strategy": "percentage", "versions": [{"version_id": version or "missing", "percentage": 100}]}
        reply = self._scratch.call("POST", f"{self._scratch.base}/deployments", body)
        answered = self._visit_until(_UNAVAILABLE if reply.status == _OK else 0, "/")
        listed = self._scratch.call("GET", f"{self._scratch.base}/versions", query="deployable=true").result
        tags = {
            as_text(look_into(each, "annotations", "workers/tag"))
            for each in list_items(look_up(listed, "items"))
            if version and look_up(each, "id") == version
        }
        facts = {
            "it answers 503": answered.status == _UNAVAILABLE,
            "and when to come back": answered.headers.get("retry-after") == str(RETRY_AFTER_S),
            "no file of before is answered": self._visit_until(_UNAVAILABLE, FILE).status == _UNAVAILABLE,
            "its tag is listed": tags == {MAINTENANCE_TAG},
        }
        return Told(reply, facts)

    def _visit_until(self, status: int, path: str) -> Reply:
        """Return the Worker's answer once it has a status, the last one after half a minute; 0: the first one."""
        for reply in self._scratch.keep_visiting(REACHED_S if status else 0.0, {}, path):
            if reply.status == status:
                break
        return reply

    def _pause(self) -> Told:
        made = self._scratch.call("POST", self._queues, {"queue_name": self._scratch.script})
        queue = self._note_thing(made, "queue_name", "queue_id")
        if queue is None:
            return Told(made, {"it is paused": False, "its other settings stay": False})
        self._queue, path = queue, f"{self._queues}/{queue}"
        self._scratch.things[path] = f"the queue {self._scratch.script}"
        self._scratch.call("PATCH", path, {"settings": {"delivery_delay": _DELAY_S}})
        reply = self._scratch.call("PATCH", path, {"settings": {"delivery_paused": True}})
        settings = look_up(self._scratch.call("GET", path).result, "settings")
        facts = {
            "it is paused": look_up(settings, "delivery_paused") is True,
            "its other settings stay": look_up(settings, "delivery_delay") == _DELAY_S,
        }
        return Told(reply, facts)

    def _note_thing(self, made: Reply, name: str, key: str) -> str | None:
        """Return the id of what was made; None where the answer does not say that it is ours."""
        is_ours = made.status in _MADE and look_up(made.result, name) == self._scratch.script
        return get_safe_id(look_up(made.result, key)) if is_ours else None

    def _consume(self) -> Told:
        if self._queue is None:
            return Told(Reply(0, trouble="there is no queue"))
        consumers = f"{self._queues}/{self._queue}/consumers"
        made = self._scratch.call("POST", consumers, {"type": "worker", "script_name": self._scratch.script})
        sent = self._scratch.call("POST", f"{self._queues}/{self._queue}/messages", {"body": "x"})
        reply, listed = self._find_queue()
        names = {
            as_text(look_up(each, name))
            for each in list_items(look_up(listed, "consumers"))
            for name in ("script", "script_name")
        }
        backlog = look_up(self._scratch.call("GET", f"{self._queues}/{self._queue}/metrics").result, "backlog_count")
        consumer = get_safe_id(look_up(made.result, "consumer_id"))
        if consumer is not None:
            self._scratch.call("DELETE", f"{consumers}/{consumer}")
        named = {name: look_up(listed, name) for name in ("queue_id", "queue_name")}
        shown = {"success": look_up(reply.json, "success"), "result": [named]}  # the others are the account's own
        facts = {"it is named": self._scratch.script in names, "a paused one takes a message": sent.status == _OK}
        return Told(Reply(reply.status, shown, reply.trouble), facts, {"waiting, a moment later": as_number(backlog)})

    def _find_queue(self) -> tuple[Reply, object]:
        """Return the page of the list that has the queue, and the queue."""
        for page in range(1, _MOST_PAGES + 1):
            reply = self._scratch.call("GET", self._queues, query=f"page={page}" if page > 1 else "")
            listed = list_items(reply.result)
            found = next((each for each in listed if look_up(each, "queue_id") == self._queue), None)
            if found is not None or not listed:
                break
        return reply, found

    def _make_cache(self) -> Told:
        given = self._database() if self._database is not None else {}
        port = given.get("port", "")
        origin = {
            "scheme": "postgres",
            "host": given.get("host", ""),
            "port": int(port) if port.isdecimal() else _PORT,
            "database": given.get("dbname", ""),
            "user": given.get("user", ""),
            "password": given.get("password", ""),
        }
        body = {"name": self._scratch.script, "origin": origin, "caching": _render_caching()}
        reply = self._scratch.call("POST", self._configs, body)
        self._config = self._note_thing(reply, "name", "id")
        if self._config is not None:
            path = f"{self._configs}/{self._config}"
            self._scratch.things[path] = f"the Hyperdrive configuration {self._scratch.script}"
        return Told(reply, {"its own durations": _has_durations(self._read_cache())})

    def _turn_off(self) -> Told:
        before = look_into(self._read_cache(), "origin", "host")
        reply = self._change_cache({"disabled": True})
        now = self._read_cache()
        facts = {
            "it is off": look_into(now, "caching", "disabled") is True,
            "the origin stays": before is not None and look_into(now, "origin", "host") == before,
        }
        return Told(reply, facts, {"its durations are kept": _has_durations(now)})

    def _turn_on(self) -> Told:
        reply = self._change_cache(_render_caching())
        now = self._read_cache()
        is_on = look_into(now, "caching", "disabled") is not True
        return Told(reply, {"it is on, with its own durations": is_on and _has_durations(now)})

    def _change_cache(self, caching: dict[str, object]) -> Reply:
        if self._config is None:
            return Reply(0, trouble="there is no configuration")
        return self._scratch.call("PATCH", f"{self._configs}/{self._config}", {"caching": caching})

    def _read_cache(self) -> object:
        return self._scratch.call("GET", f"{self._configs}/{self._config}").result if self._config else None


def _render_caching() -> dict[str, object]:
    return {"disabled": False, "max_age": _FRESH_S, "stale_while_revalidate": _STALE_S}


def _has_durations(config: object) -> bool:
    caching = look_up(config, "caching")
    return (look_up(caching, "max_age"), look_up(caching, "stale_while_revalidate")) == (_FRESH_S, _STALE_S)
