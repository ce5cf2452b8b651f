"""The configured sources of the counts per version and second, and of the application's error texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.errors import AuthError
from backout.model.value import Value
from backout.providers.clock import SystemClock
from backout.providers.retry import Retry
from backout.wiring.platform import make_api

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.config import Config
    from backout.model.deployment import Deployment
    from backout.model.guard.signals import CountsPage, SourceTraits
    from backout.model.incident.events import LogPage
    from backout.ports import Clock, Logs, Traffic
    from backout.providers.cloudflare.client import ApiClient
    from backout.providers.health.sent import SentProbes
    from backout.providers.prometheus.client import MetricsClient
    from backout.providers.recorder.traffic import Sink


def make_traffic(
    config: Config,
    client: ApiClient | None,
    clock: Clock,
    say: Callable[[str], None],
    sent: SentProbes | None = None,
    *,
    history: Callable[[], tuple[Deployment, ...]],
) -> Traffic | None:
    """Return the source, None when none is set up.

    Missing credentials are an error when it is read, never of the toolbox: a rollback does not need request
    counts.

    Args:
        client: of the platform's API, None where there is none.
        sent: backout's own requests, which show how late the telemetry is.
        history: returns the deployments, newest first.
    """
    provider = config.environment.traffic.provider
    if client is not None and provider in ("tail", "telemetry", "analytics"):
        return _make_platform_traffic(config, client.make_yielding(), clock, sent)
    if provider == "recorder":
        return _make_recorder(config, clock, say)
    if provider == "promql":
        return _make_promql(config, history, clock)
    sources = {
        "twin": _make_router_traffic,
        "prometheus": _make_prometheus,
        "logs": _make_request_log,
        "caddy": _make_access_log,
    }
    return sources[provider](config) if provider in sources else None


def _make_router_traffic(config: Config) -> Traffic:
    from backout.providers.router.traffic import RouterTraffic

    return RouterTraffic(*_find_router(config))


def _make_prometheus(config: Config) -> Traffic:
    from backout.providers.prometheus.traffic import Metrics, PrometheusTraffic

    names = config.environment.traffic.prometheus
    metrics = Metrics(
        requests=names.requests,
        duration=names.duration,
        selector=names.selector,
        version=names.version_label,
        status=names.status_label,
        route=names.route_label,
        method=names.method_label,
        errors=names.errors,
        seconds=0.001 if names.duration_unit == "ms" else 1.0,
        scrape_interval_s=float(names.scrape_interval),
    )
    return PrometheusTraffic(_make_metrics_client(config), metrics)


def _make_promql(config: Config, history: Callable[[], tuple[Deployment, ...]], clock: Clock) -> Traffic:
    from backout.model.guard.count_query import CountQuery
    from backout.providers.prometheus.promql import PromqlTraffic, Queries

    settings = config.environment.traffic.promql
    queries = Queries(
        all=CountQuery.parse(str(settings.all)),
        bad=CountQuery.parse(str(settings.bad)),
        duration=None if settings.duration is None else CountQuery.parse(settings.duration),
        seconds=0.001 if settings.duration_unit == "ms" else 1.0,
        scrape_interval_s=float(settings.scrape_interval),
    )
    return PromqlTraffic(_make_metrics_client(config), queries, history, clock=clock)


def _make_request_log(config: Config) -> Traffic:
    from backout.providers.logs.request import Fields
    from backout.providers.logs.traffic import LogTraffic

    log = config.environment.traffic.logs
    assert log.path is not None
    names = Fields(
        time=log.time,
        version=log.version,
        status=log.status,
        outcome=log.outcome,
        latency=log.latency,
        latency_ms={"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}[log.latency_unit],
        route=log.route,
        method=log.method,
        bytes=log.bytes,
        content_type=log.content_type,
    )
    return LogTraffic(log.path, names, ignore_routes=log.ignore_routes)


def _make_access_log(config: Config) -> Traffic:
    """Return Caddy's own log of requests, on every host."""
    from backout.providers.caddy.access_log import FIELDS
    from backout.providers.logs.traffic import LogTraffic
    from backout.wiring.caddy import open_home

    ignored = config.environment.traffic.logs.ignore_routes
    return LogTraffic(open_home(config).open_logs(), FIELDS, ignore_routes=ignored)


def _make_platform_traffic(config: Config, client: ApiClient, clock: Clock, sent: SentProbes | None) -> Traffic:
    """Return the platform's own source of counts, asked with the read token."""
    provider, script = config.environment.traffic.provider, config.environment.platform.script
    if provider == "tail":
        from backout.providers.cloudflare.tail import TailTraffic

        return TailTraffic(client, config.account_id, script, clock=clock)
    if provider == "telemetry":
        from backout.providers.cloudflare.telemetry import TelemetryTraffic

        return TelemetryTraffic(client, config.account_id, script, clock=clock, sent=sent)
    from backout.providers.cloudflare.analytics import AnalyticsTraffic

    return AnalyticsTraffic(client, config.account_id, script, clock=clock)


def _make_recorder(config: Config, clock: Clock, say: Callable[[str], None]) -> Traffic:
    from backout.providers.recorder.batches import parse_keys
    from backout.providers.recorder.traffic import RecorderTraffic, make_traits

    flush_s = float(config.environment.traffic.recorder.flush)
    try:
        sink = _make_sink(config, parse_keys(config.recorder_secret().reveal()), clock)
    except AuthError as error:
        return _Closed(make_traits(flush_s), error)
    except ValueError as error:
        where = f"environments.{config.name}.traffic"
        return _Closed(make_traits(flush_s), AuthError(f"the recorder's secret: {error}", where=where))
    return RecorderTraffic(sink, clock, say, flush_s=flush_s)


