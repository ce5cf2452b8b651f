"""The application of a trial in staging, over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from backout.decoding import Undecodable, decode_lossily
from backout.model.database.certificate import TrialAnswer
from backout.providers.exchange import Connection, ExchangeError, Limits, Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.model.database.certificate import TrialRequest

_LIMITS: Final = Limits(read_s=30.0, total_s=30.0, body_bytes=4 * 1024 * 1024)
_NOT_SEALED: Final = "calls to the outside: staging's code made them, and none was refused"


class StagingApplication:
    """Port TrialApplication on an environment of the team's own.

    Args:
        url: of its health endpoint, on the host that requests go to.
        headers: sent with each request; those of a request come before.
        switch: makes "old" or "new" live, and returns when requests reach it.
        find_gap: returns what else is not seen, "" where there is nothing.
        check_held: raises BackoutError where the place is not this trial's any more; asked before each request, which
            would otherwise write to the team's own database.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        switch: Callable[[str], None],
        find_gap: Callable[[], str],
        check_held: Callable[[], None],
    ) -> None:
        origin = urlsplit(url)._replace(path="/", query="").geturl()
        self._connection = Connection(Origin.of(origin), _LIMITS)
        self._headers = headers
        self._switch = switch
        self._find_gap = find_gap
        self._check_held = check_held
        self._reads: list[TrialRequest] = []
        self._is_reading = False

    def switch(self, version: str) -> None:
        """Make "old" or "new" live, and return when requests reach it. Raises BackoutError when it does not start."""
        self._switch(version)
        self._reads, self._is_reading = [], True

    def send(self, request: TrialRequest, number: int) -> TrialAnswer:
        """Send a request and return its answer. Raises BackoutError: another trial may have the place."""
        self._is_reading = self._is_reading and request.method == "GET"
        if self._is_reading:
            self._reads.append(request)
        status, body = self._exchange(request)
        return TrialAnswer(number, status, _parse(body))

    def list_refused(self) -> tuple[str, ...]:
        """Return that none was refused, and what was not seen for another reason."""
        gap = self._find_gap()
        return (_NOT_SEALED, gap) if gap else (_NOT_SEALED,)

    def read_again(self) -> tuple[object, ...]:
        """Send the GET requests with which the last phase began, and return their answers."""
        return tuple(self._exchange(request) for request in self._reads)

    def _exchange(self, request: TrialRequest) -> tuple[int | None, bytes]:
        self._check_held()
        headers = {**self._headers, **request.headers}
        body: bytes | None = None
        if isinstance(request.body, str):
            body = request.body.encode()
        elif request.body is not None:
            body = msgspec.json.encode(request.body)
            headers.setdefault("content-type", "application/json")
        try:
            answer = self._connection.exchange(request.method, request.path, headers=headers, body=body)
        except (ExchangeError, ValueError):
            return None, b""
        return answer.status, answer.body


def _parse(body: bytes) -> object:
    try:
        return decode_lossily(body)
    except Undecodable:
        return None
