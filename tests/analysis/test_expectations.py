"""What a team expects of a synthetic request's answer: each kind met and not met, in words that quote no answer."""

from __future__ import annotations

import pytest
from values import replace

from backout.analysis.detector.expectations import find_unmet
from backout.model.guard.fetched import Fetched
from backout.model.guard.policy import SyntheticCheck

HTML = Fetched(200, {"content-type": "text/html", "cache-control": "no-store"}, "<p>signed in</p>")
JSON = Fetched(200, {"content-type": "application/json"}, '{"user": {"id": 7, "admin": true}, "items": [{"id": "a"}]}')
CORS = Fetched(200, {"access-control-allow-origin": "https://app.example.com"})
PREFLIGHT = replace(CORS, status=204, headers={**CORS.headers, "access-control-allow-methods": "PUT, DELETE"})

MET = [
    (SyntheticCheck("/"), HTML),
    (SyntheticCheck("/"), Fetched(404)),
    (SyntheticCheck("/", statuses=(404, 410)), Fetched(410)),
    (SyntheticCheck("/", statuses=(503,)), Fetched(503)),
    (SyntheticCheck("/", word="signed in"), HTML),
    (SyntheticCheck("/", headers={"Cache-Control": "no-store", "Content-Type": ""}), HTML),
    (SyntheticCheck("/", json={"user.id": 7, "items.0.id": "a", "user.admin": True}), JSON),
    (SyntheticCheck("/", redirect="/login"), Fetched(302, {"location": "/login"})),
    (SyntheticCheck("/", origin="https://app.example.com"), CORS),
    (SyntheticCheck("/", origin="https://b.example"), Fetched(200, {"access-control-allow-origin": "*"})),
    (SyntheticCheck("/", origin="https://app.example.com", preflight="POST"), replace(CORS, status=204)),
    (SyntheticCheck("/", origin="https://app.example.com", preflight="PUT"), PREFLIGHT),
    (SyntheticCheck("/", credentials=("Authorization",)), HTML),
    (SyntheticCheck("/", statuses=(401,), credentials=("Authorization",)), Fetched(401)),
]
UNMET = [
    (SyntheticCheck("/"), Fetched(), "no answer in time"),
    (SyntheticCheck("/"), Fetched(500), "500"),
    (SyntheticCheck("/"), Fetched(302, loops=True), "302, a redirect that leads round and round"),
    (SyntheticCheck("/", statuses=(200, 304)), Fetched(404), "404 in place of 200 or 304"),
    (SyntheticCheck("/", word="welcome"), HTML, "without the word 'welcome'"),
    (SyntheticCheck("/", headers={"X-Frame-Options": ""}), HTML, "without the header X-Frame-Options"),
    (SyntheticCheck("/", headers={"Cache-Control": "private"}), HTML, "the header Cache-Control is not 'private'"),
    (SyntheticCheck("/", json={"user.id": 8}), JSON, "the JSON field user.id is not 8"),
    (SyntheticCheck("/", json={"user.admin": 1}), JSON, "the JSON field user.admin is not 1"),
    (SyntheticCheck("/", json={"items.1.id": "a"}), JSON, "without the JSON field items.1.id"),
    (SyntheticCheck("/", json={"user": "x"}), HTML, "no JSON"),
    (SyntheticCheck("/", redirect="/login"), HTML, "no redirect to /login"),
    (SyntheticCheck("/", origin="https://b.example"), CORS, "origin https://b.example is not allowed (CORS)"),
    (
        SyntheticCheck("/", origin="https://app.example.com", preflight="POST"),
        replace(CORS, status=405),
        "405 to the preflight of POST",
    ),
    (
        SyntheticCheck("/", origin="https://app.example.com", preflight="PATCH"),
        PREFLIGHT,
        "PATCH is not allowed from https://app.example.com (CORS)",
    ),
    (SyntheticCheck("/", credentials=("X",)), Fetched(401), "401, although credentials were sent"),
    (SyntheticCheck("/", credentials=("X",)), Fetched(403), "403, although credentials were sent"),
]


@pytest.mark.parametrize(("check", "answer"), MET)
def test_an_answer_as_it_is_expected(check: SyntheticCheck, answer: Fetched) -> None:
    """Nothing is said of it."""
    assert find_unmet(check, answer) == ""


@pytest.mark.parametrize(("check", "answer", "words"), UNMET)
def test_an_answer_that_is_not_as_it_is_expected(check: SyntheticCheck, answer: Fetched, words: str) -> None:
    """The first expectation that is not met, in the words of the configuration."""
    assert find_unmet(check, answer) == words


def test_what_a_check_is_called() -> None:
    """By what tells it apart from the others: a plain GET by its path, as those that are only named."""
    assert SyntheticCheck("/a").name == "/a"
    assert SyntheticCheck("/a", "HEAD").name == "HEAD /a"
    assert SyntheticCheck("/a", credentials=("X",)).name == "/a with credentials"
    assert SyntheticCheck("/a", origin="https://b.example").name == "/a from https://b.example"
    preflight = SyntheticCheck("/a", origin="https://b.example", preflight="PUT")
    assert preflight.name == "OPTIONS /a for PUT from https://b.example"
