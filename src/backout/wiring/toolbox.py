"""The toolbox of the chosen environment. Anything not set up stays None."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from backout.config.secret_names import list_own_keys
from backout.errors import ConfigError
from backout.escaping import make_printable
from backout.model.value import Value
from backout.providers.clock import CorrectedClock, SystemClock
from backout.providers.cloudflare.attached import CloudflareAttachments
from backout.providers.cloudflare.deployments import CloudflareDeployments
from backout.providers.cloudflare.secrets import CloudflareSecrets
from backout.providers.cloudflare.token import CloudflareTokens
from backout.providers.cloudflare.triggers import CloudflareTriggers
from backout.providers.cloudflare.versions import CloudflareVersions
from backout.providers.files.bundles import FileBundleStore
from backout.providers.files.card import FileCard
from backout.providers.git.checkout import GitCheckout
from backout.providers.health.sent import SentProbes
from backout.runbook.toolbox import (
    GuardTools,
    IncidentTools,
    Late,
    Parts,
    PlatformTools,
    RecoveryTools,
    RollbackTools,
    SafetyTools,
    Toolbox,
)
from backout.wiring.boundary import add_boundaries
from backout.wiring.db.database import (
    find_migrations,
    make_connections,
    make_fence_opener,
    make_proof_alarm,
    make_protection,
    make_restoring,
    make_schema,
    make_statements,
)
from backout.wiring.db.points import make_point_marker
from backout.wiring.declared import list_declared
from backout.wiring.health import make_health_check, make_version_opener
from backout.wiring.helps import list_helps, make_commit_url, make_vendors
from backout.wiring.hooks import Hooks
from backout.wiring.identity import find_tag, get_pinned_identity, make_identities, make_pinned_reader, make_seal
from backout.wiring.lines import list_npx_lines, make_card_lines, make_equivalents
from backout.wiring.masked_ports import MaskedDeployments, MaskedMaintenance
from backout.wiring.objects_check import find_objects_check
from backout.wiring.other_platform import find_other_platform
from backout.wiring.pipelines import make_builds
from backout.wiring.platform import LateBundles, make_api, make_bundles
from backout.wiring.records import find_actor, open_holds, open_journal, open_reports
from backout.wiring.telling import make_dead_man, make_notifier
from backout.wiring.traffic import make_logs, make_traffic

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.config import Config
    from backout.model.incident.diagnosis import Catalogue
    from backout.ports import (
        Clock,
        DeployCommand,
        Deployments,
        Secrets,
        SecretWriter,
        Traffic,
        Versions,
    )
    from backout.providers.cloudflare.client import ApiClient
    from backout.runbook.secrets.tools import PushTools
    from backout.wiring.other_platform import OtherPlatform
    from backout.wiring.platform import Api


def _load_signatures(config: Config) -> Catalogue:
    from backout.wiring.diagnosis import load_catalogue

    return load_catalogue(config.settings.diagnose.signatures)


def make_toolbox(config: Config, hooks: Hooks | None = None) -> Toolbox:
    """Return the ports of the chosen environment.

    Raises:
        AuthError: a token that is needed is missing.
        ConfigError, UsageError: as `Config` does.
    """
    hooks = hooks or Hooks()
    sent = SentProbes() if config.environment.traffic.provider == "telemetry" else None
    other = find_other_platform(config)
    home = _open_cloudflare(config, hooks, sent) if other is None else _open_other(config, other, hooks, sent)
    clock, traffic = home.clock, home.traffic
    hurried = hooks.hurried or hooks.within_s is not None
    book = open_journal(config, hooks.stop, hurried=hurried) if hooks.journal is None else hooks.journal
    if hooks.spools and config.settings.journal.url_env is not None:
        from backout.wiring.journal_spool import replace_if_away

        book = replace_if_away(config, book, hooks)
    made = Toolbox(
        environment=config.name,
        policy=config.policy,
        actor=find_actor(),
        clock=clock,
        deployments=MaskedDeployments(home.deployments, config.variables.mask_text),
        versions=home.versions,
        journal=book,
        runs=book,
        marks=book,
        counts=book,
        checkpoints=book,
        parts=Parts(
            incident=Late(lambda: _make_incident_tools(config, traffic)),
            guard=Late(lambda: _make_guard_tools(config, hooks, clock, sent)),
            rollback=Late(home.make_rollback_tools),
            recovery=Late(lambda: _make_recovery_tools(config, hooks)),
            safety=Late(home.make_safety_tools),
            platform=Late(home.make_platform_tools),
        ),
        traffic=traffic,
        health=make_health_check(config, clock, sent=sent),
        secrets=home.secrets,
        pushing=home.make_secret_writer and _make_pushing(config, home.make_secret_writer),
        provider_marks=config.settings.journal.provider_marks,
        seal=make_seal(config, hooks.say),
        notifier=make_notifier(config),
        confirm=hooks.confirm,
        pace=home.pace,
        say=hooks.say,
    )
    return add_boundaries(made)


class _Home(Value, frozen=True):
    """What the platform of an environment brings."""

    deployments: Deployments
    versions: Versions
    secrets: Secrets | None
    clock: Clock
    traffic: Traffic | None
    make_secret_writer: Callable[[], SecretWriter] | None
    make_rollback_tools: Callable[[], RollbackTools]
    make_safety_tools: Callable[[], SafetyTools]
    make_platform_tools: Callable[[], PlatformTools] = PlatformTools
    pace: Callable[[float], float] = lambda every_s: every_s


def _open_cloudflare(config: Config, hooks: Hooks, sent: SentProbes | None) -> _Home:
    script, account = config.environment.platform.script, config.account_id
    api = make_api(config, None if hooks.within_s is None else SystemClock().now() + hooks.within_s)
    clock = CorrectedClock(SystemClock(), api)
    pusher = api.acts if config.secrets_token() is None else api.secrets
    patient = CloudflareDeployments(api.reads.make_yielding(), account, script)
    return _Home(
        deployments=CloudflareDeployments(api.acts, account, script, reader=api.reads),
        versions=CloudflareVersions(api.reads, account, script),
        secrets=CloudflareSecrets(api.secrets, account, script),
        clock=clock,
        traffic=make_traffic(config, api.reads, clock, hooks.say, sent, history=patient.history),
        make_secret_writer=lambda: _make_cloudflare_writer(config, pusher),
        make_rollback_tools=lambda: _make_rollback_tools(config, hooks, api, clock),
        make_safety_tools=lambda: _make_safety_tools(config, api),
        make_platform_tools=lambda: _make_platform_tools(config, api.acts),
        pace=lambda every_s: api.reads.budget.pace(every_s, SystemClock().now()),
    )


def _open_other(config: Config, other: OtherPlatform, hooks: Hooks, sent: SentProbes | None) -> _Home:
    clock = SystemClock()
    return _Home(
        deployments=other.make_deployments(),
        versions=other.make_versions(),
        secrets=other.make_secrets(),
        clock=clock,
        traffic=make_traffic(config, None, clock, hooks.say, sent, history=other.make_deployments().history),
        make_secret_writer=other.find_secret_writer(),
        make_rollback_tools=lambda: RollbackTools(
            schema=make_schema(config, _refuse_d1, hurried=hooks.within_s is not None),
            migrations=find_migrations(config),
            bundles=other.make_bundles(),
            app_checks_head=config.environment.database is not None and config.environment.database.app_checks_head,
            deploy_command=config.environment.deploy.command or "",
            deployer=make_deployer(config) if config.environment.deploy.command else None,
            hear=hooks.hear,
            equivalents=other.list_equivalents(),
            open_version=other.find_opener(),
            places_targets=other.places_targets,
            jobs=other.make_jobs(),
            standby=other.make_standby(),
            find_obstacle=other.make_release_check(),
        ),
        make_safety_tools=lambda: SafetyTools(
            pinned=get_pinned_identity(config),
            identities=make_identities(config),
            checkout=GitCheckout(config.path.parent),
            vendors=make_vendors(config),
            holds=open_holds(config),
            doubt=other.doubt,
        ),
        make_platform_tools=lambda: _make_other_tools(config, other),
    )


def _make_other_tools(config: Config, other: OtherPlatform) -> PlatformTools:
    page = other.find_maintenance()
    return PlatformTools(maintenance=page and MaskedMaintenance(page, config.variables.mask_text))


def _refuse_d1() -> ApiClient:
    raise ConfigError(('a D1 database belongs to platform.provider = "cloudflare"',))


def _make_cloudflare_writer(config: Config, client: ApiClient) -> SecretWriter:
    from backout.providers.cloudflare.secrets import CloudflareSecretWriter

    return CloudflareSecretWriter(client, config.account_id, config.environment.platform.script)


def _make_pushing(config: Config, make_writer: Callable[[], SecretWriter]) -> Callable[[], PushTools]:
    def open_push_tools() -> PushTools:
        from backout.wiring.secrets import push_tools

        return push_tools(config, make_writer())

    return open_push_tools


def _make_guard_tools(config: Config, hooks: Hooks, clock: Clock, sent: SentProbes | None) -> GuardTools:
    return GuardTools(
        sender=make_health_check(config, clock, sent=sent) if config.policy.guard.asked else None,
        pairing=make_health_check(config, clock, sent=sent),
        connections=make_connections(config),
        watching=hooks.watching,
        consent=hooks.consent,
        dead_man=make_dead_man(config, hooks.say),
        declared=partial(list_declared, config),
    )


def _make_rollback_tools(config: Config, hooks: Hooks, api: Api, clock: Clock) -> RollbackTools:
    script, account, database = config.environment.platform.script, config.account_id, config.environment.database
    folder = config.places.bundles
    return RollbackTools(
        schema=make_schema(config, lambda: api.reads, hurried=hooks.within_s is not None),
        migrations=find_migrations(config),
        app_checks_head=database is not None and database.app_checks_head,
        triggers=CloudflareTriggers(api.acts, account, script),
        attachments=CloudflareAttachments(
            api.reads.make_yielding(), account, script, find_tag=partial(find_tag, config, api.reads)
        ),
        bundles=LateBundles(config),
        bundle_store=FileBundleStore(folder, f"{account}-{script}", masked=config.variables.mask_text),
        deploy_command=config.environment.deploy.command or "",
        deployer=make_deployer(config) if config.environment.deploy.command else None,
        hear=hooks.hear,
        equivalents=make_equivalents(config),
        statements=make_statements(config),
        open_version=make_version_opener(config, api.reads, clock),
    )


def _make_recovery_tools(config: Config, hooks: Hooks) -> RecoveryTools:
    return RecoveryTools(
        make_restoring(config, hooks),
        make_point_marker(config),
        make_protection(config),
        proof_alarm=make_proof_alarm(config),
        fence=make_fence_opener(config),
        keeps_objects=config.environment.storage is not None,
        check_objects=find_objects_check(config),
    )


def _make_platform_tools(config: Config, client: ApiClient) -> PlatformTools:
    from backout.providers.cloudflare.maintenance import CloudflareMaintenance
    from backout.providers.cloudflare.queues import CloudflareQueues
    from backout.providers.cloudflare.read_caches import CloudflareReadCaches

    script, account = config.environment.platform.script, config.account_id
    deployments = CloudflareDeployments(client, account, script)
    versions = CloudflareVersions(client, account, script)
    maintenance = CloudflareMaintenance(deployments, versions, make_bundles(config), script)
    return PlatformTools(
        queues=CloudflareQueues(client, account, script),
        read_caches=CloudflareReadCaches(client, account, script),
        maintenance=MaskedMaintenance(maintenance, config.variables.mask_text),
    )


def _make_incident_tools(config: Config, traffic: Traffic | None) -> IncidentTools:
    masked, places = config.variables.mask_text, config.places
    return IncidentTools(
        reports=open_reports(config),
        logs=make_logs(config, traffic),
        builds=make_builds(config),
        catalogue=partial(_load_signatures, config),
        redact=masked,
        cards=FileCard(places.card_path, masked, check=places.check_card, check_folder=places.check_written),
        card_lines=make_card_lines(config),
        lines_for_npx=list_npx_lines if config.environment.platform.is_cloudflare else tuple,
        helps=list_helps(config),
        commit_url=make_commit_url(config),
    )


def _make_safety_tools(config: Config, api: Api) -> SafetyTools:
    return SafetyTools(
        pinned=get_pinned_identity(config),
        identities=make_pinned_reader(config, api.reads),
        token=CloudflareTokens(api.by_role(), config.account_id),
        provider_clock=api,
        checkout=GitCheckout(config.path.parent),
        vendors=make_vendors(config),
        holds=open_holds(config),
    )


def make_deployer(config: Config) -> DeployCommand:
    """Return what runs the team's own commands."""
    from backout.providers.command.deploy import ShellDeployCommand

    return ShellDeployCommand(
        config.path.parent,
        config.places.deploy_lock,
        lambda text: make_printable(config.variables.mask_text(text)),
        without=list_own_keys(config.settings),
    )
