"""Port Traffic on a real Prometheus that scrapes a real /metrics; then on answers that only a script can give."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_lab import application, need_prometheus, prometheus

from backout.errors import AuthError, ConfigError, ProviderRejected, ProviderUnavailable
from backout.model.guard.answers import EVERY_CLASS, AnswerClass
from backout.model.guard.signals import find_bucket, sum_counts
from backout.providers.memory import WorldClock
from backout.providers.prometheus.client import MetricsClient
from backout.providers.prometheus.counters import Scrapes, Series, compute_increments, list_slots
from backout.providers.prometheus.traffic import Metrics, PrometheusTraffic
from backout.providers.retry import Retry
from backout.providers.router.client import RouterClient

from polling import until
from scripted_server import answer, refused_url, scripted_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_lab import Application

    from backout.model.guard.signals import CountsPage

GOOD, REDIRECT, NOT_FOUND = AnswerClass.GOOD, AnswerClass.REDIRECT, AnswerClass.NOT_FOUND
OTHER_4XX = AnswerClass.OTHER_CLIENT_ERROR
EVERY_SECOND = Metrics(selector='job="app"', scrape_interval_s=1.0)


def client(url: str, token: Callable[[], str] | None = None) -> MetricsClient:
    return MetricsClient(RouterClient(url, token, retry=Retry(attempts=1)))


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Application, str]]:
    """An application and the Prometheus that scrapes it every second."""
    need_prometheus()
    with application() as app, prometheus(tmp_path_factory.mktemp("scraping"), scrape=app.address) as url:
        scraped_again(app)  # a series that the very first scrape shows may be old: it is no request of now
        yield app, url


def scraped_again(app: Application) -> None:
    """Return when the next whole scrape has happened."""
    before = app.scrapes
    until(lambda: app.scrapes >= before + 2, 10, "two scrapes")


def counted(url: str, since: int, want: int, metrics: Metrics = EVERY_SECOND) -> CountsPage:
    """Return the page in which that many requests are counted."""
    source = PrometheusTraffic(client(url), metrics)

    def page() -> CountsPage | None:
        read = source.read(since, int(time.time()) + 1)
        return read if sum_counts(read.counts)[0] >= want else None

    return until(page, 15, f"{want} requests")


# --- the real thing -------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_counters_of_a_scraped_application_are_counts(scraped: tuple[Application, str]) -> None:
    """Every request once: of a series that begins, of one that grows, over a restart, and beside another version."""
    app, url = scraped
    app.restart()
    scraped_again(app)
    since = int(time.time())
    app.answered("v1", "200", 10)
    scraped_again(app)
    app.answered("v1", "200", 5)
    app.answered("v2", "500", 2, le="+Inf")
    app.answered("v1", "499", 1)
    counted(url, since, 17)  # a scrape of a busy machine may fail
    app.restart()
    app.answered("v2", "200", 1, le="0.5")
    app.answered("v2", "500", 1, le="0.5")
    page = counted(url, since, 19)
    assert sum_counts(page.counts) == (19, 3)
    assert sum(row.canceled for row in page.counts) == 1
    per_version = {v: sum_counts(row for row in page.counts if row.version == v) for v in ("v1", "v2")}
    assert per_version == {"v1": (15, 0), "v2": (4, 3)}
    latency = {bucket for row in page.counts for bucket in row.latency}
    assert latency == {find_bucket(100), find_bucket(500), find_bucket(500) + 1}
    assert sum(sum(row.latency.values()) for row in page.counts) == 20


def test_its_lag_is_what_the_scrapes_show(scraped: tuple[Application, str]) -> None:
    """Two seconds where it is scraped every second, whatever shorter time was configured; that may carry an action."""
    app, url = scraped
    app.answered("v1", "200", 1)
    source = PrometheusTraffic(client(url), Metrics(selector='job="app"', scrape_interval_s=0.1))
    since = int(time.time()) - 5

    def seen() -> bool:
        source.read(since, int(time.time()))
        return 1.5 <= source.traits.lag_s < 5 and source.traits.may_act

    until(seen, 10, "enough scrapes")
    assert not PrometheusTraffic(client(url), Metrics(scrape_interval_s=30)).traits.may_act


@pytest.mark.long
def test_what_is_not_scraped_is_not_known(scraped: tuple[Application, str]) -> None:
    """An application that stops answering Prometheus has no quiet seconds; what it counted meanwhile comes later."""
    app, url = scraped
    app.answered("v1", "200", 1)
    scraped_again(app)
    source = PrometheusTraffic(client(url), EVERY_SECOND)
    app.sick = True
    try:
        sick_since = int(time.time()) + 1
        app.answered("v1", "500", 7)

        def known_for() -> float:
            return time.time() - source.read(sick_since - 10, int(time.time()) + 1).complete_until

        until(lambda: known_for() > 4, 20, "that nothing is known")
    finally:
        app.sick = False
    page = counted(url, sick_since, 7)
    assert sum_counts(page.counts) == (7, 7)
    until(lambda: known_for() < 4, 20, "that it is known again")


def test_a_metric_that_does_not_exist_is_nothing_known(scraped: tuple[Application, str]) -> None:
    """No counts, and none of the seconds is final: a typing mistake is no quiet application."""
    _, url = scraped
    now = int(time.time())
    page = PrometheusTraffic(client(url), Metrics(requests="no_such_metric")).read(now - 60, now)
    assert (page.counts, page.complete_until) == ((), now - 60)


def test_labels_that_are_missing_make_it_advice(scraped: tuple[Application, str]) -> None:
    """Without the status nothing is seen to fail, without the version nothing can be blamed."""
    app, url = scraped
    app.answered("v1", "200", 1)
    scraped_again(app)
    since = int(time.time()) - 30
    for metrics in (
        Metrics(selector='job="app"', scrape_interval_s=1, status="code"),
        Metrics(selector='job="app"', scrape_interval_s=1, version="release"),
    ):
        source = PrometheusTraffic(client(url), metrics)
        assert source.traits.may_act
        until(lambda source=source: source.read(since, int(time.time())).counts, 10, "counts")  # type: ignore[misc]
        assert not source.traits.may_act


@pytest.mark.long
def test_a_selector_that_is_not_promql_is_named(scraped: tuple[Application, str]) -> None:
    """In Prometheus' own words."""
    _, url = scraped
    with pytest.raises(ProviderRejected, match="parse error") as caught:
        PrometheusTraffic(client(url), Metrics(selector='job="app')).read(1, 2)
    assert caught.value.status == 400


