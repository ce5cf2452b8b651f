"""The twin's own endpoints beside Cloudflare's: its status and its faults."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from backout.decoding import convert
from backout.errors import BackoutError, UsageError
from backout.model.value import Value
from backout.twin.api.answers import ApiError, format_rfc3339, read_json_object, render_result
from backout.twin.api.context import get_context, get_script_name
from backout.twin.faults import Fault, FaultKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from backout.twin.control.records import ApiObject
    from backout.twin.faults import Faults

STATUS: web.AppKey[Callable[[], ApiObject]] = web.AppKey("status")
"""What `/status` answers."""


class FaultTools(Value, frozen=True):
    """What the endpoints of faults work with.

    Args:
        faults: the registry.
        apply: returns when the services are as the active faults say.
        kinds: those that this twin can have.
    """

    faults: Faults
    apply: Callable[[], Awaitable[None]]
    kinds: tuple[FaultKind, ...] = tuple(FaultKind)

    def set(self, fault: Fault, duration_s: float | None) -> Fault:
        """Switch one on. Raises UsageError: it is none of these kinds, or as `Faults.set`."""
        if fault.kind not in self.kinds:
            raise UsageError(f"there is no {fault.kind} here; this twin has {' and '.join(self.kinds)}")
        return self.faults.set(fault, duration_s=duration_s)


FAULTS: web.AppKey[FaultTools] = web.AppKey("faults")


class FaultOrder(Value, frozen=True):
    """The body that switches a fault on; missing fields keep the fault's own defaults."""

    kind: FaultKind
    target: str | None = None
    share: float | None = None
    latency_ms: float | None = None
    status: int | None = None
    retry_after_s: float | None = None
    duration_s: float | None = None


def make_routes(twin: str) -> list[web.RouteDef]:
    """Return the routes under the own root of a twin of Cloudflare."""
    return [
        *make_common_routes(twin),
        web.post(twin + "/schedules/{script}", run_schedule),
        web.put(twin + "/database", set_database_role),
    ]


def make_common_routes(twin: str) -> list[web.RouteDef]:
    """Return the routes that every twin has, for an application with `STATUS` and `FAULTS`."""
    return [
        web.get(twin + "/status", get_status),
        web.get(twin + "/faults", list_faults),
        web.put(twin + "/faults", set_fault),
        web.delete(twin + "/faults", clear_faults),
    ]


async def get_status(request: web.Request) -> web.Response:
    """Show what the daemon knows about itself."""
    return render_result(request.config_dict[STATUS]())


async def list_faults(request: web.Request) -> web.Response:
    """List the active faults."""
    return render_result({"faults": [_describe(fault) for fault in _get_tools(request).faults.active()]})


async def set_fault(request: web.Request) -> web.Response:
    """Switch a fault on: the fields of `Fault` that a caller may choose, and `duration_s`; answer when it is on.

    Raises:
        ApiError: 400 for a field that it cannot have, 500 when a service does not stop or start.
    """
    body = await read_json_object(request)
    tools = _get_tools(request)
    try:
        order = convert(body, FaultOrder)
        default = Fault(order.kind)
        fault = Fault(
            order.kind,
            target=order.target,
            share=default.share if order.share is None else order.share,
            latency_ms=default.latency_ms if order.latency_ms is None else order.latency_ms,
            status=default.status if order.status is None else order.status,
            retry_after_s=default.retry_after_s if order.retry_after_s is None else order.retry_after_s,
        )
        stored = tools.set(fault, order.duration_s)
    except (msgspec.ValidationError, UsageError) as error:
        raise ApiError(400, 10026, str(error)) from error
    await _apply_faults(request)
    return render_result(_describe(stored))


async def clear_faults(request: web.Request) -> web.Response:
    """Switch faults off: all, or those of `?kind=`, or of `?kind=&target=`; answer what was active, once it is over.

    Raises:
        ApiError: 400 when no kind is called that, 500 when a service does not stop or start.
    """
    kind = request.query.get("kind")
    if kind is not None and kind not in set(FaultKind):
        raise ApiError(400, 10026, f"No kind of fault is called {kind!r}.")
    target = request.query.get("target") or None
    cleared = _get_tools(request).faults.clear(None if kind is None else FaultKind(kind), target)
    await _apply_faults(request)
    return render_result({"faults": [_describe(fault) for fault in cleared]})


def _get_tools(request: web.Request) -> FaultTools:
    return request.config_dict[FAULTS]


async def _apply_faults(request: web.Request) -> None:
    try:
        await _get_tools(request).apply()
    except BackoutError as error:
        raise ApiError(500, 10001, str(error)) from error


async def run_schedule(request: web.Request) -> web.Response:
    """Run a schedule of a Worker now, to its end: `{"cron": ...}`, or its only one; answer how it went.

    Raises:
        ApiError: 400 when it is none of the schedules, or nothing of the Worker is live; 404 without the Worker.
    """
    ctx = get_context(request)
    script = ctx.control.script(get_script_name(request))
    wanted = (await read_json_object(request)).get("cron")
    if wanted is None and len(script.crons) == 1:
        wanted = script.crons[0]
    if wanted not in script.crons:
        raise ApiError(400, 10026, f"The schedules of {script.name} are: {', '.join(script.crons) or 'none'}.")
    run = await ctx.schedules.run_schedule(script.name, str(wanted), time.time())
    if run is None:
        raise ApiError(400, 10026, f"Nothing of {script.name} is live.")
    return render_result(
        {
            "cron": run.cron,
            "version": run.version,
            "scheduled_at": format_rfc3339(run.scheduled_at),
            "outcome": run.outcome,
        }
    )


async def set_database_role(request: web.Request) -> web.Response:
    """Have Hyperdrive log in to the database as a role from now on: `{"role": ...}`, null: the superuser.

    Raises:
        ApiError: 400 when it is no name.
    """
    role = (await read_json_object(request)).get("role")
    if role is not None and (not isinstance(role, str) or not role):
        raise ApiError(400, 10026, "`role` is the name of a role, or null.")
    get_context(request).set_database_role(role)
    return render_result({"role": role})


def _describe(fault: Fault) -> ApiObject:
    return {
        "id": fault.id,
        "kind": fault.kind.value,
        "target": fault.target,
        "share": fault.share,
        "latency_ms": fault.latency_ms,
        "status": fault.status,
        "retry_after_s": fault.retry_after_s,
        "set_at": format_rfc3339(fault.set_at),
        "expires_at": None if fault.expires_at is None else format_rfc3339(fault.expires_at),
    }
