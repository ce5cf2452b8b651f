"""The mask: a registered secret appears in no spelling, known shapes never, and everything else stays."""

from __future__ import annotations

import base64
import json
import string
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pumping import find_growth
from spelled import BASE64, ENCODINGS, LAYOUTS, shown_of

from backout.report.records import encode, make_envelope
from backout.report.redact import MASK, OWN_WORDS, Redactor, change_strings
from backout.report.spellings import make_bare

SECRETS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=8, max_size=40).filter(
    lambda text: text == text.strip() and "*" not in text and text not in OWN_WORDS
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


@pytest.mark.parametrize("unit", ["x", "1", "XY", "x\n", "ä"])
def test_a_long_value_of_one_kind_of_character_is_registered_at_once(unit: str) -> None:
    """What is enough of its beginning is looked for as far as the middle: in one look, not in one for each length."""
    assert find_growth(lambda text: Redactor().register(text), "", unit, "") is None


def test_what_is_known_is_not_taken_apart_again() -> None:
    """A token is read, and registered, for each call of an API."""
    taken: list[str] = []

    class Token(str):
        __slots__ = ()

        def splitlines(self, keepends: bool = False) -> list[str]:
            taken.append(str(self))
            return super().splitlines(keepends)

    redactor = Redactor()
    for _ in range(3):
        redactor.register(Token("s3cr3t-value-of-a-call"))
    assert taken == ["s3cr3t-value-of-a-call"]
    assert redactor.redact("with s3cr3t-value-of-a-call") == f"with {MASK}"


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
        ("x_http://u:word@h, 1http://u:word@h", "x_http://u:***@h, 1http://u:***@h"),
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


@pytest.mark.parametrize("unit", ["a.", "a://", "://a:", "password='", "-----BEGIN ", "bearer  ", "\\"])
def test_a_text_twice_as_long_is_about_twice_the_work(unit: str) -> None:
    """Whoever wrote it: guard reads what the application says of itself, and stands still while it masks."""
    redactor = masks("cf_aBcDeFgH1234567890abcdefghijklmnopQRST")
    for end in (" ://", "@", "="):
        assert find_growth(redactor.redact, "", unit, end) is None


def test_connection_strings_that_end_alike_do_not_mask_each_other() -> None:
    """Ports end with the same digit in one of ten: only the whole of it, and a password in it, is secret."""
    redactor = masks("host=/tmp/live port=40125 user=postgres dbname=postgres")
    side = "host=/tmp/side port=29725 user=postgres dbname=postgres"
    assert redactor.redact(f'{{"dsn": "{side}"}}') == f'{{"dsn": "{side}"}}'
    assert redactor.redact("at host=/tmp/live port=40125 user=postgres  dbname=postgres") == f"at {MASK}"


@pytest.mark.parametrize("written", ["s3cret-of-it", "'s3cret of it'", r"'it\'s a s3cret'", r"s3cret\ of\ it"])
def test_the_password_of_a_connection_string_is_masked_by_itself(written: str) -> None:
    """However it is quoted there, and in an error that quotes it alone."""
    password = written.strip("'").replace("\\", "")
    redactor = masks(f"host=/tmp/live port=40125 password={written} dbname=shop user=app")
    assert redactor.redact(f'FATAL: "{password}" is wrong') == f'FATAL: "{MASK}" is wrong'
    assert "s3cret" not in redactor.redact(f"port=40125 password={written} dbname=shop user=app")


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

    record = make_envelope("status", {"path": Path("/a"), "n": (1, float("nan"), float("inf")), "k": {1: None}})
    assert encode(record) == '{"schema":"backout.status/1","path":"/a","n":[1,null,null],"k":{"1":null}}'
    assert change_strings({"a b": ["b", 1, None], "own": "c"}, str.upper) == {"A B": ["B", 1, None], "own": "C"}


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


FILLING, WIDTHS = st.text(max_size=9), st.integers(8, 120)
TOKENS = st.text(string.ascii_letters + string.digits + "_*+/=-.~", min_size=16, max_size=60).filter(
    lambda text: text[0].isalpha() and any(c.isdigit() for c in text[1:8]) and any(c.isdigit() for c in text[-8:])
)
"""What a vendor gives out: letters and digits at both ends."""
ANY = (SECRETS | TOKENS).filter(lambda text: len(make_bare(text)) >= 8 and text not in OWN_WORDS)


def test_what_stands_behind_a_secret_hides_no_part_of_it() -> None:
    """Decoded once more, its end and what follows are another character."""
    assert masks("000000%0").redact(" 000000%250 0") == " *** 0"


@given(ANY, st.tuples(FILLING, FILLING), st.sampled_from(sorted(ENCODINGS)), st.sampled_from(sorted(LAYOUTS)), WIDTHS)
@settings(max_examples=300)
def test_no_encoding_in_no_layout_shows_a_part_of_a_secret(
    secret: str, around: tuple[str, str], encoding: str, layout: str, width: int
) -> None:
    """Escapes of URLs, JSON, HTML, Markdown, Python, hex and colours, split over lines at any width, indented."""
    before, after = around
    laid_out = LAYOUTS["as it is" if encoding == "coloured" or layout == "cut" else layout]
    text = laid_out(f"{before} {ENCODINGS[encoding](secret)} {after}", width)
    masked = masks(secret).redact(text)
    assert MASK in masked
    assert not shown_of(secret, masked.replace(MASK, "\0"))


@given(
    ANY, st.binary(max_size=9), st.binary(max_size=9), st.sampled_from(sorted(BASE64)), st.sampled_from(sorted(LAYOUTS))
)
@settings(max_examples=200)
def test_base64_over_lines_gives_nothing_back(
    secret: str, before: bytes, after: bytes, encoding: str, layout: str
) -> None:
    """At any alignment, both alphabets, in a URL; what is left is what the neighbours decide."""
    encode_all = BASE64[encoding]
    text = LAYOUTS["split" if layout == "cut" else layout](encode_all(before + secret.encode() + after), 20)
    masked = masks(secret).redact(text)
    assert MASK in masked
    left = "".join(c for c in masked.replace(MASK, "") if c.isalnum() or c in "+/-_=%")
    assert len(left) <= len(encode_all(before + after)) + 14


@given(TOKENS, st.integers(12, 60), st.booleans())
def test_a_secret_that_somebody_cut_is_known_by_what_is_left(token: str, size: int, at_the_end: bool) -> None:
    """A vendor cuts a text at 200 characters, a log keeps the last ones: twelve are enough to know it by."""
    left = f"cut: {token[:size]}…" if at_the_end else f"…{token[-size:]} was cut"
    assert not shown_of(token, masks(token).redact(left))


@pytest.mark.parametrize("word", ["production", "password", "postgres"])
def test_words_that_are_said_all_the_time_are_masked_in_their_place_alone(word: str) -> None:
    """A password that is such a word would blacken every sentence; behind `password=` and in a URL it is none."""
    said = f"version 4 of {word} is live"
    assert masks(word).redact(said) == said
    assert word not in masks(word).redact(f"password={word}").removeprefix("password=")
    assert masks(f"postgres://u:{word}@h/d").redact(f"postgres://u:{word}@h/d") == MASK


def test_names_of_the_configuration_are_said_whatever_the_secrets_are() -> None:
    """Whichever is known first."""
    for redactor in (masks("fm5-worker"), Redactor()):
        redactor.say_openly("fm5-worker")
        redactor.register("fm5-worker")
        assert redactor.redact("fm5-worker is live") == "fm5-worker is live"


def test_json_values_are_masked_each_and_our_own_keys_stay() -> None:
    """A key can come from outside as well; what is clean comes back as the same object."""
    redactor = masks("tok-1234567890ab")
    record = {"reason": "saw tok%2D1234567890ab", "by tok-1234567890ab": [1, {"a": None}]}
    assert redactor.values(record) == {"reason": "saw ***", "by ***": [1, {"a": None}]}
    clean = {"reason": "nothing", "n": 3}
    assert redactor.values(clean) is clean
    assert redactor.values(clean) is clean
    redactor.register("nothing-more-9")
    assert redactor.values({"reason": "nothing-more-9"}) == {"reason": MASK}