# --- answers that only a script gives -------------------------------------------------------------------------------


def matrix(*series: tuple[dict[str, str], list[list[object]]]) -> object:
    result = [{"metric": labels, "values": values} for labels, values in series]
    return {"status": "success", "data": {"resultType": "matrix", "result": result}}


def test_what_is_asked() -> None:
    """Raw samples in pieces of ten minutes, an overlap before them, the token in its header only; no question twice."""
    with scripted_server() as server:
        server.will(answer(matrix()))
        asked = client(f"{server.url}/prom", lambda: "canary")
        PrometheusTraffic(asked, Metrics(selector='job="x"')).read(10_000, 10_900)
    targets = [asked.target for asked in server.asked]
    assert len(set(targets)) == len(targets) == 6
    plain = [re.sub(r"backout_read%21%3D%22[0-9a-f]+%22%2C", "", target) for target in targets]
    assert plain[0] == "/prom/api/v1/query?query=http_requests_total%7Bjob%3D%22x%22%7D%5B600s%5D&time=10540.000"
    assert plain[1] == "/prom/api/v1/query?query=http_requests_total%7Bjob%3D%22x%22%7D%5B360s%5D&time=10900.000"
    assert all(asked.headers["authorization"] == "Bearer canary" for asked in server.asked)
    assert not any("canary" in target for target in targets)


