"""Tokens of GitHub Actions' jobs, against an issuer on loopback that publishes its keys as GitHub's does."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from typing import TYPE_CHECKING, Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

from backout.errors import ProviderUnavailable
from backout.providers.clock import SystemClock
from backout.providers.github import oidc
from backout.providers.github.oidc import JobTokens

from scripted_server import answer, scripted_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripted_server import ScriptedServer

AUDIENCE = "https://backout.example.com"
KEY, OTHER = RSAKey.generate_key(2048, {"kid": "one"}), RSAKey.generate_key(2048, {"kid": "two"})


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as made:
        yield made


def publish(server: ScriptedServer, *keys: RSAKey) -> None:
    server.will(answer(KeySet(list(keys)).as_dict(private=False)))


def make_token(server: ScriptedServer, key: RSAKey = KEY, **claims: Any) -> str:
    now = int(time.time())
    found = {
        "iss": server.url, "aud": AUDIENCE, "exp": now + 600, "nbf": now - 5, "iat": now, "repository": "octo/app",
        "environment": "production", "actor": "ada", "sub": "repo:octo/app:environment:production", **claims,
    }  # fmt: skip
    header = {"alg": "RS256", "kid": key.kid}
    return jwt.encode(header, {name: value for name, value in found.items() if value is not None}, key)


def make_tokens(server: ScriptedServer) -> JobTokens:
    return JobTokens("octo/app", AUDIENCE, SystemClock(), issuer=server.url)


def test_a_job_of_the_repository(server: ScriptedServer) -> None:
    """With the environment that it deploys to; the keys are read once."""
    publish(server, KEY)
    tokens = make_tokens(server)
    for _ in range(3):
        job = tokens.check(make_token(server))
        assert job is not None
        assert (job.repository, job.environment, job.actor) == ("octo/app", "production", "ada")
    assert [each.target for each in server.asked] == ["/.well-known/jwks"]


@pytest.mark.parametrize(
    "claims",
    [
        {"repository": "octo/other"},
        {"repository": None},
        {"aud": "https://elsewhere.example.com"},
        {"aud": None},
        {"iss": "https://token.actions.githubusercontent.com.example.com"},
        {"exp": 1_700_000_000},
        {"exp": None},
        {"nbf": 4_000_000_000},
    ],
)
def test_any_other_token_is_none(server: ScriptedServer, claims: dict[str, Any]) -> None:
    """Another repository, audience, issuer; too old, without an end, not yet."""
    publish(server, KEY)
    assert make_tokens(server).check(make_token(server, **claims)) is None


def test_what_is_signed_otherwise_is_none(server: ScriptedServer) -> None:
    """By another key, by nobody, by the public key as a secret, or cut."""
    publish(server, KEY)
    tokens = make_tokens(server)
    good = make_token(server)
    head, body, _ = good.split(".")
    start = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"one"}').rstrip(b"=").decode() + "." + body
    mac = hmac.new(KEY.as_pem(private=False), start.encode(), hashlib.sha256).digest()
    forged = f"{start}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    none = "eyJhbGciOiJub25lIn0." + body + "."
    for token in (
        make_token(server, OTHER),
        f"{head}.{body}.",
        f"{head}.{body}.AAAA",
        forged,
        none,
        "a.b.c",
        "x" * 20_000,
    ):
        assert tokens.check(token) is None, token[:60]


def test_a_new_key_is_looked_for_and_not_by_everybody(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The issuer changes its keys now and then; tokens of unknown keys have them read again once in a while only."""
    publish(server, KEY)
    tokens = make_tokens(server)
    assert tokens.check(make_token(server)) is not None
    publish(server, KEY, OTHER)
    assert tokens.check(make_token(server, OTHER)) is None
    monkeypatch.setattr(oidc, "_AGAIN_S", 0.0)
    publish(server, KEY, OTHER)
    assert tokens.check(make_token(server, OTHER)) is not None


@pytest.mark.parametrize("said", [answer("no", 500), answer([]), answer({"keys": [{"kty": "odd"}]})])
def test_keys_that_cannot_be_read_are_said(server: ScriptedServer, said: Any) -> None:
    """Nobody is let in meanwhile, and nobody is told that the token is wrong."""
    server.will(said)
    with pytest.raises(ProviderUnavailable):
        make_tokens(server).check(make_token(server))
