"""What workerd's D1 binding asks over HTTP: `POST /query` and `POST /execute` with one query or a list of them.

Source: workerd 1.20261117.1, its module `cloudflare-internal:d1-api`: {sql, params}, `resultsFormat` in the address,
and as an answer {success, results, meta} for each, or {success: false, error}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from backout.decoding import decode_raw
from backout.twin.database.d1 import D1Error, Statement

if TYPE_CHECKING:
    from backout.twin.database.d1 import Cell, D1Databases, Result

JSON = "application/json"


class Query(msgspec.Struct):
    """One query as it is sent; bytes are a list of numbers."""

    sql: str
    params: list[int | float | str | bool | list[int] | None] | None = None

    def make_statement(self) -> Statement:
        """Return it with the values that SQLite takes."""
        return Statement(self.sql, tuple(bytes(each) if isinstance(each, list) else each for each in self.params or ()))


async def answer_binding(request: web.Request, databases: D1Databases, database: str) -> web.Response:
    """Answer a query of a Worker."""
    try:
        asked = decode_raw(await request.read(), Query | list[Query])  # type: ignore[arg-type]
        queries = asked if isinstance(asked, list) else [asked]
        found = await databases.run(database, [each.make_statement() for each in queries])
    except (msgspec.MsgspecError, ValueError, D1Error) as error:
        return _render({"success": False, "error": str(error)})
    results = [render_one(each[-1], raw=request.query.get("resultsFormat") == "ROWS_AND_COLUMNS") for each in found]
    return _render(results if isinstance(asked, list) else results[0])


def render_one(result: Result, *, raw: bool) -> dict[str, object]:
    """Return one result as D1 answers it; `raw`: columns and rows in place of objects."""
    rows = [[_render_cell(cell) for cell in row] for row in result.rows]
    objects = [dict(zip(result.columns, row, strict=True)) for row in rows]
    found = {"columns": result.columns, "rows": rows} if raw else objects
    return {"success": True, "results": found, "meta": result.meta}


def _render_cell(cell: Cell) -> object:
    return list(cell) if isinstance(cell, bytes) else cell


def _render(body: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type=JSON)
