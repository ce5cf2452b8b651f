"""Equal troubles have equal keys, whatever the request, the build and the version; different ones do not."""

# ruff: noqa: E501 - log lines read best whole

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backout.analysis.diagnosis.templates import Templates, make_template
from backout.report.redact import Redactor

from extent import examples

SAME = {
    "positions_of_a_bundle": (
        "TypeError: Cannot read properties of undefined (reading 'email')\n    at saveOrder (worker.js:1:2345)\n    at a (worker.js:9:9)",
        "TypeError: Cannot read properties of undefined (reading 'email')\n    at async Object.saveOrder (file:///dist/worker-5fA3b.js:7:1)",
    ),
    "minified_callers": (
        "Error: no\n    at t (w.js:1:2)\n    at loadUser (w.js:1:3)",
        "Error: no\n    at qe (w.js:1:2)\n    at loadUser (w.js:1:3)",
    ),
    "numbers_and_ids": (
        "Error: user 17 not found in 6b3ff0ce-6f6b-4d5c-8a1e-0f2c7d1c9a11 after 35ms",
        "Error: user 9041 not found in 11111111-2222-4333-8444-555555555555 after 1204ms",
    ),
    "addresses": (
        "Error: no answer from https://a.example/x?token=abc for a@example.com at 10.0.0.1:5432",
        "Error: no answer from https://a.example/x?token=zzz&p=2 for b.c@example.org at 10.7.0.9:5432",
    ),
    "values": (
        'ERROR:  duplicate key value violates unique constraint "users_email_key"\nDETAIL:  Key (email)=(a@b.example) already exists.',
        'ERROR:  duplicate key value violates unique constraint "users_email_key"\nDETAIL:  Key (email)=(c@d.example) already exists.',
    ),
    "what_a_log_writes_before_it": (
        '2026-11-24 22:43:20.880 UTC [7326] ERROR:  relation "orders" does not exist at character 15',
        '2026-11-25 02:11:02.001 UTC [99] ERROR:  relation "orders" does not exist at character 203',
    ),
    "colours": ("\x1b[31mError: red\x1b[0m", "Error: red"),
    "wrapped_by_a_cause": (
        'Error: could not save\n    at save (a.js:1:2) {\n  [cause]: PostgresError: column "a" does not exist\n      at query (db.js:3:4)\n}',
        'PostgresError: column "a" does not exist\n    at query (db.js:7:8)',
    ),
    "wrapped_by_python": (
        (
            "Traceback (most recent call last):\n  File \"/app/a.py\", line 3, in save\n    x()\nKeyError: 'KEY'\n\nThe above exception was the direct cause of the following exception:\n\n"
            'Traceback (most recent call last):\n  File "/app/a.py", line 9, in view\n    y\nRuntimeError: wrapped'
        ),
        "Traceback (most recent call last):\n  File \"/app/a.py\", line 4, in save\n    x()\nKeyError: 'KEY'",
    ),
    "json": (
        json.dumps({"level": "error", "error": {"name": "TypeError", "message": "no 5", "stack": "TypeError: no 5\n    at save (a.js:1:2)"}}),
        "TypeError: no 77\n    at save (b.js:3:4)",
    ),
}  # fmt: skip

