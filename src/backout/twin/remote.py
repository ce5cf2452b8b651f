"""Faults, schedules and the database role of a running twin from outside, through its own endpoints."""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from backout.decoding import convert, decode_raw
from backout.errors import BackoutError, ProviderRejected, ProviderUnavailable, UsageError
from backout.twin.home import CLOUDFLARE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.twin.lifecycle import TwinStatus

_TIMEOUT_S = 60.0  # a change of the faults is answered when a service has stopped or started
_LONGEST_RUN_S = 900.0
_HTTP_OK = 200

FaultRecord = dict[str, str | int | float | None]


class _Answer(msgspec.Struct):
    result: object = None
    errors: list[_Mistake] = []


class _Mistake(msgspec.Struct):
    message: str = ""


class ScheduleRecord(msgspec.Struct):
    """The result of a schedule's run: `outcome` is ok, or as a tail shows a failed run; the time is RFC 3339."""

    cron: str
    version: str
    scheduled_at: str
    outcome: str


class _List(msgspec.Struct):
    faults: list[FaultRecord]


def list_faults(twin: TwinStatus) -> tuple[FaultRecord, ...]:
    """Return the active faults, oldest first.

    Raises:
        BackoutError: the twin does not run.
        ProviderUnavailable: it does not answer.
    """
    return tuple(convert(_call(twin, "GET"), _List).faults)


def set_fault(twin: TwinStatus, order: Mapping[str, str | int | float | None]) -> FaultRecord:
    """Switch a fault on and return it; `order` has the keys of `backout.twin.api.twin.FaultOrder`.

    Raises:
        ProviderRejected: the twin knows no such fault.
        BackoutError, ProviderUnavailable: as `list_faults`.
    """
    return convert(_call(twin, "PUT", body={k: v for k, v in order.items() if v is not None}), FaultRecord)


def clear_faults(twin: TwinStatus, kind: str | None = None, target: str | None = None) -> tuple[FaultRecord, ...]:
    """Switch faults off (all, all of a kind, or that kind on that target) and return what was active.

    Raises:
        ProviderRejected: there is no such kind.
        BackoutError, ProviderUnavailable: as `list_faults`.
    """
    query = {name: value for name, value in (("kind", kind), ("target", target)) if value is not None}
    return tuple(convert(_call(twin, "DELETE", query=query), _List).faults)


def run_schedule(twin: TwinStatus, worker: str, cron: str | None = None) -> ScheduleRecord:
    """Run a schedule of a Worker now, its only one where `cron` is None, and return how it went.

    Raises:
        ProviderRejected: no such Worker or schedule.
        BackoutError, ProviderUnavailable: as `list_faults`.
    """
    _must_be_cloudflare(twin, "no schedules: `scheduled` is run by whatever runs timers on your hosts")
    body = {} if cron is None else {"cron": cron}
    return convert(
        _call(twin, "POST", body=body, path=f"schedules/{quote(worker, safe='')}", timeout_s=_LONGEST_RUN_S),
        ScheduleRecord,
    )


def set_database_role(twin: TwinStatus, role: str | None) -> None:
    """Have Hyperdrive log in to the database as a role from now on, None: as the superuser; sessions go on as they are.

    Raises:
        BackoutError, ProviderUnavailable: as `list_faults`.
    """
    _must_be_cloudflare(twin, "no Hyperdrive")
    _call(twin, "PUT", body={"role": role}, path="database")


def _must_be_cloudflare(twin: TwinStatus, has: str) -> None:
    if twin.home != CLOUDFLARE:
        raise UsageError(f"a twin of plain hosts has {has}", where=twin.directory)


def _call(
    twin: TwinStatus,
    method: str,
    *,
    body: Mapping[str, object] | None = None,
    query: Mapping[str, str] | None = None,
    path: str = "faults",
    timeout_s: float = _TIMEOUT_S,
) -> object:
    if not twin.running or twin.control_url is None or twin.api_token_file is None:
        raise BackoutError("the twin is not running", where=twin.directory, hint="backout twin up")
    token = Path(twin.api_token_file).read_text(encoding="ascii").strip()
    control = urlsplit(twin.control_url)
    connection = http.client.HTTPConnection(control.netloc, timeout=timeout_s)
    try:
        target = f"{control.path}/{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request(method, target, body=None if body is None else msgspec.json.encode(body), headers=headers)
        response = connection.getresponse()
        answer = decode_raw(response.read(), _Answer)
    except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
        raise ProviderUnavailable(f"the twin does not answer: {error}", where=twin.control_url) from error
    finally:
        connection.close()
    if response.status != _HTTP_OK:
        what = "; ".join(mistake.message for mistake in answer.errors) or f"status {response.status}"
        raise ProviderRejected(what, status=response.status, where=f"the twin's {path.partition('/')[0]}")
    return answer.result
