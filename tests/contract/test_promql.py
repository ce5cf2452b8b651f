"""Port Traffic by two PromQL queries: on a real Prometheus and a real VictoriaMetrics, then on scripted answers."""

from __future__ import annotations

import itertools
import json
import time
import urllib.request
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlencode

import pytest
from prometheus_lab import application, prometheus, victoria_metrics

from backout.errors import AuthError, ProviderRejected, ProviderUnavailable
from backout.model.guard.count_query import CountQuery, list_mistakes
from backout.model.guard.signals import find_bucket, sum_counts
from backout.providers.memory import WorldClock
from backout.providers.prometheus.client import MetricsClient
from backout.providers.prometheus.promql import PromqlTraffic, Queries
from backout.providers.retry import Retry
from backout.providers.router.client import RouterClient

from polling import PATIENCE_S, until
from scripted_server import answer, scripted_server
from situations import deployment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_lab import Application

    from backout.model.deployment import Deployment
    from backout.model.guard.signals import CountsPage
    from backout.ports import Clock

Lab = tuple["Application", str]
ALL = 'sum(http_requests_total{version="{version}"})'
BAD = 'http_requests_total{version="{version}", status=~"5.."}'
DURATION = 'http_request_duration_seconds_bucket{version="{version}"}'
RANGE_S = 20
LATE_S = 1.3
ATTEMPTS = 30
RATE, BAD_RATE = (f"sum(rate({text}[{RANGE_S}s]))" for text in ('http_requests_total{version="{version}"}', BAD))
ONCE = Retry(attempts=1)


@pytest.fixture(scope="module", params=["prometheus", pytest.param("victoria-metrics", marks=pytest.mark.long)])
def scraped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """An application and the server that scrapes it every second."""
    serve = {"prometheus": prometheus, "victoria-metrics": victoria_metrics}[request.param]
    with application() as app, serve(tmp_path_factory.mktemp("scraping"), scrape=app.address) as url:
        scraped_again(app)
        yield app, url


def scraped_again(app: Application) -> None:
    """Return when the next whole scrape has happened."""
    before = app.scrapes
    until(lambda: app.scrapes >= before + 2, 10, "two scrapes")


def deployed(*versions: str) -> tuple[Deployment, ...]:
    return tuple(deployment(f"d{n}", 100.0 - n, (version, 100.0)) for n, version in enumerate(versions))


def source(
    url: str,
    all: str = ALL,  # noqa: A002 - the configuration's key
    bad: str = BAD,
    duration: str = "",
    *,
    versions: tuple[str, ...] = ("v2", "v1"),
    clock: Clock | None = None,
    interval_s: float = 1.0,
    user: str = "",
) -> PromqlTraffic:
    scheme: Literal["Basic", "Bearer"] = "Basic" if user else "Bearer"
    client = RouterClient(url, (lambda: user) if user else None, scheme=scheme, retry=ONCE)
    asked = Queries(
        all=CountQuery.parse(all),
        bad=CountQuery.parse(bad),
        duration=CountQuery.parse(duration) if duration else None,
        scrape_interval_s=interval_s,
    )
    shares = tuple(deployment(f"d{n}", time.time() - n, (each, 100.0)) for n, each in enumerate(versions))
    history = (lambda: deployed(*versions)) if clock is not None else lambda: shares
    return PromqlTraffic(MetricsClient(client), asked, history, clock=clock)


def read_gaps(url: str, begin: float, end: float) -> list[float]:
    """Return how many seconds the samples of a counter are apart between two moments; [] while the end is to come."""
    query = f'http_requests_total{{version="v1",status="200"}}[{time.time() - begin:.0f}s]'
    with urllib.request.urlopen(f"{url}/api/v1/query?{urlencode({'query': query})}", timeout=PATIENCE_S) as answer:
        found = json.load(answer)["data"]["result"]
    moments = [at for series in found for at, _ in series["values"]]
    shown = bool(moments) and moments[-1] >= end
    return [after - before for before, after in itertools.pairwise(moments)] if shown else []


def read_final(traffic: PromqlTraffic, since: int, end: float) -> CountsPage | None:
    """Return the counts since a moment; None as long as not all until `end` are final."""
    page = traffic.read(since, int(time.time()) + 1)
    return page if page.complete_until > end else None


