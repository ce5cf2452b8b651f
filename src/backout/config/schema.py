"""Every key of backout.toml, with its type and its default; `catalogue/backout.toml` says in words what each means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from backout.config.scalars import API_BASE_URL, AtMost, Duration, TlsUrl, Url
from backout.model.notice import NoticeKind
from backout.model.policy import (
    Criteria,
    Expectation,
    GuardPolicy,
    Mode,
    OnInconclusive,
    OnSecretChange,
    OnSharedOutage,
    OnUnmeasured,
    Policy,
    SyntheticCheck,
)
from backout.model.signals import Criticality  # noqa: TC001 - msgspec resolves it

TOKEN_ENV = "CLOUDFLARE_API_TOKEN"  # noqa: S105 - the name of a variable
_ALPHA_RANGE = (1e-6, 0.05)

Text = Annotated[str, msgspec.Meta(min_length=1)]
RUNS = msgspec.Meta(extra={"runs": "a program"})
"""Marks a key that names a program, or a file that can name one: `--no-commands` goes without it."""
CommandLine = Annotated[str, msgspec.Meta(min_length=1), RUNS]
Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Ratio = Annotated[float, msgspec.Meta(gt=1)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Percent = Annotated[float, msgspec.Meta(gt=0, le=100)]
Route = Annotated[str, msgspec.Meta(pattern=r"^/[!-~]*$")]
Status = Annotated[int, msgspec.Meta(ge=100, le=599)]
Origin = Annotated[str, msgspec.Meta(pattern=r"^https?://[A-Za-z0-9.:\[\]-]+$")]
Asked = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]+ /[!-~]*$")]
Metric = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_:][A-Za-z0-9_:]*$")]
Label = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Tag = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file; a key that it does not know is a mistake."""


class App(Section, frozen=True):
    """Whom reports speak of."""

    name: Text


class Platform(Section, frozen=True):
    """Where the application runs; an empty `account_id` is taken from CLOUDFLARE_ACCOUNT_ID.

    The token acts; what only reads, and what touches secrets, may have tokens of their own.
    """

    provider: Literal["cloudflare"]
    script: Text
    account_id: str = ""
    api_base_url: TlsUrl = API_BASE_URL
    token_env: Text | None = None
    token_file: Path | None = None
    read_token_env: Text | None = None
    read_token_file: Path | None = None
    secrets_token_env: Text | None = None
    secrets_token_file: Path | None = None


class Health(Section, frozen=True):
    """The health endpoint; `headers_env` names variables that hold secret header values."""

    url: Url
    timeout: Duration = Duration(5)
    format: Literal["auto", "runbook", "health+json", "actuator", "microprofile", "django"] = "auto"
    headers: dict[str, str] = {}
    headers_env: dict[str, Text] = {}


class BackupBucket(Section, frozen=True):
    """The bucket that backups and WAL are kept in; `credentials_*` hold its access key as JSON."""

    bucket: Text
    endpoint: TlsUrl | None = None
    prefix: str = ""
    credentials_env: Text | None = None
    credentials_file: Path | None = None


class PgBackRestStanza(Section, frozen=True):
    """A stanza of an existing pgBackRest repository; `config` is its own file, default: where pgBackRest looks."""

    stanza: Text
    config: Annotated[Path, RUNS] | None = None


class Backup(Section, frozen=True):
    """Backups of the database: where they are kept, for how long, and how its WAL gets there.

    `key_*` hold the key that backups are encrypted with; without one they are not. `wal` is "sync" where an
    acknowledged commit may never be lost; its watchdog gives that up after `sync_timeout`, and records it.
    """

    directory: Path = Path(".backout/backups")
    store: BackupBucket | None = None
    key_env: Text | None = None
    key_file: Path | None = None
    full_every: Duration = Duration(7 * 86400)
    keep: Duration = Duration(35 * 86400)
    wal: Literal["off", "stream", "sync"] = "off"
    sync_timeout: Duration = Duration(10)
    pgbackrest: PgBackRestStanza | None = None


class Server(Section, frozen=True):
    """A server of one's own that a whole restore may replace: its data directory, and the commands around it."""

    data_directory: Path
    start: CommandLine
    stop: CommandLine


class Managed(Section, frozen=True):
    """The vendor who runs the database; `branch` is the one that is live."""

    provider: Literal["neon", "xata", "supabase", "rds"]
    project: Text
    branch: Text
    organization: Text | None = None
    api_base_url: TlsUrl | None = None
    token_env: Text | None = None
    token_file: Path | None = None


