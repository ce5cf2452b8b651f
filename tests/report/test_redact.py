"""The mask: a registered secret appears in no spelling, known shapes never, and everything else stays."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backout.report.records import encode, envelope, mapped
from backout.report.redact import MASK, Redactor

SECRETS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=8, max_size=40).filter(
    lambda text: text == text.strip() and "*" not in text
)


def masks(secret: str) -> Redactor:
    redactor = Redactor()
    redactor.register(secret)
    return redactor


@given(SECRETS, st.text(max_size=9), st.text(max_size=9))
def test_no_spelling_of_a_registered_secret_passes(secret: str, before: str, after: str) -> None:
    """Plain, URL-encoded, in a form, in JSON: masked wherever it stands."""
    redactor = masks(secret)
    inside_json = json.dumps(secret, ensure_ascii=False)[1:-1]
    for spelling in (secret, quote(secret, safe=""), quote_plus(secret), inside_json):
        assert spelling not in redactor.redact(before + spelling + after).replace(MASK, "")


@given(SECRETS, st.binary(max_size=9), st.binary(max_size=9))
def test_base64_of_a_text_around_a_secret_gives_nothing_back(secret: str, before: bytes, after: bytes) -> None:
    """At any alignment, in both alphabets; at most the characters shared with the neighbours stay."""
    redactor = masks(secret)
    for encoded in (base64.b64encode, base64.urlsafe_b64encode):
        masked = redactor.redact(encoded(before + secret.encode() + after).decode())
        assert MASK in masked
        assert len(masked) - len(MASK) <= len(encoded(before + after)) + 8


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Authorization: Bearer abc.DEF-123456", "Authorization: Bearer ***"),
        ("postgres://fm5:s3cret@db.example.com:5432/fm5", "postgres://fm5:***@db.example.com:5432/fm5"),
        ("postgresql://u:p%40ss@h/d and https://x:y@z", "postgresql://u:***@h/d and https://x:***@z"),
        ("redis://:word@h", "redis://:***@h"),
        ("?token=abcdef&x=1 password=hunter2", "?token=***&x=1 password=***"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----!", "***!"),
        ("http://127.0.0.1:8787/client/v4", "http://127.0.0.1:8787/client/v4"),
        ("at 12:04:11 in http://a/b: see user@example.com", "at 12:04:11 in http://a/b: see user@example.com"),
        ("backout.toml:23: environments.production", "backout.toml:23: environments.production"),
    ],
)
def test_known_shapes(text: str, masked: str) -> None:
    """Bearer tokens, passwords in URLs and queries, private keys; addresses and times stay."""
    assert Redactor().redact(text) == masked
    assert Redactor().redact(masked) == masked


def test_short_values_are_not_registered_and_lines_of_long_ones_are() -> None:
    """A secret "5" would mask every 5; each line of a key file is masked by itself."""
    redactor = masks("5")
    redactor.register("first-line-of-a-key\nsecond-line-of-it\n")
    assert redactor.redact("5 of 5: second-line-of-it") == "5 of 5: ***"


def test_what_is_allowed_stays_and_nothing_else() -> None:
    """The twin's own connection string passes; another one in the same text does not."""
    redactor = Redactor()
    twin = "postgresql://postgres:abcdef@127.0.0.1:5/postgres"
    redactor.allow(twin)
    assert redactor.redact(f"{twin} postgres://u:p@h") == f"{twin} postgres://u:***@h"
    assert redactor.redact(twin.replace("abcdef", "abcdeg")) == "postgresql://postgres:***@127.0.0.1:5/postgres"


def test_an_envelope_is_json_whatever_is_in_it() -> None:
    """Paths, tuples, numbers that JSON does not know; the schema stands first."""
    from pathlib import Path  # noqa: PLC0415 - one value of this test

    record = envelope("status", {"path": Path("/a"), "n": (1, float("nan"), float("inf")), "k": {1: None}})
    assert encode(record) == '{"schema":"backout.status/1","path":"/a","n":[1,null,null],"k":{"1":null}}'
    assert mapped({"a": ["b", 1, None]}, str.upper) == {"A": ["B", 1, None]}


@pytest.mark.parametrize(
    "text",
    [
        'password="abc"',
        "password='abc' x",
        'the "password=abc" is',
        "token=abc\\",
        'token=a\\\\"b',
        "secret=",
        'secret="',
    ],
)
def test_json_with_a_masked_text_in_it_is_still_json(text: str) -> None:
    """A value in quotes is masked within them, and what ends the text of a record is left."""
    redactor = Redactor()
    for each in (text, redactor.redact(text)):
        record = json.loads(redactor.redact(json.dumps({"a": each, "b": 1})))
        assert record["b"] == 1
        assert "abc" not in record["a"]
