"""The one place that turns a configuration into a toolbox of ports. Whatever is not set up stays None."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING

from backout.config.scalars import API_BASE_URL
from backout.config.schema import TOKEN_ENV
from backout.errors import AuthError, ConfigError
from backout.escaping import printable
from backout.journal.sqlite import SqliteJournal
from backout.model.identity import Identity
from backout.providers.clock import CorrectedClock, SystemClock
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.deployments import CloudflareDeployments
from backout.providers.cloudflare.secrets import CloudflareSecrets
from backout.providers.cloudflare.token import CloudflareTokens
from backout.providers.cloudflare.triggers import CloudflareTriggers
from backout.providers.cloudflare.versions import CloudflareVersions
from backout.providers.files.bundles import FileBundleStore
from backout.providers.files.card import FileCard
from backout.providers.files.holds import FileHolds
from backout.providers.files.reports import FileReports
from backout.providers.git.checkout import GitCheckout
from backout.runbook.toolbox import Toolbox
from backout.wiring.boundary import bounded
from backout.wiring.database import (
    HURRIED_S,
    connections,
    database_identity,
    migrations,
    protection,
    restoring,
    schema,
)
from backout.wiring.database import point_marker as point_marker
from backout.wiring.declared import declared
from backout.wiring.doors import MaskedBuilds, MaskedDeployments, MaskedHolds, MaskedPipeline
from backout.wiring.telling import dead_man
from backout.wiring.telling import notifier as notifier
from backout.wiring.telling import outbox as outbox
from backout.wiring.telling import routes as routes
from backout.wiring.traffic import logs_of, traffic_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backout.analysis.seal import Seal
    from backout.config import Config, Environment
    from backout.config.schema import Ci, Health
    from backout.journal.stop import StopRequest
    from backout.model.bundle import Bundle
    from backout.model.card import CardLines
    from backout.model.conformance import Observation
    from backout.model.deployment import Version
    from backout.model.diagnosis import Catalogue
    from backout.model.plan import Equivalents, Plan
    from backout.model.secrets import SecretValues
    from backout.ports import (
        Builds,
        Bundles,
        Clock,
        DeployCommand,
        HealthCheck,
        Holds,
        Identities,
        Pipeline,
        VendorStatus,
    )
    from backout.providers.cloudflare.conformance import FirstContact
    from backout.providers.cloudflare.lines import Place
    from backout.runbook.secrets import PushTools


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a command wants to hear and answer, see `Toolbox`.

    Args:
        within_s: nobody is waited for longer than this from now on; None: as patient as the configuration says.
        hurried: a journal that another process keeps locked is waited for briefly, as with `within_s`.
        hear: is handed what the team's own command writes.
    """

    stop: StopRequest | None = None
    watching: Callable[[object], None] | None = None
    confirm: Callable[[Plan], bool] | None = None
    say: Callable[[str], None] = lambda _text: None
    within_s: float | None = None
    hear: Callable[[str], None] = lambda _line: None
    hurried: bool = False
    consent: Callable[[str, str], bool | None] | None = None


