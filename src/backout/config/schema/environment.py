"""The parts of an environment: where it runs, where it keeps its data, and what counts its requests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from backout.config.scalars import API_BASE_URL, Duration, TlsUrl, Url
from backout.config.schema.types import RUNS, CommandLine, Count, Label, Metric, Port, Section, Text
from backout.model.approval import Approver, Change

TOKEN_ENV = "CLOUDFLARE_API_TOKEN"  # noqa: S105 - the name of a variable


HostName = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z][0-9A-Za-z.-]{0,62}$")]
Destination = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z_][^\s]*$")]
"""What ssh(1) is given: nothing that begins as one of its options."""


class CaddyJobs(Section, frozen=True):
    """Job workers and timers of a release, which run for the live one alone.

    `start` and `stop` start them and end them; `show` prints how many jobs they are doing, or "stopped" where they do
    not run. `{release}`, `{port}` and `{folder}` are put in. `within` is how long jobs in flight may take.
    """

    start: CommandLine
    stop: CommandLine
    show: CommandLine
    within: Duration = Duration(60)


class CaddyHost(Section, frozen=True):
    """A host: what OpenSSH calls it (`ssh`; without it, this one), and what is different there from all the others.

    `jobs` says whether its releases have job workers there.
    """

    ssh: Destination | None = None
    releases: Path | None = None
    access_log: Path | None = None
    ports: tuple[Port, Port] | None = None
    jobs: bool = True


class Caddy(Section, frozen=True):
    """Releases on hosts behind Caddy, on this one or on `hosts`.

    `releases` is their folder, `access_log` the site's log in JSON. Each release listens on one of the `ports`. It is
    run by `start` and `stop`, or where nothing else starts processes by `run`, in which `{release}`, `{port}` and
    `{folder}` are put in. `ssh_config` is a file in place of the user's own configuration of ssh.
    """

    releases: Path
    access_log: Path | None = None
    ports: tuple[Port, Port] = (9100, 9199)
    run: CommandLine | None = None
    start: CommandLine | None = None
    stop: CommandLine | None = None
    starts_within: Duration = Duration(30)
    jobs: CaddyJobs | None = None
    hosts: dict[HostName, CaddyHost] = {}
    ssh_config: Annotated[Path, RUNS] | None = None


Words = Annotated[tuple[Text, ...], RUNS]


class PlatformCommands(Section, frozen=True):
    """Commands of the team that speak for the platform: each with its arguments, run without a shell, from this folder.

    They get the variables that `environment` sets and `pass_environment` names, and no others of ours; the secrets
    whose variables `secrets_env` names come on their standard input, under the names there.
    """

    history: Words = ()
    current: Words = ()
    activate: Words = ()
    shares: Words = ()
    probe: Words = ()
    timeout: Duration = Duration(15)
    environment: dict[str, str] = {}
    pass_environment: tuple[Text, ...] = ()
    secrets_env: dict[str, Text] = {}


class Platform(Section, frozen=True):
    """Where the application runs; an empty `account_id` is taken from CLOUDFLARE_ACCOUNT_ID.

    The token is for acting; reading, and setting secrets, may have separate tokens. `script` names the Worker; releases
    behind Caddy have the table `caddy` instead, any other platform the table `command`.
    """

    provider: Literal["cloudflare", "caddy", "command"]
    script: str = ""
    caddy: Caddy | None = None
    command: PlatformCommands | None = None
    account_id: str = ""
    api_base_url: TlsUrl = API_BASE_URL
    token_env: Text | None = None
    token_file: Path | None = None
    read_token_env: Text | None = None
    read_token_file: Path | None = None
    secrets_token_env: Text | None = None
    secrets_token_file: Path | None = None

    @property
    def is_cloudflare(self) -> bool:
        """Whether it is Cloudflare, with an account, a token, a Worker, and what else only that has."""
        return self.provider == "cloudflare"


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
    acknowledged commit may never be lost; its watchdog gives that up after `sync_timeout`, and records it. A restore
    that was proved longer ago than `prove_within` is an alarm; 0 turns that off.
    """

    directory: Path = Path(".backout/backups")
    store: BackupBucket | None = None
    key_env: Text | None = None
    key_file: Path | None = None
    full_every: Duration = Duration(7 * 86400)
    keep: Duration = Duration(35 * 86400)
    wal: Literal["off", "stream", "sync"] = "off"
    sync_timeout: Duration = Duration(10)
    prove_within: Duration = Duration(8 * 86400)
    pgbackrest: PgBackRestStanza | None = None


