"""The Durable Object of a flight recorder, asked through its Worker: requests and answers are signed.

`GET /backout/SCRIPT?since=SECOND&after=NUMBER` answers what came from that second on, after the part with that number;
`catalogue/recorder/object.js` is the other side. A part gets more as long as its second lasts, so it is asked for again
until that is over.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from backout import __version__
from backout.decoding import Undecodable, decode_json
from backout.errors import AuthError, ConfigError, ProviderRejected, ProviderUnavailable
from backout.providers.exchange import Connection, ExchangeError, Limits, Origin
from backout.providers.recorder.batches import PREFIX, Batch, Unusable, compute_signature, open_signed
from backout.providers.recorder.traffic import QUICK, Found, Stored, Word
from backout.providers.retry import CallFailed, retry_after_s, retry_call

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.ports import Clock
    from backout.providers.exchange import Answer, Exchanging
    from backout.providers.retry import Retry

_OK, _UNAUTHORIZED, _NOT_FOUND, _TOO_MANY, _SERVER_ERROR = 200, 401, 404, 429, 500
_LIMITS: Final = Limits(connect_s=2.0, read_s=5.0, total_s=5.0)
_MOST_PAGES: Final = 5000
_LONGEST_READING_S: Final = 60.0

_Moment = Annotated[int, msgspec.Meta(ge=0, le=1 << 44)]


class _Part(Batch, frozen=True, kw_only=True):
    id: _Moment
    second: _Moment


class _Isolate(msgspec.Struct, frozen=True):
    stored: _Moment
    version: str
    until: _Moment


class _Page(msgspec.Struct, frozen=True):
    parts: tuple[_Part, ...]
    now: _Moment
    more: bool
    isolates: tuple[_Isolate, ...]


class ObjectSink:
    """The counts of one script in the object; what was read is kept, so that a watch asks only for what is new.

    Args:
        url: the recorder's own address, `https://shop-recorder.example.workers.dev`.
        script: the Worker whose answers are counted.
        keys: the signing keys; the recorder has one of them.
        clock: ours.
        retry: of one request.
        connection: None makes one.

    Raises:
        ConfigError: the URL cannot be used.
    """

    def __init__(
        self,
        url: str,
        script: str,
        keys: tuple[bytes, ...],
        clock: Clock,
        *,
        retry: Retry = QUICK,
        connection: Exchanging | None = None,
    ) -> None:
        try:
            origin = Origin.of(url)
        except ValueError as error:
            raise ConfigError((f"the URL of the flight recorder: {error}",)) from error
        self._path = f"{urlsplit(url).path.rstrip('/')}/{PREFIX}/{quote(script, safe='')}"
        self._where = f"GET {origin}{self._path}"
        self._connection = connection or Connection(origin, _LIMITS)
        self._keys = keys
        self._clock = clock
        self._retry = retry
        self._parts: dict[int, _Part] = {}
        self._isolates: tuple[_Isolate, ...] = ()
        self._since: int | None = None
        self._closed = 0

    def fetch(self, since: int, until: int, tell: Callable[[str, int], None]) -> Found:  # noqa: ARG002 the port
        """Return the batches that were stored between about these Unix seconds, each once.

        Args:
            since, until: the seconds.
            tell: unused, as what cannot be used is an error here.

        Raises:
            AuthError: the recorder has another secret.
            ProviderRejected: there is no recorder with an object at the URL.
            ProviderUnavailable: no answer, one that is not signed, or one without an end.
        """
        if self._since is None or since < self._since:
            self._parts, self._closed, self._since = {}, 0, since
        self._read_pages(self._since)
        self._since = since
        self._parts = {number: part for number, part in self._parts.items() if part.second >= since}
        stored = tuple(Stored(part.second, part) for part in self._parts.values() if part.second <= until)
        words = tuple(Word(each.stored // 1000, each.until, each.version) for each in self._isolates)
        return Found(stored, words)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _read_pages(self, since: int) -> None:
        begun, after = self._clock.now(), self._closed
        for _ in range(_MOST_PAGES):
            page = retry_call(partial(self._once, since, after), self._retry, self._clock)
            for part in page.parts:
                if part.id <= after:
                    raise ProviderUnavailable("the flight recorder answers the same counts again", where=self._where)
                after = part.id
                self._parts[part.id] = part
                if part.second < page.now // 1000 - 1:
                    self._closed = part.id
            self._isolates = page.isolates
            if not page.more:
                return
            if self._clock.now() - begun > _LONGEST_READING_S:
                break
        raise ProviderUnavailable("the flight recorder's counts have no end", where=self._where)

    def _once(self, since: int, after: int) -> _Page:
        asked = f"{self._path}?{urlencode({'since': max(since, 0), 'after': after})}"
        answer = self._ask(asked, self._keys[0])
        for key in self._keys[1:]:  # while the secret is replaced
            if answer.status == _UNAUTHORIZED:
                answer = self._ask(asked, key)
        if answer.status == _UNAUTHORIZED:
            raise AuthError(
                "the flight recorder refuses the signature: its SECRET is another one, or a clock is wrong",
                where=self._where,
            )
        if answer.status == _TOO_MANY or answer.status >= _SERVER_ERROR:
            wait_s = retry_after_s(answer.headers.get("retry-after"), self._clock.now())
            raise CallFailed(ProviderUnavailable(f"answered {answer.status}", where=self._where), retry_after_s=wait_s)
        if answer.status != _OK:
            why = ": no flight recorder with an object is there" if answer.status == _NOT_FOUND else ""
            raise ProviderRejected(f"answered {answer.status}{why}", status=answer.status, where=self._where)
        try:
            return decode_json(open_signed(asked, self._clock.now(), answer.body, self._keys), _Page)
        except Unusable as why:
            raise ProviderUnavailable(f"the flight recorder's answer is {why}", where=self._where) from why
        except Undecodable as error:
            raise CallFailed(
                ProviderUnavailable(f"the answer cannot be read: {error.what}", where=self._where)
            ) from error

    def _ask(self, asked: str, key: bytes) -> Answer:
        stamp = int(self._clock.now())
        signature = compute_signature(f"GET {asked}", stamp, b"", key)
        headers = {"User-Agent": f"backout/{__version__}", "Authorization": f"Backout {stamp:010d},{signature}"}
        try:
            return self._connection.exchange("GET", asked, headers=headers)
        except ExchangeError as error:
            raise CallFailed(ProviderUnavailable(f"{error.failure}: {error}", where=self._where)) from error