class Database(Section, frozen=True):
    """The application's database; the connection string itself never stands in the file.

    A D1 database has a `database_id` in place of a connection string; of it the migrations are read.
    """

    provider: Literal["postgres", "d1"]
    url_env: Text | None = None
    url_file: Path | None = None
    migrations: Literal["prisma", "alembic", "django", "d1", "none"] = "none"
    migrations_path: Path | None = None
    database_id: Text | None = None
    app_checks_head: bool = False
    connect_timeout: Duration = Duration(5)
    pool_limit: Count | None = None
    pool_application: Text = "Cloudflare Hyperdrive"
    admin_url_env: Text | None = None
    admin_url_file: Path | None = None
    binaries: Annotated[Path, RUNS] | None = None
    backup: Backup = Backup()
    server: Server | None = None
    managed: Managed | None = None


class Storage(Section, frozen=True):
    """The application's object storage."""

    provider: Literal["r2", "s3"]
    bucket: Text
    history: Text | None = None
    endpoint: TlsUrl | None = None
    credentials_file: Path | None = None


class SecretsSource(Section, frozen=True):
    """Where the values of secrets are kept: a file, this process's variables, a keyring, or what a command prints."""

    kind: Literal["file", "env", "keyring", "command"] = msgspec.field(name="from")
    path: Path | None = None
    prefix: str = ""
    service: Text | None = None
    command: Annotated[tuple[Text, ...], RUNS] = ()
    timeout: Duration = Duration(60)


class Secrets(Section, frozen=True):
    """The names of the secrets that the application needs; never a value."""

    example: Path | None = None
    required: tuple[Text, ...] = ()
    ignore: tuple[Text, ...] = ()
    source: SecretsSource | None = None


class Ci(Section, frozen=True):
    """Where builds run; `api_base_url` and the token come from the workflow's variables when they are not named."""

    provider: Literal["github"]
    repository: Annotated[str, msgspec.Meta(pattern=r"^[^/\s]+/[^/\s]+$")]
    api_base_url: TlsUrl | None = None
    token_env: Text | None = None
    token_file: Path | None = None


class RecorderBucket(Section, frozen=True):
    """The bucket of a flight recorder.

    `credentials_*` hold its access key as JSON, `secret_*` what the recorder signs with; `flush` is the recorder's own.
    """

    bucket: Text | None = None
    endpoint: TlsUrl | None = None
    credentials_env: Text | None = None
    credentials_file: Path | None = None
    secret_env: Text | None = None
    secret_file: Path | None = None
    flush: Duration = Duration(2)


class Prometheus(Section, frozen=True):
    """What the application calls its metrics, when the counts come from Prometheus."""

    requests: Metric = "http_requests_total"
    duration: Metric = "http_request_duration_seconds_bucket"
    duration_unit: Literal["s", "ms"] = "s"
    selector: str = ""
    version_label: Label = "version"
    status_label: Label = "status"
    route_label: Label = "route"
    method_label: Label = "method"
    errors: Text = "5.."
    scrape_interval: Duration = Duration(15)


class RequestLog(Section, frozen=True):
    """A log of requests on this host, one JSON object a line, and what it calls things."""

    path: Path | None = None
    time: Text = "ts"
    version: Text = "version"
    status: Text = "status"
    outcome: Text = "outcome"
    latency: Text = "latency_ms"
    latency_unit: Literal["s", "ms", "us", "ns"] = "ms"
    route: Text = "route"
    method: Text = "method"
    bytes: Text = "bytes"
    ignore_routes: tuple[Text, ...] = ()


class Traffic(Section, frozen=True):
    """Where the counts per version and second come from."""

    provider: Literal["twin", "recorder", "tail", "telemetry", "analytics", "prometheus", "logs", "none"]
    url: Url | None = None
    token_file: Path | None = None
    recorder: RecorderBucket = RecorderBucket()
    prometheus: Prometheus = Prometheus()
    logs: RequestLog = RequestLog()


class Vendors(Section, frozen=True):
    """What the vendors announce about themselves: asked before guard acts alone (safety rule 12)."""

    status_pages: tuple[TlsUrl, ...] = ()
    components: tuple[Text, ...] = ()
    impact: Literal["minor", "major", "critical"] = "major"


class Pin(Section, frozen=True):
    """The identity that each mutation compares first (safety rule 1)."""

    account_id: Text | None = None
    script_tag: Text | None = None
    database_system_identifier: Text | None = None
    bucket: Text | None = None
    health_host: Text | None = None


class ErrorRate(Section, frozen=True):
    """The success criterion on errors."""

    below: Share = 0.01
    within: Duration = msgspec.field(default=Duration(300), name="for")


class Latency(Section, frozen=True):
    """The success criterion on latency, as a ratio to the baseline; a p99 above `never_above` fails without one."""

    p99_at_most: Ratio = 1.25
    never_above: Duration = Duration(10)


