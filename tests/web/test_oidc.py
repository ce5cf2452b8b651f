"""A job of GitHub Actions at a real server, by a token of an issuer on loopback: in its own environment alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from web_lab import PRODUCTION, STAGING, open_lab

from scripted_server import answer, scripted_server

if TYPE_CHECKING:
    from pathlib import Path


def test_a_job_asks_in_the_environment_that_it_deploys_to(tmp_path: Path) -> None:
    """With the role that was set up; a token without an environment, or of another repository, is nobody's."""
    key = RSAKey.generate_key(2048, {"kid": "one"})
    with scripted_server() as issuer:
        issuer.will(answer(KeySet([key]).as_dict(private=False)))
        words = ("--github-oidc", "octo/app", "--github-oidc-issuer", issuer.url, "--github-oidc-role", "operator")
        with open_lab(tmp_path, *words) as lab:

            def make_token(**claims: object) -> str:
                found = {
                    "iss": issuer.url, "aud": lab.url, "exp": int(time.time()) + 600, "repository": "octo/app",
                    "environment": STAGING, "actor": "ada", **claims,
                }  # fmt: skip
                return jwt.encode({"alg": "RS256", "kid": "one"}, found, key)

            path = f"/api/v1/environments/{STAGING}/requests"
            made = lab.ask("POST", path, token=make_token(), body={"act": "plan"})
            assert (made.status, made.json["by"]) == (202, "ada in octo/app"), made.text
            assert lab.ask("GET", f"/api/v1/environments/{PRODUCTION}", token=make_token()).status == 404
            for claims in ({"environment": ""}, {"repository": "octo/other"}, {"aud": "https://elsewhere.example.com"}):
                assert lab.ask("GET", path, token=make_token(**claims)).status == 401, claims
            assert "Traceback" not in lab.said


def test_without_a_repository_no_such_token_counts(tmp_path: Path) -> None:
    """The issuer is not even asked."""
    with open_lab(tmp_path, told=()) as lab:
        assert lab.ask("GET", "/api/v1/environments", token="a.b.c").status == 401