# --- the real thing -------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_raw_counters_are_counted_exactly_and_may_act(scraped: Lab) -> None:
    """Each request once, in one final second: of a series that begins, that grows, over a restart, of two versions."""
    app, url = scraped
    since = int(time.time())
    app.restart()
    app.answered("v1", "200", 3)
    traffic = source(url, duration=DURATION)
    seen: dict[tuple[str, int], tuple[int, int]] = {}
    read_until = since

    def take() -> int:
        nonlocal read_until
        page = traffic.read(read_until, int(time.time()) + 1)
        for row in page.counts:
            if row.second < page.complete_until:
                assert (row.version, row.second) not in seen
                seen[row.version, row.second] = (row.requests, row.errors)
        read_until = max(read_until, page.complete_until)
        return sum(requests for requests, _ in seen.values())

    def show() -> int:
        take()
        return sum_counts(traffic.read(since, int(time.time()) + 1).counts)[0]

    before = until(take, 20, "what v1 counted")  # from now on the server may remember that v2 has no series
    app.answered("v1", "200", 10)
    app.answered("v2", "500", 2, le="+Inf")
    until(lambda: show() >= before + 12, 20, "12 requests, final or not")  # a scrape of a busy machine may fail
    app.restart()
    app.answered("v2", "200", 1, le="0.5")
    app.answered("v2", "503", 1, le="0.5")
    until(lambda: take() >= before + 14, 20, "14 requests")
    per_version = {
        v: tuple(map(sum, zip(*(n for (w, _), n in seen.items() if w == v), strict=True))) for v in ("v1", "v2")
    }
    assert per_version["v2"] == (4, 3)
    assert per_version["v1"][0] - before == 10
    page = traffic.read(since, int(time.time()) + 1)
    assert {bucket for row in page.counts for bucket in row.latency} >= {find_bucket(500), find_bucket(500) + 1}
    assert traffic.traits.may_act, traffic.traits.list_shortfalls()
    assert 2 <= traffic.traits.lag_s < 15
    assert (page.sampled, page.unreadable) == (False, {})


def test_a_rate_counts_and_is_advice(scraped: Lab) -> None:
    """Its sum is what was requested, about; half a minute late, as one of the servers withholds what is newer."""
    app, url = scraped
    app.answered("v1", "200", 1)
    scraped_again(app)
    traffic = source(url, RATE, BAD_RATE)
    page = traffic.read(int(time.time()) - 60, int(time.time()) + 1)
    assert page.sampled
    assert not traffic.traits.may_act
    assert traffic.traits.list_shortfalls()[0] == "all: rate() is estimated by the server"


@pytest.mark.long
@pytest.mark.rotating("rates", 3)
def test_what_rates_sum_up_to_is_what_was_requested(scraped: Lab) -> None:
    """Within a tenth below and 15 % above, where the server scraped each second: a busy machine may keep it from it.

    VictoriaMetrics divides by the age of a series that is younger than the range, so these have to be as old. A range
    of 20 s that is evaluated each second holds two samples that are at most 1.3 s apart 18 to 20 times, and its samples
    span at least 17.4 s, which the server extends to 20 s: 18 / 20 to 20 / 17.4 of what was requested.
    """
    app, url = scraped
    began = time.time()
    app.answered("v1", "200", 1)
    app.answered("v1", "500", 1)
    scraped_again(app)
    until(lambda: read_gaps(url, began, began + RANGE_S), 60, "series as old as the range")
    for _ in range(ATTEMPTS):
        scraped_again(app)
        since = int(time.time())
        for _ in range(5):
            app.answered("v1", "200", 80)
            app.answered("v1", "500", 20)
            scraped_again(app)
        end = time.time() + RANGE_S
        if max(until(lambda: read_gaps(url, since - RANGE_S, end), 60, "scrapes until then")) < LATE_S:  # noqa: B023
            break
    else:
        pytest.fail(f"in {ATTEMPTS} attempts it was never scraped each second")
    traffic = source(url, RATE, BAD_RATE)
    page = until(lambda: read_final(traffic, since, end), 60, "final counts until then")
    requests, errors = sum_counts(row for row in page.counts if row.second < page.complete_until)
    assert 450 <= requests <= 575
    assert 90 <= errors <= 115


@pytest.mark.long
def test_a_gauge_is_no_counter(scraped: Lab) -> None:
    """By the server's metadata where it keeps them; elsewhere its name proves nothing, so it is advice."""
    _, url = scraped
    traffic = source(url, 'temperature{version="{version}"}')

    def explain() -> str:
        try:
            traffic.read(int(time.time()) - 10, int(time.time()) + 1)
        except ProviderRejected as error:
            return error.what
        return next(iter(traffic.traits.list_shortfalls()), "")

    why = until(explain, what="a sample that says what it is of")
    assert why.startswith(("temperature is a gauge, by the server's metadata", "whether temperature is a counter is"))