class CriteriaSection(Section, frozen=True):
    """The runbook's success criteria."""

    error_rate: ErrorRate = ErrorRate()
    watch: Duration = Duration(900)
    latency: Latency = Latency()
    old_version_quiet: Duration = Duration(60)


class Check(Section, frozen=True):
    """A request that guard sends itself, and what its answer must be; `headers_env` names variables of credentials."""

    path: Route
    method: Literal["GET", "HEAD"] = "GET"
    status: tuple[Status, ...] = ()
    word: str = ""
    header: dict[str, str] = {}
    json: dict[str, object] = {}
    redirect: str = ""
    origin: Origin | None = None
    preflight: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] | None = None
    headers_env: dict[str, Text] = {}

    def as_model(self) -> SyntheticCheck:
        """Return it as the model's noun; the credentials stay where they are."""
        return SyntheticCheck(
            path=self.path,
            method=self.method,
            statuses=self.status,
            word=self.word,
            headers=dict(self.header),
            json={path: value for path, value in self.json.items() if isinstance(value, str | int | float)},
            redirect=self.redirect,
            origin=self.origin or "",
            preflight=self.preflight or "",
            credentials=tuple(sorted(self.headers_env)),
        )


class Synthetic(Section, frozen=True):
    """The requests that guard sends itself while it watches; none without paths and checks."""

    every: Duration = Duration(1)
    paths: Annotated[tuple[Route, ...], msgspec.Meta(max_length=8)] = ()
    checks: Annotated[tuple[Check, ...], msgspec.Meta(max_length=16)] = ()


class Guard(Section, frozen=True):
    """What guard may do by itself, and how sure it must be."""

    mode: Mode = Mode.OBSERVE
    false_rollbacks_per_year: Positive = 1.0
    deployments_per_year: Positive = 3650.0
    alpha: Share | None = None
    false_alarms_per_year: Positive = 1.0
    on_inconclusive: OnInconclusive = OnInconclusive.HOLD
    on_unmeasured: OnUnmeasured = OnUnmeasured.HOLD
    on_shared_outage: OnSharedOutage = OnSharedOutage.HOLD
    on_secret_change: OnSecretChange = OnSecretChange.HOLD
    at_most: AtMost = AtMost(6 * 3600)
    baseline: Duration = Duration(3600)
    probe_every: Duration = Duration(2)
    down_probes: Count = 3
    min_bad: Count = 3
    confirm: Duration = Duration(0)
    warm_up: Duration = Duration(0)
    slow_start: Duration = Duration(60)
    warm_up_errors: Share = Share(0.1)
    accept_unproven: bool = False
    prove: tuple[Route, ...] = ()
    synthetic: Synthetic = Synthetic()
    ramp: tuple[Percent, ...] = ()
    sticky: bool = False
    expect: dict[Asked, tuple[Status, ...]] = {}
    vital: tuple[Asked, ...] = ()
    holdback: Annotated[float, msgspec.Meta(ge=0, le=50)] = 0
    minimum_version: Annotated[int, msgspec.Meta(ge=0)] = 0

    def chosen_alpha(self) -> float:
        """Return the probability of ever rolling back a healthy deployment in one watch, in [1e-6, 0.05]."""
        wanted = self.alpha if self.alpha is not None else self.false_rollbacks_per_year / self.deployments_per_year
        return min(max(wanted, _ALPHA_RANGE[0]), _ALPHA_RANGE[1])


def expectation(asked: str, statuses: tuple[int, ...]) -> Expectation:
    """Return what a key and a value of `guard.expect` mean.

    >>> expectation("GET /old/*", (410,))
    Expectation(method='GET', path='/old/*', statuses=(410,))
    """
    method, _, path = asked.partition(" ")
    return Expectation(method, path, statuses)


class Deploy(Section, frozen=True):
    """How the team builds and deploys."""

    command: CommandLine | None = None
    build: CommandLine | None = None


