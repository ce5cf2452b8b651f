"""Tokens that GitHub Actions gives a job, checked against the keys that its issuer publishes; joserfc does the rest.

Source: GitHub documentation, "OpenID Connect reference" (2026): issuer https://token.actions.githubusercontent.com,
keys below `/.well-known/jwks`, RS256; claims `repository`, `environment`, `actor`, `aud` as the job asked for it.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from backout.decoding import Undecodable, decode_json
from backout.errors import ConfigError, ProviderUnavailable
from backout.model.value import Value
from backout.providers.exchange import Connection, ExchangeError, Limits, Origin

if TYPE_CHECKING:
    from backout.ports import Clock

ISSUER: Final = "https://token.actions.githubusercontent.com"
_ALGORITHMS: Final = ("RS256",)
_LIMITS: Final = Limits(connect_s=3.0, read_s=4.0, total_s=5.0, body_bytes=256 * 1024)
_KEPT_S: Final = 600.0
"""How long the issuer's keys are used before they are read again."""
_AGAIN_S: Final = 30.0
"""A token of an unknown key has them read again no sooner: anybody may send one."""
_LEEWAY_S: Final = 30
_LONGEST: Final = 16 * 1024
_OK: Final = 200


class Job(Value, frozen=True):
    """Which job a token is of: its repository, the environment it deploys to ("" for none), and who began it."""

    repository: str
    environment: str
    actor: str
    expires_at: float


class JobTokens:
    """The tokens of one repository's jobs; for several threads.

    Args:
        audience: what a job has to ask its token for: the address of the pages.
        issuer: another one for a GitHub of one's own.

    Raises:
        ConfigError: the issuer's address cannot be used.
    """

    def __init__(self, repository: str, audience: str, clock: Clock, *, issuer: str = ISSUER) -> None:
        self._repository, self._audience, self._clock = repository, audience, clock
        self._issuer = issuer.rstrip("/")
        try:
            self._connection = Connection(Origin.of(self._issuer), _LIMITS)
        except ValueError as error:
            raise ConfigError((f"the issuer of job tokens: {error}",)) from error
        self._path = f"{urlsplit(self._issuer).path.rstrip('/')}/.well-known/jwks"
        self._lock = threading.Lock()
        self._keys: KeySet | None = None
        self._read_at = -_KEPT_S

    def check(self, token: str) -> Job | None:
        """Return the job that a token is of, None: it is none of this repository's, or counts no longer.

        Raises:
            ProviderUnavailable: the issuer's keys cannot be read.
        """
        if len(token) > _LONGEST:
            return None
        claims = self._decode(token, again=False)
        if claims is None:
            claims = self._decode(token, again=True)
        if claims is None:
            return None
        found = {name: claims.get(name) for name in ("repository", "environment", "actor")}
        if found["repository"] != self._repository:
            return None
        texts = {name: value if isinstance(value, str) else "" for name, value in found.items()}
        return Job(texts["repository"], texts["environment"], texts["actor"], float(claims["exp"]))

    def _decode(self, token: str, *, again: bool) -> dict[str, Any] | None:
        keys = self._read_keys(again=again)
        if keys is None:
            return None
        wanted = jwt.JWTClaimsRegistry(
            now=int(self._clock.now()),
            leeway=_LEEWAY_S,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._audience},
            exp={"essential": True},
        )
        try:
            decoded = jwt.decode(token, keys, algorithms=list(_ALGORITHMS))
            wanted.validate(decoded.claims)
        except (JoseError, ValueError, TypeError):
            return None
        return dict(decoded.claims)

    def _read_keys(self, *, again: bool) -> KeySet | None:
        """Return the issuer's keys; with `again` only where they were read anew."""
        with self._lock:
            age_s = time.monotonic() - self._read_at
            if age_s < (_AGAIN_S if again else _KEPT_S):
                return None if again else self._keys
            try:
                answer = self._connection.exchange("GET", self._path, headers={"Accept": "application/json"})
            except ExchangeError as error:
                raise ProviderUnavailable(f"the issuer of job tokens does not answer: {error}") from error
            if answer.status != _OK:
                raise ProviderUnavailable(f"the issuer of job tokens answered {answer.status}")
            try:
                found: Any = decode_json(answer.body, dict[str, Any], what="the issuer's keys")
                self._keys = KeySet.import_key_set(found)
            except (Undecodable, JoseError, ValueError, KeyError, TypeError) as error:
                raise ProviderUnavailable("the keys of the issuer of job tokens cannot be read") from error
            self._read_at = time.monotonic()
            return self._keys