@pytest.mark.long
def test_a_query_without_series_says_so(scraped: Lab) -> None:
    """No counts, no second is final, and the words of the query with the version in it."""
    _, url = scraped
    now = int(time.time())
    page = source(url, 'no_such_total{version="{version}"}', 'no_such_total{version="{version}",a="b"}').read(
        now - 9, now
    )
    assert (page.counts, page.complete_until) == ((), now - 9)
    (why,) = page.unreadable
    assert 'no series for any deployed version (no_such_total{version="v1"}): is the label' in why


def test_what_is_no_promql_is_named(scraped: Lab) -> None:
    """In the server's own words."""
    _, url = scraped
    now = int(time.time())
    with pytest.raises(ProviderRejected, match=r"pars") as caught:
        source(url, RATE.replace(f"[{RANGE_S}s]", f"[{RANGE_S}s")).read(now - 60, now)
    assert caught.value.status in (400, 422)


# --- answers that only a script gives -------------------------------------------------------------------------------

SERIES = {"metric": {"job": "a", "instance": "b"}, "values": [[100, "1"], [101, "1"]]}


def read_scripted(step: object, **more: object) -> tuple[PromqlTraffic, CountsPage]:
    with scripted_server() as server:
        server.will(step)  # type: ignore[arg-type]
        traffic = source(server.url, clock=WorldClock(103), **more)  # type: ignore[arg-type]
        return traffic, traffic.read(90, 104)


@pytest.mark.parametrize(
    ("step", "error", "words"),
    [
        (answer({}, 401), AuthError, "asks for credentials, and none are set up (401)"),
        (answer({}, 403), AuthError, "(403)"),
        (answer({}, 302, Location="https://elsewhere.example"), ProviderRejected, "redirects are not followed"),
        (answer({"status": "error", "error": "too many samples"}, 422), ProviderRejected, "422: too many samples"),
        (answer({}, 503), ProviderUnavailable, "answered 503"),
        (answer(b"<html>"), ProviderUnavailable, "cannot be read"),
        (answer(b" " * (17 << 20)), ProviderUnavailable, "too large"),
        (answer({"isPartial": True, "data": {"result": []}}), ProviderUnavailable, "answers in part only"),
        (
            answer({"data": {"result": [{"metric": {}, "histograms": [[1, {}]]}]}}),
            ProviderRejected,
            "the metric is a native histogram: name a counter",
        ),
    ],
)
def test_trouble_is_named(step: object, error: type[Exception], words: str) -> None:
    """Whatever comes that is no answer."""
    with pytest.raises(error) as caught:
        read_scripted(step)
    assert words in str(caught.value)


def test_a_rate_of_several_series_is_named() -> None:
    """Which of them is meant is not known."""
    with pytest.raises(ProviderRejected, match=r"answers 2 series for one version, not one: wrap it in sum"):
        read_scripted(answer({"data": {"result": [SERIES, SERIES]}}), all=RATE, versions=("v1",))


def test_samples_that_no_scrape_brought_are_advice() -> None:
    """Sums that were recorded, or pushed, have no `up`: when they will come is not known."""
    recorded = {"metric": {"version": "x"}, "values": [[100, "1"], [101, "5"]]}
    with scripted_server() as server:
        body, nothing = answer({"data": {"result": [recorded]}}), answer({"data": {"result": []}})
        server.will(body, nothing, body, body, answer({"data": {}}))
        traffic = source(server.url, versions=("v1",), clock=WorldClock(103))
        page = traffic.read(90, 104)
    assert sum_counts(page.counts) == (4, 4)
    assert page.sampled
    assert traffic.traits.list_shortfalls() == ("its samples are from no scrape that `up` knows (job '', instance '')",)


def test_a_server_that_lags_is_advice() -> None:
    """It says how late; nothing after the newest scrape is final, and more bad requests than requests are told."""
    up = {"metric": {"job": "a", "instance": "b"}, "values": [[60, "1"], [61, "1"]]}
    traffic, page = None, None
    with scripted_server() as server:
        server.will(answer({"data": {"result": [up]}}))
        traffic = source(server.url, versions=("v1",), clock=WorldClock(103))
        page = traffic.read(40, 104)
    assert page.complete_until == 62
    assert traffic.traits.list_shortfalls() == ("it comes 42 s late",)


