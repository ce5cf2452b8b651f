"""Which routes have names while visitors ask for whatever they like."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from backout.model.guard.route_names import MOST_NAMES, MOST_WORDS, RouteNames
from backout.model.guard.routes import OTHER

ORDERS = "POST /api/orders"


def words(number: int) -> list[str]:
    """Return so many plain words."""
    return [f"{a}{b}{c}" for a in "bcdfgh" for b in "aeiou" for c in ("ter", "ner", "ling", "mas", "ro")][:number]


def test_what_is_used_has_a_name_though_somebody_tries_thousands() -> None:
    """A route with a twentieth of the answers among visitors who each ask for another one; no count grows with them."""
    names = RouteNames()
    chosen = [names.choose("GET /app" if step % 20 == 0 else f"GET /junk{step}", 200) for step in range(20_000)]
    assert set(chosen[0::20]) == {"GET /app"}
    assert len(set(chosen)) <= MOST_WORDS + 3


@pytest.mark.parametrize("status", [200, 302, 404])
@pytest.mark.parametrize("where", ["/", "/api/", "/{id}/"])
def test_a_rare_and_vital_route_keeps_its_name_beside_a_storm(status: int, where: str) -> None:
    """One answer in 200 is an order; nine in ten are a crawler's, each of another path, however they are answered."""
    names, draw, junk = RouteNames(), random.Random(7), words(150)  # noqa: S311 a simulation
    usual = [f"GET /{name}" for name in ("", "cart", "search", "login", "api/items", "api/{id}", "assets/{id}.js")]
    found: Counter[str] = Counter()
    for step in range(12_000):
        if step % 200 == 0:
            found[names.choose(ORDERS, 201)] += 1
        elif step % 10 == 0:
            names.choose(draw.choice(usual), 200)
        else:
            names.choose(f"GET {where}{draw.choice(junk)}-{draw.choice(junk)}", status)
    assert found[ORDERS] >= 50, found
    assert len(names._used) <= MOST_NAMES


def test_articles_are_one_route_and_their_handlers_stay_apart() -> None:
    """Sixteen words have names of their own; those after them are ids; one that everybody reads is a route again."""
    names = RouteNames()
    first = [names.choose(f"GET /blog/{word}", 200) for word in words(100)]
    assert first[:MOST_WORDS] == [f"GET /blog/{word}" for word in words(MOST_WORDS)]
    assert set(first[MOST_WORDS:]) == {"GET /blog/{id}"}
    assert names.choose(f"GET /blog/{words(100)[-1]}/edit", 200) == "GET /blog/{id}/edit"
    popular = words(100)[50]
    read = [names.choose(f"GET /blog/{popular}", 200) for _ in range(50)]
    assert read[-1] == f"GET /blog/{popular}"


def test_an_api_with_forty_resources_has_names_for_each() -> None:
    """What is used for more than a four-hundredth of the answers is a handler, however many there are."""
    names, draw = RouteNames(), random.Random(3)  # noqa: S311 a simulation
    resources = [f"GET /api/{word}" for word in words(40)] + [ORDERS]
    weights = [1.0] * 40 + [0.2]
    found = [(asked, names.choose(asked, 200)) for asked in draw.choices(resources, weights, k=20_000)]
    late = Counter(asked == name for asked, name in found[5_000:])
    assert late[True] > 0.95 * late.total()
    orders = [name for asked, name in found[5_000:] if asked == ORDERS]
    assert orders.count(ORDERS) > 0.9 * len(orders)


def test_queries_of_many_shapes_are_one() -> None:
    """As articles are."""
    names = RouteNames()
    found = [names.choose(f"GET /search?{word}", 200) for word in words(30)]
    assert len(set(found)) == 9
    assert found[-1] == "GET /search?*"


def test_only_an_answer_of_the_application_gives_a_name() -> None:
    """What it does not know is a guess; a route that it knows keeps its name when it answers 404 once."""
    names = RouteNames()
    assert [names.choose("GET /wp-admin", status) for status in (404, 403, 499)] == [OTHER] * 3
    assert [names.choose("GET /app", status) for status in (200, 404, 500)] == ["GET /app"] * 3
    assert names.choose("GET /boom", None) == "GET /boom"
    assert names.choose(OTHER, 200) == OTHER


def test_articles_that_are_gone_count_where_they_were_read_and_guesses_nowhere() -> None:
    """A version that answers 404 to all of the blog is seen there; a scanner's words under /blog/ are not."""
    names = RouteNames()
    for word in words(60):
        names.choose(f"GET /blog/{word}", 200)
    gone = [names.choose(f"GET /blog/{word}", 404) for word in words(60)]
    assert OTHER not in gone
    assert gone.count("GET /blog/{id}") == 60 - MOST_WORDS
    assert {names.choose(f"GET /blog/{word}-admin", 404) for word in words(60)} == {OTHER}


def test_the_name_so_far_is_found_without_counting() -> None:
    """When a request begins, nobody knows yet how it ends."""
    names = RouteNames()
    assert names.find("GET /app") == OTHER
    names.choose("GET /app", 200)
    assert names.find("GET /app") == "GET /app"
    for word in words(40):
        names.choose(f"GET /blog/{word}", 200)
    assert names.find(f"GET /blog/{words(40)[-1]}") == "GET /blog/{id}"
    assert names.find("GET /blog/nobody") == OTHER


def test_who_begins_to_count_after_a_deployment_learns_what_there_was() -> None:
    """All of it answers 404: with nothing but that to go by, it would be somebody's guesses."""
    names = RouteNames()
    names.learn(["GET /app", ORDERS, "GET /users/{id}", OTHER, *(f"GET /{word}" for word in words(150))])
    assert [names.choose(route, 404) for route in ("GET /app", ORDERS, "GET /users/{id}")] == [
        "GET /app",
        ORDERS,
        "GET /users/{id}",
    ]
    assert names.choose("GET /wp-admin", 404) == OTHER
    names.learn([f"GET /x/{word}" for word in words(150)])
    assert len(names._used) == MOST_NAMES
