"""Queues: answers of the API alone, for what was told to it; nothing is delivered.

Sources, read 2026-12-01: API reference "Queues" (PATCH changes what it names), documentation "Pause and Purge". Kept in
memory: a twin that is started again has none.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

from aiohttp import web

from backout.twin.api.answers import ApiError, format_rfc3339, make_page_info, read_json_object, render_result

if TYPE_CHECKING:
    from backout.twin.control.records import ApiObject

QUEUES: web.AppKey[dict[str, ApiObject]] = web.AppKey("queues")
"""What was told, by id."""
_SETTINGS: ApiObject = {"delivery_delay": 0, "delivery_paused": False, "message_retention_period": 345_600}
_BACKLOG = "backlog"


def make_routes(account: str) -> list[web.RouteDef]:
    """Return the routes under the path of the account."""
    queues, queue = account + "/queues", account + "/queues/{queue}"
    return [
        web.get(queues, list_queues),
        web.post(queues, create_queue),
        web.get(queue, get_queue),
        web.patch(queue, change_queue),
        web.delete(queue, delete_queue),
        web.get(queue + "/metrics", get_metrics),
        web.post(queue + "/consumers", create_consumer),
        web.delete(queue + "/consumers/{consumer}", delete_consumer),
        web.post(queue + "/messages", push_message),
    ]


async def list_queues(request: web.Request) -> web.Response:
    """List the queues; as the list has it, without their settings."""
    found = [_show(queue) for queue in request.app[QUEUES].values()]
    listed = [{name: value for name, value in queue.items() if name != "settings"} for queue in found]
    return render_result(listed, info=make_page_info(len(listed), len(listed)))


async def create_queue(request: web.Request) -> web.Response:
    """Create one. Raises ApiError: 400 without a name."""
    body = await read_json_object(request)
    name, settings = body.get("queue_name"), body.get("settings")
    if not isinstance(name, str) or not name:
        raise ApiError(400, 11_003, "A queue needs a name.")
    now = format_rfc3339(time.time())
    own = settings if isinstance(settings, dict) else {}
    made: ApiObject = {
        "queue_id": uuid.uuid4().hex,
        "queue_name": name,
        "created_on": now,
        "modified_on": now,
        "producers": [],
        "consumers": [],
        "settings": {**_SETTINGS, **own},
        _BACKLOG: 0,
    }
    request.app[QUEUES][str(made["queue_id"])] = made
    return render_result(_show(made))


async def get_queue(request: web.Request) -> web.Response:
    """Show one."""
    return render_result(_show(_find(request)))


async def change_queue(request: web.Request) -> web.Response:
    """Change what the body names."""
    queue, body = _find(request), await read_json_object(request)
    settings, own = body.get("settings"), queue["settings"]
    if isinstance(settings, dict) and isinstance(own, dict):
        queue["settings"] = {**own, **settings}
    queue["modified_on"] = format_rfc3339(time.time())
    return render_result(_show(queue))


async def delete_queue(request: web.Request) -> web.Response:
    """Forget one."""
    del request.app[QUEUES][str(_find(request)["queue_id"])]
    return render_result(None)


async def get_metrics(request: web.Request) -> web.Response:
    """Show how many messages wait."""
    waiting = _find(request)[_BACKLOG]
    return render_result({"backlog_count": waiting, "backlog_bytes": 0, "oldest_message_timestamp_ms": 0})


async def create_consumer(request: web.Request) -> web.Response:
    """Add a consumer: a Worker by its name, or pulls."""
    queue, body = _find(request), await read_json_object(request)
    made = {**body, "consumer_id": uuid.uuid4().hex, "queue_name": queue["queue_name"]}
    consumers = queue["consumers"]
    assert isinstance(consumers, list)
    consumers.append(made)
    return render_result(made)


async def delete_consumer(request: web.Request) -> web.Response:
    """Forget a consumer. Raises ApiError: 404 for one that is not there."""
    consumers, wanted = _find(request)["consumers"], request.match_info["consumer"]
    assert isinstance(consumers, list)
    kept = [each for each in consumers if each["consumer_id"] != wanted]
    if len(kept) == len(consumers):
        raise ApiError(404, 11_004, "consumer not found")
    consumers[:] = kept
    return render_result(None)


async def push_message(request: web.Request) -> web.Response:
    """Take a message, which nothing delivers."""
    queue = _find(request)
    waiting = queue[_BACKLOG]
    assert isinstance(waiting, int)
    queue[_BACKLOG] = waiting + 1
    return render_result(None)


def _show(queue: ApiObject) -> ApiObject:
    consumers, producers = queue["consumers"], queue["producers"]
    assert isinstance(consumers, list)
    assert isinstance(producers, list)
    totals = {"consumers_total_count": len(consumers), "producers_total_count": len(producers)}
    return {**{name: value for name, value in queue.items() if name != _BACKLOG}, **totals}


def _find(request: web.Request) -> ApiObject:
    found = request.app[QUEUES].get(request.match_info["queue"])
    if found is None:  # the number is that of wrangler's tests
        raise ApiError(404, 11_000, "queue not found")
    return found