def _make_sink(config: Config, keys: tuple[bytes, ...], clock: Clock) -> Sink:
    settings, script = config.environment.traffic.recorder, config.environment.platform.script
    if settings.url is not None:
        from backout.providers.recorder.counter import ObjectSink

        return ObjectSink(str(settings.url), script, keys, clock)
    from backout.providers.recorder.bucket import BucketSink
    from backout.providers.recorder.traffic import QUICK
    from backout.providers.s3.client import S3Client
    from backout.providers.s3.sigv4 import S3Credentials
    from backout.providers.s3.transport import S3Settings

    access = config.recorder_access()
    endpoint = str(settings.endpoint or access.endpoint or f"https://{config.account_id}.r2.cloudflarestorage.com")
    credentials = S3Credentials(access.access_key_id, access.secret_access_key.reveal())
    client = S3Client(S3Settings(endpoint, credentials, timeout_s=5.0, total_s=5.0, object_s=5.0, retry=QUICK), clock)
    return BucketSink(client, str(settings.bucket), script, keys)


def read_kept_share(config: Config, within_s: float) -> float:
    """Return the share of answers that Workers Logs keep of the Worker; errors as `read_head_sampling`."""
    from backout.providers.cloudflare.observability import read_head_sampling

    client = make_api(config, SystemClock().now() + within_s).reads
    return read_head_sampling(client, config.account_id, config.environment.platform.script)


def try_telemetry(config: Config, within_s: float) -> None:
    """Ask the telemetry for a second of the environment's Worker; errors as the port's `read`."""
    from backout.providers.cloudflare.telemetry import LAG_S, TelemetryTraffic

    clock = SystemClock()
    client = make_api(config, clock.now() + within_s).reads
    source = TelemetryTraffic(client, config.account_id, config.environment.platform.script, clock=clock)
    second = int(clock.now() - 2 * LAG_S)
    source.read(second, second + 1)


class _Closed(Value, frozen=True):
    """Port Traffic of a source without credentials."""

    traits: SourceTraits
    error: AuthError

    def read(self, since: int, until: int) -> CountsPage:  # noqa: ARG002 the port
        """Raise the error."""
        raise self.error


_LOGS_WITHIN_S: Final = 10.0
_BRIEFLY: Final = Retry(attempts=2, first_wait_s=0.3, total_s=5.0)
"""A rollback waits for the diagnosis: it is made without logs that do not come."""


def make_logs(config: Config, traffic: Traffic | None) -> Logs | None:
    """Return the application's own logs, None where they are not kept; a tail is shared with the counts."""
    if config.environment.platform.provider == "caddy":
        return _LateLogs(lambda: _open_release_logs(config))
    if config.environment.traffic.provider not in ("twin", "tail", "telemetry"):
        return None
    return _LateLogs(lambda: _make_own_logs(config, traffic))


class _LateLogs:
    """Port Logs that is made on first use: most commands never ask for texts, and a rollback must be quick."""

    def __init__(self, make: Callable[[], Logs]) -> None:
        self._make = make
        self._made: Logs | None = None

    def read(self, since: float, until: float) -> LogPage:
        """Return what was said between two times in Unix seconds."""
        if self._made is None:
            self._made = self._make()
        return self._made.read(since, until)


def _open_release_logs(config: Config) -> Logs:
    from backout.analysis.diagnosis.templates import Templates
    from backout.providers.caddy.release_logs import ReleaseLogs
    from backout.wiring.caddy import open_home

    return ReleaseLogs(open_home(config).hosts, Templates(config.variables.mask_text))


def _make_own_logs(config: Config, traffic: Traffic | None) -> Logs:
    from backout.analysis.diagnosis.templates import Templates

    templates = Templates(config.variables.mask_text)
    if config.environment.traffic.provider == "twin":
        from backout.providers.router.logs import RouterLogs

        return RouterLogs(*_find_router(config), key_of=templates)
    from backout.providers.cloudflare.logs import TailLogs, TelemetryLogs
    from backout.providers.cloudflare.tail import TailTraffic

    if isinstance(traffic, TailTraffic):
        return TailLogs(traffic, templates)
    from backout.providers.cloudflare.client import ApiClient
    from backout.providers.exchange import Limits

    token = config.read_token() or config.token()
    limits = Limits(total_s=_LOGS_WITHIN_S)
    client = ApiClient(
        str(config.environment.platform.api_base_url),
        token.reveal,
        retry=_BRIEFLY,
        limits=limits,
        token_place=token.place,
    )
    return TelemetryLogs(client, config.account_id, config.environment.platform.script, templates)


def _find_router(config: Config) -> tuple[str, str, Callable[[], str] | None]:
    """Return (base URL, script, token) of the source of counts and events."""
    environment = config.environment
    return str(environment.traffic.url), environment.platform.script, _make_token_reader(config)


def _make_token_reader(config: Config) -> Callable[[], str] | None:
    """Return what reads the bearer token of the source, None when it asks for none."""
    traffic = config.environment.traffic
    return None if traffic.token_env is None and traffic.token_file is None else lambda: config.traffic_token().reveal()


def _make_metrics_client(config: Config) -> MetricsClient:
    """Return the client of a server of metrics; a user with a password comes before a token."""
    from backout.providers.prometheus.client import MetricsClient
    from backout.providers.router.client import RouterClient

    traffic = config.environment.traffic
    if traffic.basic_env is None and traffic.basic_file is None:
        return MetricsClient(RouterClient(str(traffic.url), _make_token_reader(config)))
    client = RouterClient(str(traffic.url), lambda: config.traffic_token(basic=True).reveal(), scheme="Basic")
    return MetricsClient(client)