def test_recorded_sums_without_a_target_are_counted() -> None:
    """A recording rule's series has neither job nor instance, and no `up`; an odd sample is passed over."""
    samples = [[1000, "5"], [1015, "NaN"], [1015, "9"], [1030, "9"]]
    with scripted_server() as server:
        server.will(
            answer(matrix(({"__name__": "r", "version": "a", "status": "503"}, samples))),
            answer(matrix()),
            answer(matrix()),
        )
        page = PrometheusTraffic(client(server.url), clock=WorldClock(1040)).read(1000, 1041)
    assert [(row.version, row.second, row.requests, row.errors) for row in page.counts] == [("a", 1015, 4, 4)]
    assert page.complete_until == 1030


@pytest.mark.parametrize(
    ("statuses", "classes", "told"),
    [
        (("200", "404", "302", "418"), {NOT_FOUND: 4, REDIRECT: 4, OTHER_4XX: 4}, EVERY_CLASS),
        (("2xx", "4xx", "3xx", "5xx"), {REDIRECT: 4, OTHER_4XX: 4}, frozenset({GOOD, REDIRECT, OTHER_4XX})),
        (("200", "404", "5xx", "2xx"), {NOT_FOUND: 4}, frozenset({GOOD, REDIRECT, OTHER_4XX})),
        (("ok", "404", "error", "200"), {NOT_FOUND: 4}, frozenset()),
        (("", "", "", ""), {}, frozenset()),
    ],
)
def test_classes_are_those_that_the_labels_tell(
    statuses: tuple[str, ...], classes: dict[AnswerClass, int], told: frozenset[AnswerClass]
) -> None:
    """All of them of a status, three of its first digit; whichever label is the coarsest says what is told apart."""
    samples = [[1000, "5"], [1015, "9"]]
    series = [({"version": "a", "status": each, "n": str(n)}, samples) for n, each in enumerate(statuses)]
    with scripted_server() as server:
        server.will(answer(matrix(*series)), answer(matrix()), answer(matrix()))
        source = PrometheusTraffic(client(server.url), clock=WorldClock(1040))
        (row,) = source.read(1000, 1041).counts
    assert (row.requests, row.classes) == (16, classes)
    assert (source.traits.classes, source.traits.has_method) == (told, False)


@pytest.mark.parametrize("has_method", [True, False])
def test_a_route_has_its_method_where_counter_and_histogram_have_it(has_method: bool) -> None:
    """A histogram without the method's label gives its response times to the whole alone."""
    samples = [[1000, "5"], [1015, "9"]]
    labels = {"version": "a", "status": "200", "route": "/users/:id", "method": "put"}
    slot = {"version": "a", "route": "/users/:id", "le": "+Inf"} | ({"method": "put"} if has_method else {})
    with scripted_server() as server:
        server.will(answer(matrix((labels, samples))), answer(matrix((slot, samples))), answer(matrix()))
        source = PrometheusTraffic(client(server.url), clock=WorldClock(1040))
        (row,) = source.read(1000, 1041).counts
    assert row.routes.keys() == {"PUT /users/:id"}
    assert source.traits.has_method
    assert sum(row.latency.values()) == 4
    assert sum(row.routes["PUT /users/:id"].latency.values()) == (4 if has_method else 0)


@pytest.mark.parametrize(
    "step",
    [answer({}), answer(b"<html>"), answer({}, 503), answer(matrix(({"a": "b"}, [[1, "many"]]))), answer({"data": 1})],
)
def test_trouble_is_unavailable(step: object) -> None:
    """Whatever comes that is no answer."""
    with scripted_server() as server:
        server.will(step)  # type: ignore[arg-type]
        with pytest.raises(ProviderUnavailable):
            PrometheusTraffic(client(server.url), clock=WorldClock(5)).read(1, 2)


def test_a_refused_token_and_a_wrong_expression() -> None:
    """Each is its own error."""
    with scripted_server() as server:
        server.will(answer({}, 401))
        with pytest.raises(AuthError):
            PrometheusTraffic(client(server.url)).read(1, 2)
    with pytest.raises(ProviderUnavailable):
        PrometheusTraffic(client(refused_url())).read(1, 2)
    with pytest.raises(ConfigError) as wrong:
        PrometheusTraffic(client("http://127.0.0.1:1"), Metrics(errors="5(("))
    assert "traffic.prometheus.errors: not a regular expression" in wrong.value.mistakes[0]


