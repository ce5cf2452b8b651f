"""Switching faults on a running twin from outside, through its own endpoint."""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import msgspec

from backout.errors import BackoutError, ProviderRejected, ProviderUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.twin.lifecycle import TwinStatus

_TIMEOUT_S = 10.0
_HTTP_OK = 200

FaultRecord = dict[str, str | int | float | None]


class _Answer(msgspec.Struct):
    result: object = None
    errors: list[_Mistake] = []


class _Mistake(msgspec.Struct):
    message: str = ""


class _List(msgspec.Struct):
    faults: list[FaultRecord]


def faults(twin: TwinStatus) -> tuple[FaultRecord, ...]:
    """Return the active faults, oldest first.

    Raises:
        BackoutError: the twin does not run. ProviderUnavailable: it does not answer.
    """
    return tuple(msgspec.convert(_call(twin, "GET"), _List).faults)


def set_fault(twin: TwinStatus, order: Mapping[str, str | int | float | None]) -> FaultRecord:
    """Switch a fault on and return it; `order` has the keys of `backout.twin.api_twin.FaultOrder`.

    Raises:
        ProviderRejected: the twin knows no such fault. BackoutError, ProviderUnavailable: as `faults`.
    """
    return msgspec.convert(_call(twin, "PUT", body={k: v for k, v in order.items() if v is not None}), FaultRecord)


def clear_faults(twin: TwinStatus, kind: str | None = None, target: str | None = None) -> tuple[FaultRecord, ...]:
    """Switch faults off (all, all of a kind, or that kind on that target) and return what was active.

    Raises:
        ProviderRejected: there is no such kind. BackoutError, ProviderUnavailable: as `faults`.
    """
    query = {name: value for name, value in (("kind", kind), ("target", target)) if value is not None}
    return tuple(msgspec.convert(_call(twin, "DELETE", query=query), _List).faults)


def _call(
    twin: TwinStatus, method: str, *, body: Mapping[str, object] | None = None, query: Mapping[str, str] | None = None
) -> object:
    if not twin.running or twin.api_base_url is None or twin.api_token_file is None:
        raise BackoutError("the twin is not running", where=twin.directory, hint="backout twin up")
    token = Path(twin.api_token_file).read_text(encoding="ascii").strip()
    connection = http.client.HTTPConnection(urlsplit(twin.api_base_url).netloc, timeout=_TIMEOUT_S)
    try:
        path = "/twin/v1/faults" + (f"?{urlencode(query)}" if query else "")
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request(method, path, body=None if body is None else msgspec.json.encode(body), headers=headers)
        response = connection.getresponse()
        answer = msgspec.json.decode(response.read(), type=_Answer)
    except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
        raise ProviderUnavailable(f"the twin does not answer: {error}", where=twin.api_base_url) from error
    finally:
        connection.close()
    if response.status != _HTTP_OK:
        what = "; ".join(mistake.message for mistake in answer.errors) or f"status {response.status}"
        raise ProviderRejected(what, status=response.status, where="the twin's faults")
    return answer.result
