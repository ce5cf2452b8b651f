"""The one place that turns a configuration into a toolbox of ports. Whatever is not set up stays None."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from backout.escaping import printable
from backout.journal.sqlite import SqliteJournal
from backout.providers.clock import CorrectedClock, SystemClock
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
from backout.wiring.database import HURRIED_S, connections, migrations, proof_alarm, protection, restoring, schema
from backout.wiring.database import point_marker as point_marker
from backout.wiring.declared import declared
from backout.wiring.doors import MaskedBuilds, MaskedDeployments, MaskedHolds, MaskedPipeline
from backout.wiring.health import health_check as health_check
from backout.wiring.identity import identities as identities
from backout.wiring.identity import pinned as pinned
from backout.wiring.identity import pinned_identities, seal
from backout.wiring.lines import card_lines
from backout.wiring.lines import equivalents as equivalents
from backout.wiring.lines import lines_for_npx as lines_for_npx
from backout.wiring.platform import LateBundles, api_of
from backout.wiring.platform import reader as reader
from backout.wiring.telling import dead_man
from backout.wiring.telling import notifier as notifier
from backout.wiring.telling import outbox as outbox
from backout.wiring.telling import routes as routes
from backout.wiring.traffic import logs_of, traffic_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.config import Config, Environment
    from backout.config.schema.environment import Ci
    from backout.journal.stop import StopRequest
    from backout.model.diagnosis import Catalogue
    from backout.model.plan import Plan
    from backout.ports import Builds, DeployCommand, Holds, Pipeline, VendorStatus
    from backout.providers.cloudflare.client import ApiClient
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
    api = api_of(config, until)
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
        proof_alarm=proof_alarm(config),
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
        bundles=LateBundles(config),
        bundle_store=FileBundleStore(config.settings.journal.bundles, f"{account}-{script}", masked=masked),
        dead_man=dead_man(config, hooks.say),
        cards=FileCard(config.card_path, masked),
        card_lines=card_lines(config),
        lines_for_npx=lines_for_npx,
        notifier=notifier(config),
        pinned=pinned(config),
        provider_marks=config.settings.journal.provider_marks,
        seal=seal(config, hooks.say),
        identities=pinned_identities(config, api.reads),
        token=CloudflareTokens(api.by_role(), account),
        provider_clock=api,
        checkout=GitCheckout(config.path.parent),
    )
    return bounded(made)


def _vendors(config: Config) -> VendorStatus | None:
    settings = config.environment.vendors
    if not settings.status_pages:
        return None
    from backout.providers.statuspage.incidents import StatusPages  # noqa: PLC0415 only where it is set up

    pages = [str(page) for page in settings.status_pages]
    return StatusPages(pages, components=settings.components, impact=settings.impact)


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