# --- counters -------------------------------------------------------------------------------------------------------

LABELS = {"job": "app", "instance": "a:1"}


def scraped_at(*times: float) -> Scrapes:
    found = {("app", "a:1"): times}
    return Scrapes(found, found, found)


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), min_size=1, max_size=40))
def test_no_request_is_lost_or_made_up(steps: list[tuple[int, bool]]) -> None:
    """Whatever was counted between two scrapes, restarts included; one that a counter outgrew at once is not seen."""
    value, truth = 0, 0
    samples = []
    for second, (grown, restarts) in enumerate(steps, start=1):
        value = grown if restarts and grown < value else value + grown
        truth += grown
        samples.append((float(second), float(value)))
    seen = scraped_at(0.0, *(at for at, _ in samples))
    found = compute_increments(Series(LABELS, samples), seen)
    assert sum(found.values()) == truth
    assert all(number > 0 for number in found.values())


def test_a_series_that_was_not_there_begins_at_zero() -> None:
    """It was scraped without it, or it fell; the first value of a target that nobody scraped before may be old."""
    samples = [(2.0, 7.0), (3.0, 2.0), (5.0, 6.0)]
    assert compute_increments(Series(LABELS, samples), scraped_at(1.0, 2.0, 3.0, 4.0, 5.0)) == {2.0: 7, 3.0: 2, 5.0: 6}
    assert compute_increments(Series(LABELS, samples), scraped_at(2.0, 3.0, 5.0)) == {3.0: 2, 5.0: 4}


def test_times_of_the_applications_own_prove_no_beginning() -> None:
    """A sample that is not from the time of any scrape may have been there all the time; so may a recorded sum."""
    assert compute_increments(Series(LABELS, [(2.5, 7.0), (4.5, 8.0)]), scraped_at(1.0, 2.0, 3.0, 4.0, 5.0)) == {4.5: 1}
    recorded = Series({"job": "app"}, [(2.0, 7.0), (4.0, 8.0)])
    assert compute_increments(
        recorded, Scrapes.of([], [recorded, Series({"job": "app"}, [(1.0, 1.0), (3.0, 1.0)])])
    ) == {4.0: 1}


def test_slots_are_what_lies_between_the_bounds() -> None:
    """Bounds in any order, of several processes, each for itself; one that is no number counts as the last."""
    times = {("app", "a:1"): [0.0, 1.0], ("app", "b:1"): [0.0, 1.0]}
    seen = Scrapes(times, times, times)
    given = [
        Series({**LABELS, "le": "+Inf"}, [(1.0, 9.0)]),
        Series({**LABELS, "le": "0.5"}, [(1.0, 8.0)]),
        Series({**LABELS, "le": "0.1"}, [(1.0, 5.0)]),
        Series({"job": "app", "instance": "b:1", "le": "odd"}, [(1.0, 2.0)]),
    ]
    found = [(labels["instance"], bound, number) for labels, _, bound, number in list_slots(given, seen)]
    assert sorted(found) == [("a:1", 0.1, 5), ("a:1", 0.5, 3), ("a:1", float("inf"), 1), ("b:1", float("inf"), 2)]


def test_the_spacing_is_that_of_the_slowest_target() -> None:
    """Scrapes that failed were tried all the same; unknown before there are three."""
    quick = Series(LABELS, [(15.0 * n, 1.0) for n in range(8)])
    slow = Series({"job": "app", "instance": "b:1"}, [(30.0 * n, float(n == 3)) for n in range(4)])
    assert Scrapes.of([quick, slow], []).spacing_s == 30.0
    assert Scrapes.of([], [quick]).spacing_s == 15.0
    assert scraped_at(0.0, 15.0).spacing_s is None