def test_a_user_and_a_password_go_into_their_header() -> None:
    """Base64, as RFC 7617 has it; nothing of it is in the address."""
    with scripted_server() as server:
        server.will(answer({"data": {"result": []}}))
        source(server.url, user="grafana:canary", clock=WorldClock(103)).read(90, 104)
    assert {asked.headers["authorization"] for asked in server.asked} == {"Basic Z3JhZmFuYTpjYW5hcnk="}
    assert not any("canary" in asked.target for asked in server.asked)
    with pytest.raises(AuthError, match="expected user:password, with a colon"):
        source(server.url, user="canary", clock=WorldClock(103)).read(90, 104)


def test_a_version_that_could_be_more_than_a_value_is_not_asked_for() -> None:
    """Whatever the platform answers: quotes, braces, regular expressions."""
    with scripted_server() as server:
        server.will(answer({"data": {"result": []}}))
        for version in ('v"} or x{a="', ".*", "", "a b"):
            with pytest.raises(ProviderRejected, match="no query can ask for it"):
                source(server.url, versions=(version,), clock=WorldClock(103)).read(90, 104)
        assert not server.asked


def test_only_what_served_at_that_time_is_asked_for() -> None:
    """And what was replaced within the last ten minutes, so that it is seen to answer no more."""
    history = (deployment("c", 5_000, ("v3", 100.0)), deployment("b", 2_000, ("v2", 100.0)))
    asked = Queries(all=CountQuery.parse(ALL), bad=CountQuery.parse(BAD))
    with scripted_server() as server:
        server.will(answer({"data": {"result": []}}))
        client = MetricsClient(RouterClient(server.url, retry=ONCE))
        for since, versions in ((1_000, ()), (4_000, ("v2",)), (5_500, ("v3", "v2")), (6_000, ("v3",))):
            server.asked.clear()
            traffic = PromqlTraffic(client, asked, lambda: history, clock=WorldClock(since + 100))
            page = traffic.read(since, since + 100)
            assert {v for v in ("v2", "v3") if any(v in each.target for each in server.asked)} == set(versions)
            assert bool(page.unreadable) == bool(versions)


# --- what may be asked ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ('a_total{version="{version}"}', 'a_total{version="{version}"}'),
        (" a_total { version = '{version}' , } ", "a_total { version = '{version}' , }"),
        ("sum without (pod, instance) (a_total{v=~`x-{version}-.*`})", "a_total{v=~`x-{version}-.*`}"),
        ('sum(a_total{version="{version}",b!~"\\"}"}) by (job)', 'a_total{version="{version}",b!~"\\"}"}'),
    ],
)
def test_a_selector_and_its_sum_are_raw_counters(text: str, selector: str) -> None:
    """Whose series are read, never the sum."""
    query = CountQuery.parse(text)
    assert (query.selector, query.name, query.estimate) == (selector, "a_total", "")
    assert "{version}" not in query.fill_selector("3f2a-x")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('sum(rate(a_total{version="{version}"}[1m]))', "rate() is estimated by the server"),
        ('job:a:rate1m{version="{version}"}', "job:a:rate1m is a recording rule's result"),
        ('sum(job:a:rate1m{version="{version}"})', "job:a:rate1m is a recording rule's result"),
    ],
)
def test_what_the_server_computes_is_an_estimate(text: str, why: str) -> None:
    """And the reason says what computes it."""
    query = CountQuery.parse(text)
    assert (query.selector, query.estimate.partition(",")[0]) == ("", why)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a_total", 'has no "{version}"'),
        ("a_total{version={version}}", 'has outside a label\'s value "{version}"'),
        ('increase(a_total{version="{version}"}[1m])', "increase() answers no steady number per second: write rate()"),
        ('rate(a{v="{version}"}[1m]) / rate(b{v="{version}"}[1m])', "a ratio says nothing of how many"),
        ('a_total{version="{version}"} offset 5m', "is neither a counter"),
        ('a_total{version="{version}"}[5m]', "is neither a counter"),
        ('sum(a_total{version="{version}"}) + sum(b_total{version="{version}"})', "is neither a counter"),
        ('max(a_total{version="{version}"})', "is neither a counter"),
        ('{version="{version}"}', "is neither a counter"),
    ],
)
def test_what_cannot_count_is_refused(text: str, why: str) -> None:
    """When the configuration is read."""
    with pytest.raises(ValueError, match=r".") as caught:
        CountQuery.parse(text)
    assert str(caught.value).startswith(why)
    assert [key for key, _ in list_mistakes({"all": text})] == ["all", "bad"]


def test_response_times_need_the_buckets_of_a_histogram() -> None:
    """Nothing else has them."""
    named = {"all": ALL, "bad": BAD}
    assert not list(list_mistakes({**named, "duration": DURATION}))
    for wrong in (ALL, RATE):
        assert [key for key, _ in list_mistakes({**named, "duration": wrong})] == ["duration"]