class Server(Section, frozen=True):
    """A self-hosted server that a whole restore may replace: its data directory, and the commands around it."""

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
    """The application's database; the connection string itself is never in the file.

    A D1 database has a `database_id` in place of a connection string; only its migrations are read. `fence_roles` are
    the roles that a fence keeps out, by default the one in the connection string.
    """

    provider: Literal["postgres", "d1"]
    url_env: Text | None = None
    url_file: Path | None = None
    migrations: Literal["prisma", "alembic", "django", "drizzle", "d1", "none"] = "none"
    migrations_path: Path | None = None
    database_id: Text | None = None
    app_checks_head: bool = False
    connect_timeout: Duration = Duration(5)
    pool_limit: Count | None = None
    pool_application: Text = "Cloudflare Hyperdrive"
    admin_url_env: Text | None = None
    admin_url_file: Path | None = None
    fence_roles: tuple[Text, ...] = ()
    binaries: Annotated[Path, RUNS] | None = None
    backup: Backup = Backup()
    server: Server | None = None
    managed: Managed | None = None


class Storage(Section, frozen=True):
    """The application's bucket; `credentials_*` hold its access key as JSON. `prefix`: the part that is restored.

    `history` is the bucket of the snapshots where this one keeps no versions (R2 has none); `history_key_*` hold what
    its manifests are signed with. A snapshot is due each `history_every`, and kept for `history_keep`.
    """

    provider: Literal["r2", "s3"]
    bucket: Text
    endpoint: TlsUrl | None = None
    prefix: str = ""
    credentials_env: Text | None = None
    credentials_file: Path | None = None
    history: Text | None = None
    history_key_env: Text | None = None
    history_key_file: Path | None = None
    history_every: Duration = Duration(3600)
    history_keep: Duration = Duration(35 * 86400)


class Certify(Section, frozen=True):
    """The trial of a way back: where its rows come from, its requests, and SQL with rows of the team's own."""

    data: Literal["generated", "clone"] = "generated"
    requests: Path | None = None
    seed: Path | None = None


class Approvals(Section, frozen=True):
    """What a person has to approve before it changes anything, who may, and for how long an approval counts."""

    required_for: tuple[Change, ...] = ()
    by: Approver = Approver.ANYONE
    expires: Duration = Duration(3600)


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
    """Where builds run; `api_base_url` and the token come from the workflow's variables if they are not set."""

    provider: Literal["github"]
    repository: Annotated[str, msgspec.Meta(pattern=r"^[^/\s]+/[^/\s]+$")]
    api_base_url: TlsUrl | None = None
    token_env: Text | None = None
    token_file: Path | None = None


class FlightRecorder(Section, frozen=True):
    """Where a flight recorder keeps its counts: in its Durable Object (`url`, its own address), or in a bucket.

    `credentials_*` hold the bucket's access key as JSON, `secret_*` the recorder's secret; `flush` is the recorder's
    own.
    """

    url: TlsUrl | None = None
    bucket: Text | None = None
    endpoint: TlsUrl | None = None
    credentials_env: Text | None = None
    credentials_file: Path | None = None
    secret_env: Text | None = None
    secret_file: Path | None = None
    flush: Duration = Duration(2)


class Prometheus(Section, frozen=True):
    """The names of the application's metrics, if the counts come from Prometheus."""

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


class Promql(Section, frozen=True):
    """Two queries with `{version}` in them, if the counts come from a server that speaks Prometheus' HTTP API."""

    all: Text | None = None
    bad: Text | None = None
    duration: Text | None = None
    duration_unit: Literal["s", "ms"] = "s"
    scrape_interval: Duration = Duration(15)


class RequestLog(Section, frozen=True):
    """A log of requests on this host, one JSON object per line, and the names of its fields."""

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
    content_type: Text = "content_type"
    ignore_routes: tuple[Text, ...] = ()


class Traffic(Section, frozen=True):
    """Where the counts per version and second come from."""

    provider: Literal[
        "twin", "recorder", "tail", "telemetry", "analytics", "prometheus", "promql", "logs", "caddy", "none"
    ]
    url: Url | None = None
    token_env: Text | None = None
    token_file: Path | None = None
    basic_env: Text | None = None
    basic_file: Path | None = None
    recorder: FlightRecorder = FlightRecorder()
    prometheus: Prometheus = Prometheus()
    promql: Promql = Promql()
    logs: RequestLog = RequestLog()


class Vendors(Section, frozen=True):
    """The vendors' own incident announcements, checked before guard acts by itself (safety rule 12)."""

    status_pages: tuple[TlsUrl, ...] = ()
    components: tuple[Text, ...] = ()
    impact: Literal["minor", "major", "critical"] = "major"


class Pin(Section, frozen=True):
    """The identity that each mutation compares first (safety rule 1).

    `conformance` says which commands of `platform.command` passed `backout conformance`, and when.
    """

    account_id: Text | None = None
    script_tag: Text | None = None
    database_system_identifier: Text | None = None
    bucket: Text | None = None
    health_host: Text | None = None
    conformance: Text | None = None