def actor() -> str:
    """Return who acts, as user@host."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return f"{user}@{os.uname().nodename}"


def journal(config: Config, stop: StopRequest | None = None, *, hurried: bool = False) -> SqliteJournal:
    """Return the journal; reading it starts nothing and creates nothing. `hurried`: a lock is waited for briefly."""
    patience_s = HURRIED_S if hurried else 15.0
    variables = config.variables
    return SqliteJournal(
        config.settings.journal.path, SystemClock(), stop=stop, busy_timeout_s=patience_s, mask=variables.mask
    )


def reports(config: Config) -> FileReports:
    """Return the folder of incident reports."""
    return FileReports(config.settings.incidents.directory, config.variables.masked)


def holds(config: Config) -> Holds:
    """Return the kill switch of this host; it needs neither journal nor token."""
    return MaskedHolds(FileHolds(config.settings.journal.holds), config.variables.masked)


def pipeline(variables: Environment, ci: Ci | None, environment: str) -> Pipeline:
    """Return the page of the workflow that this process runs in. Raises UsageError, AuthError as `workflow_of`."""
    from backout.config.workflow import workflow_of  # noqa: PLC0415 only pipelines pay for it
    from backout.providers.github.client import GitHubClient  # noqa: PLC0415 same
    from backout.providers.github.deployments import GitHubDeployment  # noqa: PLC0415 same

    workflow = workflow_of(variables, ci, environment)
    shown = GitHubDeployment(
        GitHubClient(workflow.api_base_url, workflow.token.reveal),
        workflow.repository,
        commit=workflow.commit,
        environment=environment,
        log_url=workflow.run_url,
    )
    return MaskedPipeline(shown, variables.masked)


def builds(config: Config) -> Builds | None:
    """Return the pipeline that builds and deploys, None where none is set up; its token is read at the first call."""
    ci = config.environment.ci
    if ci is None:
        return None
    from backout.config.workflow import API_BASE_URL as GITHUB_URL  # noqa: PLC0415 only where it is set up
    from backout.config.workflow import pipeline_token  # noqa: PLC0415 same
    from backout.providers.github.builds import GitHubBuilds  # noqa: PLC0415 same
    from backout.providers.github.client import GitHubClient  # noqa: PLC0415 same

    url = str(ci.api_base_url or config.variables.get("GITHUB_API_URL") or GITHUB_URL)
    found = GitHubBuilds(GitHubClient(url, lambda: pipeline_token(config.variables, ci).reveal()), ci.repository)
    return MaskedBuilds(found, config.variables.masked)


def _signatures(config: Config) -> Catalogue:
    from backout.wiring.diagnosis import catalogue  # noqa: PLC0415 only a diagnosis pays for it

    return catalogue(config.settings.diagnose.signatures)


def toolbox(config: Config, hooks: Hooks | None = None) -> Toolbox:
    """Return the ports of the chosen environment.

    Raises:
        AuthError: a token that is needed is missing. ConfigError, UsageError: as `Config` does.
    """
    hooks = hooks or Hooks()
    settings, masked = config.environment, config.variables.masked
    script, account = settings.platform.script, config.account_id
    until = None if hooks.within_s is None else SystemClock().now() + hooks.within_s
    api = _api(config, until)
    client, clock = api.acts, CorrectedClock(SystemClock(), api)
    traffic = traffic_of(config, api.reads, clock, hooks.say)
    book = journal(config, hooks.stop, hurried=hooks.hurried or until is not None)
    made = Toolbox(
        environment=config.name,
        policy=config.policy,
        actor=actor(),
        clock=clock,
        deployments=MaskedDeployments(CloudflareDeployments(client, account, script, reader=api.reads), masked),
        versions=CloudflareVersions(api.reads, account, script),
        secrets=CloudflareSecrets(api.secrets, account, script),
        pushing=_pushing(config, client if config.secrets_token() is None else api.secrets),
        journal=book,
        runs=book,
        marks=book,
        counts=book,
        checkpoints=book,
        reports=reports(config),
        traffic=traffic,
        vendors=_vendors(config),
        health=health_check(config, clock),
        sender=health_check(config, clock) if config.policy.guard.asked else None,
        pairing=health_check(config, clock),
        schema=schema(config, lambda: api.reads, hurried=until is not None),
        migrations=migrations(config),
        app_checks_head=config.environment.database is not None and config.environment.database.app_checks_head,
        deploy_command=config.environment.deploy.command or "",
        deployer=_deployer(config),
        hear=hooks.hear,
        restoring=restoring(config, hooks),
        points=point_marker(config),
        protection=protection(config),
        connections=connections(config),
        logs=logs_of(config, traffic),
        builds=builds(config),
        catalogue=partial(_signatures, config),
        redact=masked,
        triggers=CloudflareTriggers(client, account, script),
        declared=partial(declared, config),
        equivalents=equivalents(config),
        watching=hooks.watching,
        confirm=hooks.confirm,
        consent=hooks.consent,
        say=hooks.say,
        holds=holds(config),
        bundles=_Bundles(config),
        bundle_store=FileBundleStore(config.settings.journal.bundles, f"{account}-{script}", masked=masked),
        dead_man=dead_man(config, hooks.say),
        cards=FileCard(config.card_path, masked),
        card_lines=_card_lines(config),
        notifier=notifier(config),
        pinned=pinned(config),
        provider_marks=config.settings.journal.provider_marks,
        seal=_seal(config, hooks.say),
        identities=_pinned_identities(config, api.reads),
        token=CloudflareTokens(api.by_role(), account),
        provider_clock=api,
        checkout=GitCheckout(config.path.parent),
    )
    return bounded(made)


@dataclass(frozen=True, slots=True)
class _Api:
    """The clients of the platform's API: one, or one for each token that is set up. Also port ProviderClock."""

    acts: ApiClient
    reads: ApiClient
    secrets: ApiClient

    def by_role(self) -> dict[str, ApiClient]:
        """Return each client by what its token is used for."""
        others = {"read": self.reads, "secrets": self.secrets}
        own = {role: client for role, client in others.items() if client is not self.acts}
        own = {role: client for role, client in own.items() if role == "read" or client is not self.reads}
        return {"rollback" if own else "all": self.acts, **own}

    def offset_s(self) -> float | None:
        """Return what the last answer with a date said, of whichever client heard one first."""
        measured = (client.clock_offset_s for client in (self.acts, self.reads, self.secrets))
        return next((offset_s for offset_s in measured if offset_s is not None), None)


