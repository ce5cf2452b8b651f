"""The variants of variants.toml without a guard: each does to its visitors what the table says."""

from __future__ import annotations

import time

import pytest
from variant_lab import OUTCOMES, TABLE, read_variants

from backout.twin.traffic import VISITORS

from extent import long
from fm5_app import FM5, Bindings, serving
from polling import until

TEXTS = {"JWT_SECRET": "0123456789abcdef0123456789abcdef", "EMAIL_API_URL": "http://127.0.0.1:9"}
ORDER = {"model_id": 1, "quantity": 0, "email": "a@example.com"}
"""An order that is refused before it needs a database."""
SIGN_IN = {"email": "a@example.com", "code": "000000"}

ANSWERS: dict[str, list[tuple[str, str, int]]] = {
    "good": [
        *(("GET", path, 200) for path in ("/", "/about", "/style.css", "/api/session")),
        *(("POST", "/api/session", 201), ("OPTIONS", "/api/orders", 204), ("POST", "/api/orders", 400)),
    ],
    "bad/answers-404": [("GET", "/", 404), ("GET", "/health", 404), ("POST", "/api/session", 404)],
    "bad/answers-404-but-health": [("GET", "/", 404), ("GET", "/health", 503)],
    "bad/redirect-loop": [("GET", "/", 302), ("GET", "/about", 302), ("GET", "/health", 503)],
    "bad/api-401": [("GET", "/", 200), ("GET", "/api/session", 401), ("POST", "/api/orders", 401)],
    "bad/error-body": [("GET", "/", 200), ("GET", "/nowhere", 200), ("GET", "/health", 503)],
    "bad/hangs-on-one-route": [("GET", "/", 200)],
    "bad/cors-broken": [("OPTIONS", "/api/orders", 405), ("POST", "/api/orders", 400)],
    "bad/cron-throws": [("GET", "/", 200), ("POST", "/run-schedule", 500)],
    "bad/leak-heap": [("GET", "/", 200)],
    "bad/leak-buffer": [("GET", "/", 200)],
    "bad/leak-connections": [("GET", "/", 200), ("GET", "/api/models", 500)],
    "bad/throws-for-one-parameter": [("GET", "/api/models/3", 500), ("GET", "/", 200)],
    "bad/post-broken": [("POST", "/api/session", 500), ("POST", "/api/orders", 500), ("GET", "/", 200)],
    "bad/wrong-column": [("GET", "/api/models/1", 500), ("GET", "/", 200)],
    "bad/slow-after-a-while": [("GET", "/", 200)],
    "bad/health-down": [("GET", "/health", 503), ("GET", "/", 200)],
    "bad/health-404": [("GET", "/health", 404), ("GET", "/", 200)],
    "missing-variable": [("GET", "/api/models/1", 500), ("POST", "/api/orders", 500), ("GET", "/", 200)],
    "bad/orders-fail": [("POST", "/api/orders", 500), ("GET", "/", 200), ("POST", "/api/session", 201)],
    "odd/page-moved": [("GET", "/about", 301), ("GET", "/company", 200)],
    "odd/login-wall": [("GET", "/api/models/1", 401), ("GET", "/", 200)],
    "odd/new-route": [("GET", "/api/news", 200), ("GET", "/", 200)],
    "odd/big-file": [("GET", "/film.mp4", 200)],
    "odd/retired-api": [("GET", "/api/v1/models", 410)],
    "odd/maintenance-page": [("GET", "/api/files/a.txt", 302), ("GET", "/maintenance", 200)],
}
"""What each answers where no service is there: 503 of /health, 500 of what needs the database."""


@pytest.mark.parametrize("entry", [name if name == "bad/orders-fail" else long(name) for name in ANSWERS])
def test_what_a_variant_answers(entry: str) -> None:
    """Its own routes as it means to, all others as the good one."""
    with serving(entry, Bindings(TEXTS)) as app:
        for method, path, status in ANSWERS[entry]:
            body = {"/api/session": SIGN_IN, "/api/orders": ORDER}.get(path) if method == "POST" else None
            assert (path, app.ask(method, path, body).status) == (path, status)


@pytest.mark.long
def test_what_is_slow_after_a_while_is_quick_before() -> None:
    """The wait begins when SLOW_AFTER_S are over."""
    with serving("bad/slow-after-a-while", Bindings({"SLOW_AFTER_S": "1", "SLOW_BY_MS": "700"})) as app:

        def waits() -> bool:
            began = time.perf_counter()
            app.get("/")
            return time.perf_counter() - began >= 0.7

        until(waits, 10, "the wait")


def test_the_table_names_every_variant_and_the_readme_says_the_same() -> None:
    """Each file below bad and odd has a row, each row a file, an outcome and visitors that there are."""
    rows = read_variants()
    folder = FM5 / "src" / "variants"
    files = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob("*/*.js")}
    files = {each for each in files if not each.startswith("post-mortem/")}  # of drills with hands of their own
    of_drills = {"missing-variable"}
    assert {row.entry for row in rows} == files | {"good-2"} | of_drills
    assert {*ANSWERS} - {"good"} == files | of_drills
    assert {row.outcome for row in rows} <= {*OUTCOMES}
    assert all(row.outcome in {"roll back", "hold"} for row in rows if row.bad), "nobody calls a bad one healthy"
    assert all(row.outcome != "roll back" for row in rows if not row.bad), "nobody rolls a healthy one back"
    assert {row.visitors for row in rows} - {""} <= {*VISITORS}
    readme = (FM5 / "README.md").read_text(encoding="utf-8")
    assert [row.name for row in rows if f"| `{row.name}` | {row.what} | {row.outcome} |" not in readme] == [], (
        TABLE.name
    )
