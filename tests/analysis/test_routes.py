"""Names of routes: plain, short and few, whatever visitors ask for."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backout.model.guard.answers import AnswerClass
from backout.model.guard.routes import (
    ID,
    LONGEST,
    MOST_ROUTES,
    OTHER,
    make_template,
    parse_route_name,
    parse_template_name,
    rename_routes,
    select_most_used,
    select_nameless,
)
from backout.model.guard.signals import Counts, RouteCounts

PLAIN = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:{}()*+~ -")
IN_TEMPLATES = PLAIN | set("?&,")


@given(
    st.one_of(st.text(max_size=200), st.from_regex(r"/[a-zA-Z0-9%@._/-]{0,80}(\?[a-z0-9=&%]{0,40})?", fullmatch=True))
)
def test_no_text_makes_a_name_that_anybody_obeys(text: str) -> None:
    """Letters, digits and a few signs, 64 at most, however it is written; a name stands for itself."""
    named = parse_route_name(text)
    assert set(named) <= PLAIN
    assert parse_route_name(named) == named
    for target in (text, f"/{text}", f"https://shop.example/{text}"):
        for method in ("GET", text[:4], ""):
            name = make_template(method, target)
            assert set(name) <= IN_TEMPLATES
            assert parse_template_name(name) == name
            assert 0 < len(name) <= LONGEST
    assert 0 < len(parse_template_name(text)) <= LONGEST


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("/", "/"),
        ("/api/orders", "/api/orders"),
        ("/api/v2/orders/4711/items", "/api/v2/orders/{id}/items"),
        ("/app/", "/app/"),
        ("/getUserById", "/getUserById"),
        ("/robots.txt", "/robots.txt"),
        ("/assets/index-Bx93f9.js", "/assets/{id}.js"),
        ("/.well-known/security.txt", "/.well-known/security.txt"),
        ("/api/trpc/orders.create,users.list", "/api/trpc/orders.create,users.list"),
        ("/users/me/cart", "/users/me/cart"),
        ("/search?q=x&page=2&utm_source=mail&gclid=abc", "/search?page&q"),
        ("/search?ids[]=1&ids[]=2", "/search?ids"),
        ("/search?a=1&b=2&c=3&d=4", "/search?*"),
        ("/search?<script>=1", "/search?*"),
        ("/a?utm_campaign=x", "/a"),
        ("/a#top", "/a"),
    ],
)
def test_a_template_tells_handlers_apart(asked: str, name: str) -> None:
    """As many words as there are, the names of parameters, and nothing of what was put into them."""
    assert make_template("get", asked) == f"GET {name}"
    assert make_template("GET", f"https://shop.example{asked}") == f"GET {name}"
    assert make_template("", asked) == name


@pytest.mark.parametrize(
    "value",
    [
        "4711",
        "550e8400-e29b-41d4-a716-446655440000",
        "9f86d081884c7d65",
        "deadbeef",
        "QkZsTwXyAbCdEfGh",
        "dGhpcyBpcyBhIHRva2Vu",
        "jane.doe@example.com",
        "%6a%61%6e%65",
        "jane-doe-of-the-long-road-to-nowhere",
        "a;b",
        "é",
        "\x1b[2J",
        ".env",
        "order17",
    ],
)
def test_ids_and_values_are_folded(value: str) -> None:
    """Whatever is no plain word; the words around it stay."""
    assert make_template("PUT", f"/api/things/{value}/notes") == "PUT /api/things/{id}/notes"


@pytest.mark.parametrize("place", ["users", "u", "profiles", "reset", "invite", "token", "verify", "magic-link"])
def test_people_and_secrets_have_no_name_though_they_are_words(place: str) -> None:
    """A user's name, or a token of letters, looks like a word; what they are found under does not."""
    assert make_template("GET", f"/{place}/jane") == f"GET /{place}/{ID}"
    assert make_template("GET", f"/{place}/KQXZPW") == f"GET /{place}/{ID}"


def test_a_long_path_keeps_its_first_words() -> None:
    """And no query; the rest is `*`."""
    name = make_template("DELETE", "/organizations/1/projects/2/environments/3/deployments/4/rollouts?force=1")
    assert name == "DELETE /organizations/{id}/projects/{id}/environments/{id}/*"


def test_of_a_path_without_end_only_the_beginning_is_looked_at() -> None:
    """Twelve parts; a part that is longer than a file's name may be is an id, whatever it ends in."""
    assert make_template("GET", f"/{'a/' * 11}b") == f"GET /{'a/' * 11}b"
    assert make_template("GET", f"/{'a/' * 12}b?page=2") == f"GET /{'a/' * 12}*?page"
    assert make_template("GET", f"/assets/{'a' * 252}.js") == "GET /assets/{id}.js"
    assert make_template("GET", f"/assets/{'a' * 253}.js") == "GET /assets/{id}"


