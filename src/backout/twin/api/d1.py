"""D1: databases and queries, as `wrangler d1` asks for them: `d1/database`.

An id that nobody made here is a database all the same, so that a configuration with the ids of the cloud works.
Source: Cloudflare API reference, "D1"; wrangler 4.164 (7502: the name is taken; a database is shown by id or name).
"""

from __future__ import annotations

import re
import time
import uuid
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from backout.decoding import convert
from backout.twin.api.answers import ApiError, format_rfc3339, make_page_info, read_json_object, render_result
from backout.twin.api.context import get_context
from backout.twin.control.records import D1Record
from backout.twin.database.d1 import D1Error
from backout.twin.database.d1_http import Query, render_one

if TYPE_CHECKING:
    from backout.twin.control.records import ApiObject

_UUID = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}")


class _Asked(msgspec.Struct):
    sql: str | None = None
    params: list[int | float | str | bool | list[int] | None] | None = None
    batch: list[Query] = []


def make_routes(account: str) -> list[web.RouteDef]:
    """Return the routes under the path of the account."""
    databases = account + "/d1/database"
    return [
        web.get(databases, list_databases),
        web.post(databases, create_database),
        web.get(databases + "/{database}", get_database),
        web.delete(databases + "/{database}", delete_database),
        web.post(databases + "/{database}/{action:query|raw}", query_database),
    ]


async def list_databases(request: web.Request) -> web.Response:
    """List the databases that were made here, those of a `name` alone where one is given; one page has all."""
    wanted = request.query.get("name")
    found = [each for each in get_context(request).control.state.d1_databases() if wanted in (None, each.name)]
    listed = found if request.query.get("page", "1") == "1" else []
    return render_result([_describe(each) for each in listed], info=make_page_info(len(found), len(listed)))


async def create_database(request: web.Request) -> web.Response:
    """Make a database.

    Raises:
        ApiError: 400 without a name, or with one that is taken (7502; its status is a guess).
    """
    state = get_context(request).control.state
    name = (await read_json_object(request)).get("name")
    if not isinstance(name, str) or not name:
        raise ApiError(400, 7400, "A database needs a name.")
    if any(each.name == name for each in state.d1_databases()):
        raise ApiError(400, 7502, f"A database with the name {name} already exists.")
    made = D1Record(str(uuid.uuid4()), name, time.time())
    state.save_d1_database(made)
    return render_result(_describe(made))


async def get_database(request: web.Request) -> web.Response:
    """Show one, by its id or its name."""
    return render_result(_describe(_find(request)))


async def delete_database(request: web.Request) -> web.Response:
    """Forget one with all that is in it."""
    ctx, found = get_context(request), _find(request)
    await ctx.d1.delete(found.id)
    ctx.control.state.delete_d1_database(found.id)
    return render_result(None)


async def query_database(request: web.Request) -> web.Response:
    """Run a query, perhaps of several statements, or a batch of them, as one transaction; a result for each statement.

    Raises:
        ApiError: 400 for what is no query or fails (7500).
    """
    try:
        asked = convert(await read_json_object(request), _Asked)
        queries = asked.batch if asked.sql is None else [Query(asked.sql, asked.params)]
        statements = [each.make_statement() for each in queries]
        found = await get_context(request).d1.run(_find(request).id, statements)
    except (msgspec.ValidationError, ValueError, D1Error) as error:
        raise ApiError(400, 7500, str(error)) from error
    raw = request.match_info["action"] == "raw"
    return render_result([render_one(result, raw=raw) for results in found for result in results])


def _find(request: web.Request) -> D1Record:
    wanted = request.match_info["database"]
    known = get_context(request).control.state.d1_databases()
    found = next((each for each in known if wanted in (each.id, each.name)), None)
    if found is not None:
        return found
    if _UUID.fullmatch(wanted):
        return D1Record(wanted, wanted, time.time())
    raise ApiError(404, 7404, f"The database {wanted} could not be found")


def _describe(database: D1Record) -> ApiObject:
    return {
        "uuid": database.id,
        "name": database.name,
        "created_at": format_rfc3339(database.created_at),
        "version": "production",
    }