DIFFERENT = {
    "prisma_codes": ("PrismaClientKnownRequestError: failed P2022", "PrismaClientKnownRequestError: failed P2025"),
    "sqlstates": ("error: failed, SQLSTATE 42703", "error: failed, SQLSTATE 57014"),
    "codes_below": ("error: no\n  code: '42703'", "error: no\n  code: '42P01'"),
    "typescript": ("a.ts(1,2): error TS2345: x", "a.ts(1,2): error TS2322: x"),
    "api_codes": ("A request failed. [code: 10021]", "A request failed. [code: 10220]"),
    "statuses": ("Error: upstream said HTTP 502", "Error: upstream said HTTP 429"),
    "columns": ('error: column "a" does not exist', 'error: column "b" does not exist'),
    "variables": ("KeyError: 'DATABASE_URL'", "KeyError: 'JWT_SECRET'"),
    "properties": ("TypeError: no (reading 'get')", "TypeError: no (reading 'put')"),
    "functions": ("Error: no\n    at loadUser (a.js:1:2)", "Error: no\n    at saveUser (a.js:1:2)"),
    "procedures": ("tRPC failed on orders.create: no", "tRPC failed on orders.list: no"),
    "classes": ("TypeError: no", "RangeError: no"),
    "services": ("Error: connect ECONNREFUSED 10.0.0.1:5432", "Error: connect ECONNREFUSED 10.0.0.1:6379"),
}


@pytest.mark.parametrize("case", SAME)
def test_the_same_trouble_has_one_key(case: str) -> None:
    one, other = SAME[case]
    assert make_template(one) == make_template(other)


@pytest.mark.parametrize("case", DIFFERENT)
def test_different_troubles_have_different_keys(case: str) -> None:
    one, other = DIFFERENT[case]
    assert make_template(one) != make_template(other)


def test_a_procedure_stands_beside_the_class_of_its_cause() -> None:
    key = make_template(
        "❌ tRPC failed on orders.create: no\nTRPCError: no\n    at x (a.js:1:2) {\n  [cause]: TypeError: b is null\n}"
    )
    assert (key.procedure, key.name, key.message) == ("orders.create", "TypeError", "b is null")


def test_prisma_says_it_at_the_end() -> None:
    key = make_template(
        "PrismaClientKnownRequestError: \nInvalid `prisma.user.findMany()` invocation in\n/app/a.ts:3:4\n\n  1 x\nThe column `users.plan` does not exist. (P2022)"
    )
    assert key.name == "PrismaClientKnownRequestError"


WORDS = st.sampled_from(
    ["user", "17", "404", "500", "status", "code", "10021", "port", "5432", "errno", "at", "save", "(a.js:1:22)", "Error:", "'x'", "id=5", "\n", "P2022", "7,", "HTTP",
     "[code:", "10220]", "SQLSTATE", "42703", "error", "30", "rows"]
)  # fmt: skip


@examples(400)
@given(st.lists(st.lists(WORDS, max_size=14).map(" ".join), max_size=6))
def test_what_is_remembered_is_what_would_be_read(texts: list[str]) -> None:
    templates = Templates()
    for text in texts:
        for number in range(3):
            varied = re.sub(r"\d+", lambda found, add=number: str(int(found[0]) + add), text)
            assert templates(varied) == make_template(varied)


@pytest.mark.parametrize("at", [16_384, 40_000 - 16_384])
@pytest.mark.parametrize("within", [3, 20, 41])
def test_of_a_long_text_both_ends_are_read_and_no_part_of_a_secret_at_a_cut(at: int, within: int) -> None:
    """The mask sees no more than what is read; a secret through which the cut goes is gone, however little is left."""
    secret, seen = "cf_aBcDeFgH1234567890abcdefghijklmnopQRSTuv", []
    redactor = Redactor()
    redactor.register(secret)

    def masked(text: str) -> str:
        seen.append(redactor.redact(text))
        return seen[-1]

    text = f"ValueError: it is {'x ' * 20_000}"[: at - within] + secret
    text = f"{text}{' y' * 20_000}"[:40_000]
    templates = Templates(masked)
    assert templates(text).name == "ValueError"
    assert sum(map(len, seen)) <= 32_768
    ends = templates._mask_ends(text)
    assert not any(secret[n : n + 3] in ends for n in range(len(secret) - 2))


@examples(300)
@given(st.text(max_size=400))
def test_any_text_has_a_key(text: str) -> None:
    key = make_template(text)
    assert key == make_template(text)
    assert len(key.message) < 2000