def test_what_joins_words_makes_no_difference() -> None:
    """As many of `_` and `-` as there are, also at the end; every word between them is judged by itself."""
    for word in ("order-items", "order__items", "a-", "getUserById_v", "FAQ-page", "a-_-B"):
        assert make_template("GET", f"/x/{word}") == f"GET /x/{word}"
    for word in ("aB", "order_aBc_dEf", "A-QkZsTw", "_a", "-"):
        assert make_template("GET", f"/x/{word}") == "GET /x/{id}"


def test_methods_are_apart_and_foreign_ones_have_no_route() -> None:
    """HEAD and OPTIONS too: another handler answers them."""
    asked = {
        method: make_template(method, "/a") for method in ("GET", "HEAD", "OPTIONS", "DELETE", "BREW", "TRACE", "G T")
    }
    assert asked == {
        "GET": "GET /a",
        "HEAD": "HEAD /a",
        "OPTIONS": "OPTIONS /a",
        "DELETE": "DELETE /a",
        "BREW": OTHER,
        "TRACE": OTHER,
        "G T": OTHER,
    }
    assert {make_template("GET", target) for target in ("", "app", "//a", "/a//b")} == {OTHER}


def test_patterns_and_handlers_keep_their_names() -> None:
    """Apart from brackets that a page or a chat would read; with the method, where it is known."""
    assert parse_route_name("/api/models/:id") == "/api/models/:id"
    assert parse_route_name("/users/[id]/<int:n>") == "/users/{id}/{int:n}"
    assert {parse_route_name(text) for text in ("https://evil.example", "[x](y)`", "a|b", "<!channel>", "")} == {OTHER}
    assert parse_route_name("orders.show", "post") == "POST orders.show"
    assert parse_route_name("orders.show", "BREW") == "orders.show"


LATENCY = st.dictionaries(st.integers(0, 3), st.integers(1, 9))
ROUTES = st.dictionaries(
    st.one_of(st.just(OTHER), st.text("abc/", min_size=1, max_size=8)),
    st.tuples(
        st.integers(1, 99),
        st.integers(0, 1),
        LATENCY,
        st.dictionaries(st.sampled_from(AnswerClass), st.integers(1, 9)),
        LATENCY,
        st.integers(0, 9),
    ).map(lambda made: RouteCounts(*made)),
    max_size=200,
)


@given(ROUTES)
def test_the_most_used_keep_their_names_and_nothing_is_lost(routes: dict[str, RouteCounts]) -> None:
    """129 at most, with the rest; requests, errors, latencies, classes and sizes add up to what they were."""
    found = select_most_used(routes)
    assert len(found) <= MOST_ROUTES + 1
    assert _sums(found) == _sums(routes)
    named = [route.requests for name, route in found.items() if name != OTHER]
    left = [route.requests for name, route in routes.items() if name not in found]
    assert min(named, default=0) >= max(left, default=0)
    assert _sums(rename_routes(routes.items())) == _sums(routes)


def test_the_rest_is_one_route() -> None:
    """Of more than 128."""
    routes = {f"/{n}": RouteCounts(n, 0) for n in range(1, 140)}
    found = select_most_used(routes)
    assert (len(found), found[OTHER].requests) == (129, sum(range(1, 12)))


def _sums(routes: dict[str, RouteCounts]) -> tuple[int, ...]:
    parts = routes.values()
    return (
        sum(part.requests for part in parts),
        sum(part.errors for part in parts),
        sum(bucket * number for part in parts for bucket, number in part.latency.items()),
        sum(len(found) * number for part in parts for found, number in part.classes.items()),
        sum(bucket * number for part in parts for bucket, number in part.sizes.items()),
        sum(part.started for part in parts),
    )


def test_random_letters_are_hardly_ever_a_word() -> None:
    """Tokens without a digit are rare, and those that pass for a word rarer still: not one in 100 of 16 letters."""
    draw = random.Random(5)  # noqa: S311 a simulation
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    tokens = ["".join(draw.choices(letters, k=16)) for _ in range(5000)]
    kept = [token for token in tokens if make_template("GET", f"/things/{token}") != "GET /things/{id}"]
    assert len(kept) < 50, kept[:5]


def test_what_has_no_route_is_what_the_routes_leave() -> None:
    """Of a row, with and without `other`; a row whose routes are all of it has none."""
    classes = {AnswerClass.NOT_FOUND: 3}
    known = {"/a": RouteCounts(3, 1, classes={AnswerClass.NOT_FOUND: 1})}
    other = {OTHER: RouteCounts(1, 0, classes={AnswerClass.NOT_FOUND: 1})}
    assert select_nameless(Counts("v", 1, 7, 2, routes=known, classes=classes)) == RouteCounts(
        4, 1, classes={AnswerClass.NOT_FOUND: 2}
    )
    both = select_nameless(Counts("v", 1, 7, 2, routes=known | other, classes=classes))
    assert both == RouteCounts(4, 1, classes={AnswerClass.NOT_FOUND: 2})
    assert select_nameless(Counts("v", 1, 3, 1, routes=known, classes={AnswerClass.NOT_FOUND: 1})) is None