class EnvironmentSettings(Section, frozen=True):
    """One environment. `protected` (default: the name says production) asks for a message and the name typed."""

    platform: Platform
    protected: bool | None = None
    health: Health | None = None
    services: dict[str, Criticality] = {}
    database: Database | None = None
    storage: Storage | None = None
    secrets: Secrets = Secrets()
    ci: Ci | None = None
    traffic: Traffic = Traffic(provider="none")
    vendors: Vendors = Vendors()
    pin: Pin = Pin()
    criteria: CriteriaSection = CriteriaSection()
    guard: Guard = Guard()
    deploy: Deploy = Deploy()

    def policy(self) -> Policy:
        """Return criteria, guard and services as the model's nouns."""
        criteria, guard = self.criteria, self.guard
        return Policy(
            criteria=Criteria(
                error_rate_below=criteria.error_rate.below,
                error_rate_for_s=float(criteria.error_rate.within),
                watch_s=float(criteria.watch),
                latency_p99_at_most=criteria.latency.p99_at_most,
                latency_never_above_s=float(criteria.latency.never_above),
                old_version_quiet_s=float(criteria.old_version_quiet),
            ),
            guard=GuardPolicy(
                mode=guard.mode,
                alpha=guard.chosen_alpha(),
                false_alarms_per_year=guard.false_alarms_per_year,
                baseline_s=float(guard.baseline),
                probe_every_s=float(guard.probe_every),
                down_probes=guard.down_probes,
                min_bad=guard.min_bad,
                confirm_s=float(guard.confirm),
                warm_up_s=float(guard.warm_up),
                slow_start_s=float(guard.slow_start),
                warm_up_errors=guard.warm_up_errors,
                on_inconclusive=guard.on_inconclusive,
                on_unmeasured=guard.on_unmeasured,
                on_shared_outage=guard.on_shared_outage,
                on_secret_change=guard.on_secret_change,
                at_most_every_s=float(guard.at_most),
                accept_unproven=guard.accept_unproven,
                prove=guard.prove,
                synthetic=guard.synthetic.paths,
                synthetic_every_s=float(guard.synthetic.every),
                checks=tuple(check.as_model() for check in guard.synthetic.checks),
                ramp=guard.ramp,
                sticky=guard.sticky,
                expect=tuple(expectation(asked, statuses) for asked, statuses in guard.expect.items()),
                vital=guard.vital,
                holdback=float(guard.holdback),
                minimum_version=guard.minimum_version,
            ),
            services=dict(self.services),
        )


class Incidents(Section, frozen=True):
    """Where incident reports are written, and the card of each environment (safety rule 20)."""

    directory: Path = Path(".ai/incidents")
    card: Text = ".backout/card-{environment}.md"


class Diagnose(Section, frozen=True):
    """Signatures of errors that the team adds to ours: a folder of TOML files, one a label."""

    signatures: Path | None = None


class JournalSection(Section, frozen=True):
    """Where the durable record lives, the holds of this host, which need no journal, and the code of versions seen.

    `provider_marks`: stable and released versions are marked at the provider too (safety rule 15).
    """

    path: Path = Path(".backout/journal.sqlite")
    holds: Path = Path(".backout/holds")
    bundles: Path = Path(".backout/bundles")
    provider_marks: bool = True


class Marks(Section, frozen=True):
    """What the marks at the provider are signed with, so that nobody else's count; one key, or two while it changes."""

    key_env: Text | None = None
    key_file: Path | None = None


class NotifyWebhook(Section, frozen=True):
    """A receiver of signed webhooks; its URL may hold a secret, so only where it is kept stands in the file."""

    url_env: Text | None = None
    url_file: Path | None = None
    secret_env: Text | None = None
    secret_file: Path | None = None


class NotifySmtp(Section, frozen=True):
    """A mail server and who gets mail from whom."""

    host: Text
    sender: Text = msgspec.field(name="from")
    to: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: Text | None = None
    password_env: Text | None = None
    password_file: Path | None = None


class NotifySlack(Section, frozen=True):
    """An incoming webhook of Slack; its URL is a secret."""

    url_env: Text | None = None
    url_file: Path | None = None


class NotifyDeadMan(Section, frozen=True):
    """A URL outside that is asked every minute while guard watches (safety rule 19); it may hold a secret."""

    url_env: Text | None = None
    url_file: Path | None = None


class Notify(Section, frozen=True):
    """Whom to tell, and of what (safety rule 18)."""

    kinds: tuple[NoticeKind, ...] = tuple(NoticeKind)
    webhook: NotifyWebhook | None = None
    smtp: NotifySmtp | None = None
    slack: NotifySlack | None = None
    dead_man: NotifyDeadMan | None = None

    @property
    def has_channel(self) -> bool:
        """Whether anybody can be told anything."""
        return any(channel is not None for channel in (self.webhook, self.smtp, self.slack))


class Settings(Section, frozen=True):
    """The whole file. `contacts` are kept as they are written."""

    app: App
    environments: Annotated[dict[Tag, EnvironmentSettings], msgspec.Meta(min_length=1)]
    contacts: dict[str, object] = {}
    notify: Notify = Notify()
    incidents: Incidents = Incidents()
    diagnose: Diagnose = Diagnose()
    journal: JournalSection = JournalSection()
    marks: Marks = Marks()
