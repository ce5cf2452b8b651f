"""Tails: register one, open its websocket, end it; the events come from the data plane."""

from __future__ import annotations

from aiohttp import web

from backout.twin.api.answers import ApiError, format_rfc3339, read_json, render_result
from backout.twin.api.context import get_context, get_script_name
from backout.twin.dataplane.tail import MOST_SESSIONS, TooManyTails

SOCKET_PATH = "/client/v4/tail-sockets"


def make_routes(scripts: str) -> list[web.RouteDef]:
    """Return the routes under the path of all scripts, and the websockets'."""
    return [
        web.post(scripts + "/{script}/tails", open_tail),
        web.delete(scripts + "/{script}/tails/{tail}", close_tail),
        web.get(SOCKET_PATH + "/{tail}", serve_tail),
    ]


async def open_tail(request: web.Request) -> web.Response:
    """Register a tail with wrangler's filters.

    Raises:
        ApiError: 400 where the Worker has ten already (its number and its words are a guess).
    """
    ctx = get_context(request)
    name = ctx.control.script(get_script_name(request)).name
    body = await read_json(request) if request.can_read_body else {}
    filters = body.get("filters") if isinstance(body, dict) else None
    try:
        session = await ctx.tails.open_tail(name, filters if isinstance(filters, list) else [])
    except TooManyTails as error:
        raise ApiError(400, 10057, f"A maximum of {MOST_SESSIONS} clients can tail this Worker at a time.") from error
    url = f"{ctx.socket_url}{SOCKET_PATH}/{session.id}"
    return render_result({"id": session.id, "url": url, "expires_at": format_rfc3339(session.expires_at)})


async def close_tail(request: web.Request) -> web.Response:
    """End a tail."""
    await get_context(request).tails.close_tail(request.match_info["tail"])
    return render_result(None)


async def serve_tail(request: web.Request) -> web.StreamResponse:
    """Serve the events; the id in the path is the permission, as on Cloudflare."""
    return await get_context(request).tails.tail_socket(request, request.match_info["tail"])