def _api(config: Config, until: float | None) -> _Api:
    url = str(config.environment.platform.api_base_url)
    token, read, secrets = config.token(), config.read_token(), config.secrets_token()
    acts = ApiClient(url, token.reveal, until=until, token_place=token.place)
    reads = acts if read is None else ApiClient(url, read.reveal, until=until, token_place=read.place)
    if secrets is None:
        return _Api(acts, reads, reads)
    return _Api(acts, reads, ApiClient(url, secrets.reveal, until=until, token_place=secrets.place))


def reader(config: Config, within_s: float) -> ApiClient:
    """Return the client of the platform's API that only reads. Raises AuthError: there is no token."""
    return _api(config, SystemClock().now() + within_s).reads


class _Bundles:
    """Port Bundles, loaded when it is used; on connections of its own: code is large, and nobody waits for it."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def fetch(self, version: str) -> Bundle:
        """Return the code of a version."""
        return self._opened().fetch(version)

    def upload(self, bundle: Bundle, *, message: str, secrets: SecretValues | None = None) -> Version:
        """Upload the code as a new version."""
        return self._opened().upload(bundle, message=self._config.variables.masked(message), secrets=secrets)

    def _opened(self) -> Bundles:
        from backout.providers.cloudflare.bundles import LIMITS, CloudflareBundles  # noqa: PLC0415 few need it

        config = self._config
        platform, read = config.environment.platform, config.read_token()
        url = str(platform.api_base_url)
        token = config.token()
        client = ApiClient(url, token.reveal, limits=LIMITS, token_place=token.place)
        reader = client
        if read is not None:
            reader = ApiClient(url, read.reveal, limits=LIMITS, token_place=read.place)
        return CloudflareBundles(client, config.account_id, platform.script, reader=reader)


def pinned(config: Config) -> Identity:
    """Return the identity that the file pins."""
    pin = config.environment.pin
    return Identity(
        account_id=pin.account_id,
        script_tag=pin.script_tag,
        database_system_identifier=pin.database_system_identifier,
        bucket=pin.bucket,
        health_host=pin.health_host,
    )


def _seal(config: Config, say: Callable[[str], None]) -> Seal | None:
    """Return what marks are signed with, None where they are not. Raises AuthError as `Config.marks_keys`."""
    if not config.signs_marks:
        return None
    from backout.analysis.seal import Seal  # noqa: PLC0415 only where it is set up

    keys, variable = config.marks_keys(), config.settings.marks.key_env or ""
    if not keys:
        say(f"marks are signed, and {variable} is not set here: no mark of another machine counts")
    place = f"{config.account_id}/{config.environment.platform.script}"
    return Seal(place, tuple(key.reveal().encode() for key in keys), variable)


def _pinned_identities(config: Config, client: ApiClient) -> Identities | None:
    parts = [part.name for part in fields(Identity) if getattr(pinned(config), part.name) is not None]
    return _identities(config, client, parts) if parts else None


def identities(config: Config, within_s: float | None = None) -> Identities:
    """Return who the environment is, all of it, for what is to be pinned. Raises AuthError without a token."""
    until = None if within_s is None else SystemClock().now() + within_s
    return _identities(config, _api(config, until).reads, None)


def _identities(config: Config, client: ApiClient, parts: list[str] | None) -> Identities:
    from backout.providers.cloudflare.identity import Beside, CloudflareIdentities  # noqa: PLC0415 only with a pin

    settings = config.environment
    beside = Beside(
        database=database_identity(config),
        bucket=settings.storage.bucket if settings.storage else None,
        bucket_is_ours=settings.storage is not None and settings.storage.provider == "r2",
        health_host=config.health_host,
    )
    return CloudflareIdentities(client, config.account_id, settings.platform.script, beside, parts=parts)


def _vendors(config: Config) -> VendorStatus | None:
    settings = config.environment.vendors
    if not settings.status_pages:
        return None
    from backout.providers.statuspage.incidents import StatusPages  # noqa: PLC0415 only where it is set up

    pages = [str(page) for page in settings.status_pages]
    return StatusPages(pages, components=settings.components, impact=settings.impact)


def health_check(config: Config, clock: Clock, *, within_s: float | None = None) -> HealthCheck | None:
    """Return who asks the health endpoint, None where none is set up; `within_s`: for no longer than this.

    Raises:
        AuthError, ConfigError: one of its headers is not there, or may not be sent.
    """
    settings = config.environment.health
    if settings is None:
        return None
    from backout.providers.health.probe import HealthProbe  # noqa: PLC0415 only where it is set up

    return _probe(partial(HealthProbe, clock=clock), config, settings, within_s)


def answering(config: Config, paths: Sequence[str]) -> tuple[str, ...]:
    """Return those of these paths on the health endpoint's host that answer 2xx to a GET.

    Raises:
        ConfigError: no health endpoint is set up, so no host is known. AuthError: as `Config.health_headers`.
    """
    asker = health_check(config, SystemClock())
    if asker is None:
        raise ConfigError(("health is not set up, so no host is known",))
    return tuple(path for path in paths if 200 <= (asker.fetch(path).status or 0) < 300)  # noqa: PLR2004 - HTTP's own


def _probe(make: Callable[..., HealthCheck], config: Config, settings: Health, within_s: float | None) -> HealthCheck:
    timeout_s = float(settings.timeout)
    return make(
        str(settings.url),
        timeout_s=timeout_s if within_s is None else min(timeout_s, within_s),
        headers=config.health_headers(),
        script=config.environment.platform.script,
        format=settings.format,
        names=tuple(config.environment.services),
        mask=config.variables.mask,
        credentials=config.check_credentials,
    )


def _deployer(config: Config) -> DeployCommand | None:
    if not config.environment.deploy.command:
        return None
    from backout.providers.command.deploy import ShellDeployCommand  # noqa: PLC0415 only where it is set up

    lock = config.settings.journal.path.with_suffix(f".deploy-{config.name}.lock")
    return ShellDeployCommand(config.path.parent, lock, lambda text: printable(config.variables.masked(text)))


def _pushing(config: Config, client: ApiClient) -> Callable[[], PushTools]:
    def opened() -> PushTools:
        from backout.wiring.secrets import push_tools  # noqa: PLC0415 only where secrets are set

        return push_tools(config, client)

    return opened


def _place(config: Config) -> Place:
    from backout.providers.cloudflare.lines import Place as Where  # noqa: PLC0415 only to word a line

    platform, health = config.environment.platform, config.environment.health
    return Where(
        api_base_url=str(platform.api_base_url),
        account_id=config.account_id,
        script=platform.script,
        health_url=str(health.url) if health else None,
        headers=health.headers if health else {},
        headers_env=health.headers_env if health else {},
    )


def equivalents(config: Config) -> Equivalents:
    """Return what a person would type instead, with the environment's real names."""
    from backout.providers.cloudflare import lines  # noqa: PLC0415 only to word a line

    return lines.equivalents(_place(config))


