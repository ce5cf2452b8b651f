"""Every key of backout.toml, with its type and its default; `catalogue/backout.toml` says in words what each means.

`environment` what there is · `guard` automatic actions · `notify` who is notified · `types` their building blocks
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from backout.config.schema.environment import (
    Approvals,
    Certify,
    Ci,
    Database,
    Health,
    Pin,
    Platform,
    Secrets,
    Storage,
    Traffic,
    Vendors,
)
from backout.config.schema.guard import CriteriaSection, Guard, make_expectation
from backout.config.schema.notify import Notify
from backout.config.schema.types import CommandLine, Section, Share, Tag, Text
from backout.model.approval import ApprovalRule
from backout.model.guard.policy import Criteria, GuardPolicy, Policy
from backout.model.guard.signals import Criticality


class App(Section, frozen=True):
    """The people named in reports."""

    name: Text


class Deploy(Section, frozen=True):
    """How the team deploys."""

    command: CommandLine | None = None


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
    certify: Certify = Certify()
    deploy: Deploy = Deploy()
    approvals: Approvals = Approvals()

    def approval_rule(self) -> ApprovalRule:
        """Return what has to be approved as the model's noun."""
        found = self.approvals
        return ApprovalRule(found.required_for, found.by, float(found.expires))

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
                expect=tuple(make_expectation(asked, statuses) for asked, statuses in guard.expect.items()),
                vital=guard.vital,
                holdback=float(guard.holdback),
                minimum_version=guard.minimum_version,
            ),
            services=dict(self.services),
        )


class Incidents(Section, frozen=True):
    """Where incident reports are written, the card of each environment (safety rule 20), and its runbook.

    `critical_from`: the share of failed requests from which an incident of a protected environment is critical.
    """

    directory: Path = Path(".ai/incidents")
    critical_from: Share = 0.25
    card: Text = ".backout/card-{environment}.md"
    runbook: Text = ".ai/runbook-{environment}.md"


class Diagnose(Section, frozen=True):
    """The team's own signatures of errors, in addition to ours: a folder of TOML files, one per label."""

    signatures: Path | None = None


class JournalSection(Section, frozen=True):
    """Where the durable record is kept, the holds of this host (which need no journal), and the code of versions seen.

    `url_env`: the variable with the connection string of a Postgres server that keeps the journal in place of `path`;
    what lies beside that stays on this host. `pages_role`: the role there with which `backout serve` writes, `people`:
    which role each user of the proxy in front of it is. `provider_marks`: stable and released versions are marked at
    the provider too (safety rule 15).
    """

    path: Path = Path(".backout/journal.sqlite")
    url_env: Text | None = None
    pages_role: Text | None = None
    people: dict[Text, Text] = {}
    holds: Path = Path(".backout/holds")
    bundles: Path = Path(".backout/bundles")
    provider_marks: bool = True


class Marks(Section, frozen=True):
    """The key that signs the marks at the provider, so that no others count; one key, or two while it changes."""

    key_env: Text | None = None
    key_file: Path | None = None


class Settings(Section, frozen=True):
    """The whole file. `contacts` are free keys, see `backout.config.contacts`."""

    app: App
    environments: Annotated[dict[Tag, EnvironmentSettings], msgspec.Meta(min_length=1)]
    contacts: dict[str, object] = {}
    notify: Notify = Notify()
    incidents: Incidents = Incidents()
    diagnose: Diagnose = Diagnose()
    journal: JournalSection = JournalSection()
    marks: Marks = Marks()
