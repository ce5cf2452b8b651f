"""Names of routes: plain, short and few, whatever visitors ask for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backout.model.routes import LONGEST, MOST_ROUTES, OTHER, RouteNames, most_used, renamed, route_named, route_of_path
from backout.model.signals import RouteCounts

PLAIN = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:{}()*+~ -")


@given(st.text(max_size=200))
def test_no_text_makes_a_name_that_anybody_obeys(text: str) -> None:
    """Letters, digits and a few signs, 64 at most, however it is written; a name stands for itself."""
    for name in (route_of_path(text), route_of_path(f"/{text}"), route_named(text)):
        assert set(name) <= PLAIN
        assert 0 < len(name) <= LONGEST
        assert route_named(name) == name


def test_a_path_gives_its_first_word_alone() -> None:
    """What follows, or is no word, may be an id or a secret."""
    known = {"/app": "/app", "/app/4711": "/app", "/App-x_y?key=s": "/App-x_y", "/": "/", "/#top": "/", "/a#b": "/a"}
    assert {path: route_of_path(path) for path in known} == known
    unknown = ("", "app", "/4711", "/a1", "/.env", "/%61", "/a%00", "/a\n", "/" + "a" * 25, "/\x1b[2J", "/a;b")
    assert {route_of_path(path) for path in unknown} == {OTHER}


def test_patterns_and_handlers_keep_their_names() -> None:
    """Apart from brackets that a page or a chat would read."""
    assert route_named("/api/models/:id") == "/api/models/:id"
    assert route_named("/users/[id]/<int:n>") == "/users/{id}/{int:n}"
    assert {route_named(text) for text in ("https://evil.example", "[x](y)`", "a|b", "<!channel>", "")} == {OTHER}


LATENCY = st.dictionaries(st.integers(0, 3), st.integers(1, 9))
ROUTES = st.dictionaries(
    st.one_of(st.just(OTHER), st.text("abc/", min_size=1, max_size=5)),
    st.builds(
        RouteCounts, st.integers(1, 99), st.integers(0, 1), st.dictionaries(st.integers(0, 3), st.integers(1, 9))
    ),
    max_size=80,
)


@given(ROUTES)
def test_the_most_used_keep_their_names_and_nothing_is_lost(routes: dict[str, RouteCounts]) -> None:
    """33 at most, with the rest; requests, errors and latencies add up to what they were."""
    found = most_used(routes)
    assert len(found) <= MOST_ROUTES + 1
    assert _sums(found) == _sums(routes)
    named = [route.requests for name, route in found.items() if name != OTHER]
    left = [route.requests for name, route in routes.items() if name not in found]
    assert min(named, default=0) >= max(left, default=0)
    assert _sums(renamed(routes.items())) == _sums(routes)


def _sums(routes: dict[str, RouteCounts]) -> tuple[int, int, int]:
    parts = routes.values()
    return (
        sum(part.requests for part in parts),
        sum(part.errors for part in parts),
        sum(bucket * number for part in parts for bucket, number in part.latency.items()),
    )


def test_what_is_used_has_a_name_though_somebody_tries_thousands() -> None:
    """A route with a twentieth of the answers among visitors who each ask for another one; no count grows with them."""
    names = RouteNames()
    chosen = [names.choose("/app" if step % 20 == 0 else f"/junk{step}", 200) for step in range(50_000)]
    of_app = chosen[0::20]
    assert of_app.count("/app") > 0.95 * len(of_app)
    assert set(of_app[100:]) == {"/app"}


def test_only_an_answer_of_the_application_gives_a_name() -> None:
    """What it does not know is a guess; a route that it knows keeps its name when it answers 404 once."""
    names = RouteNames()
    assert [names.choose("/wp-admin", status) for status in (404, 403, 499)] == [OTHER] * 3
    assert [names.choose("/app", status) for status in (200, 404, 500)] == ["/app"] * 3
    assert names.choose("/boom", None) == "/boom"
    assert names.choose(OTHER, 200) == OTHER