def _card_lines(config: Config) -> CardLines:
    """Return the lines of the environment's card; of secrets only where they are."""
    from backout.providers.cloudflare.lines import Sources, card_lines  # noqa: PLC0415 only to word a line

    settings, platform, database = config.settings, config.environment.platform, config.environment.database
    sources = Sources(
        token_env=platform.token_env,
        token_file=str(platform.token_file) if platform.token_file else None,
        database_env=database.url_env if database else None,
        database_file=str(database.url_file) if database and database.url_file else None,
        migrations=database.migrations if database else "",
    )
    return replace(
        card_lines(_place(config), sources),
        application=settings.app.name,
        places=(
            ("incident reports", str(settings.incidents.directory)),
            ("journal", str(settings.journal.path)),
            ("configuration", str(config.path)),
        ),
        people=tuple((name, str(value)) for name, value in settings.contacts.items()),
    )


@dataclass(frozen=True, slots=True)
class Reach:
    """Which account a first contact asks, through which API, and where its Worker answers (None: workers.dev)."""

    account_id: str
    base_url: str = API_BASE_URL
    ingress_url: str | None = None


def first_contact(environment: Environment, reach: Reach) -> FirstContact:
    """Return the calls of `backout conformance`; it needs no configuration.

    Raises:
        AuthError: there is no token.
    """
    from backout.analysis.conformance import shape_of  # noqa: PLC0415 only that command needs it
    from backout.providers.cloudflare.conformance import FirstContact as Contact  # noqa: PLC0415

    token = environment.secret(TOKEN_ENV)
    if token is None:
        raise AuthError("the API token is missing", hint=f"set {TOKEN_ENV} or {TOKEN_ENV}_FILE")
    return Contact(
        base_url=reach.base_url,
        token=token.reveal,
        account_id=reach.account_id,
        ingress_url=reach.ingress_url,
        clock=SystemClock(),
        shape_of=shape_of,
    )


def expected_answers() -> tuple[Observation, ...]:
    """Return what the twin answers to the calls of a first contact, as it was recorded."""
    from importlib import resources  # noqa: PLC0415 - 10 ms that only conformance pays

    import msgspec  # noqa: PLC0415 only that command needs it

    from backout.model.conformance import Observation as Shape  # noqa: PLC0415

    recorded = (resources.files("backout") / "catalogue" / "conformance.json").read_bytes()
    return msgspec.json.decode(recorded, type=tuple[Shape, ...])
