"""Everything a procedure may use: the ports of one environment, its policy, and who acts. Wiring fills it."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from backout.model.card import CardLines
from backout.model.identity import Identity
from backout.model.plan import Equivalents
from backout.runbook.marked import MarkedDeployments

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.analysis.seal import Seal
    from backout.model.backups import Protection
    from backout.model.diagnosis import Catalogue
    from backout.model.plan import Plan
    from backout.model.policy import Policy
    from backout.ports import (
        Builds,
        Bundles,
        BundleStore,
        Cards,
        Checkout,
        Checkpoints,
        Clock,
        Connections,
        CountsStore,
        DeadMan,
        DeployCommand,
        Deployments,
        HealthCheck,
        Holds,
        Identities,
        Journal,
        Logs,
        Marks,
        MigrationFiles,
        Notifier,
        PointMarker,
        ProviderClock,
        Reports,
        Runs,
        Schema,
        Secrets,
        TokenCheck,
        Traffic,
        TriggerSettings,
        VendorStatus,
        Versions,
    )
    from backout.runbook.restore import RestoreTools
    from backout.runbook.secrets import PushTools


def _no_catalogue() -> Catalogue:
    from backout.model.diagnosis import Catalogue  # noqa: PLC0415 - a rollback must be quick, and diagnoses seldom

    return Catalogue({}, ())


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The ports of one environment; a part that is None is "not set up", never an error.

    However it is made, `deployments` tells with each deployment what it says as a mark (`MarkedDeployments`).

    Args:
        actor: who acts, "user@host" or "guard". in_background: whether health is asked in a thread of its own, so that
            a hanging endpoint never delays the other evidence (False in tests with a fake clock).
        sender: what synthetic requests are sent with: the host of `health`, on a connection of its own. pairing: what
            two versions are asked with side by side, the same again; dice: decide which is asked first.
        migrations: the files that the schema's history is made of; app_checks_head: old code refuses to start on a
            migration that it does not know, so every one breaks it. deploy_command: how the team deploys, "" unknown;
            deployer runs it, and hear is handed what it writes.
        points: records restore points of the database, None where nobody could return to one. protection: says whether
            the database could be brought back now; raises BackoutError where that is not known. proof_alarm: says why
            somebody has to look after the proofs of the backups where no WAL is received, "" for nothing.
        pushing: makes the tools that set secrets. restoring: makes the tools of a restore of the database; raises
            BackoutError where none can be made from here.
        confirm: asks a person whether a plan may run; None without a terminal.
        consent: asks a person during a watch and waits for nobody: what is to be done as a question, and the word that
            says yes; returns None until something was typed. None without a terminal.
        watching: told about each tick of a watch, for the live line; it decides nothing.
        say: tells a person something at once, in one sentence (a step that was skipped, a channel that fails).
        catalogue: reads the signatures of errors. redact: takes every secret that is known here out of a text.
        declared: returns the names of schedules and queues that the team's own file declares, None where that is not
            known.
        pinned: the identity that each mutation compares first.
        provider_marks: whether stable and released versions are marked at the provider too, each by a deployment of
            what is live; rollbacks always are. seal: what they are signed with, None where they are not.
    """

    environment: str
    policy: Policy
    actor: str
    clock: Clock
    deployments: Deployments
    versions: Versions
    journal: Journal
    runs: Runs
    marks: Marks
    counts: CountsStore
    checkpoints: Checkpoints
    reports: Reports
    traffic: Traffic | None = None
    health: HealthCheck | None = None
    sender: HealthCheck | None = None
    pairing: HealthCheck | None = None
    dice: Random = field(default_factory=Random)
    schema: Schema | None = None
    migrations: MigrationFiles | None = None
    app_checks_head: bool = False
    deploy_command: str = ""
    deployer: DeployCommand | None = None
    hear: Callable[[str], None] = lambda _line: None
    restoring: Callable[[], RestoreTools] | None = None
    points: PointMarker | None = None
    protection: Callable[[], Protection] | None = None
    proof_alarm: Callable[[], str] = str
    connections: Connections | None = None
    secrets: Secrets | None = None
    pushing: Callable[[], PushTools] | None = None
    logs: Logs | None = None
    builds: Builds | None = None
    equivalents: Equivalents = field(default_factory=Equivalents)
    in_background: bool = True
    watching: Callable[[object], None] | None = None
    say: Callable[[str], None] = lambda _text: None
    pinned: Identity = field(default_factory=Identity)
    provider_marks: bool = True
    seal: Seal | None = None
    identities: Identities | None = None
    token: TokenCheck | None = None
    provider_clock: ProviderClock | None = None
    checkout: Checkout | None = None
    vendors: VendorStatus | None = None
    triggers: TriggerSettings | None = None
    declared: Callable[[], frozenset[str] | None] = lambda: None
    bundles: Bundles | None = None
    bundle_store: BundleStore | None = None
    holds: Holds | None = None
    notifier: Notifier | None = None
    dead_man: DeadMan | None = None
    cards: Cards | None = None
    card_lines: CardLines = field(default_factory=CardLines)
    lines_for_npx: Callable[[], tuple[str, ...]] = tuple
    """Returns what a shell needs before an `npx` line, () for nothing; it runs a program."""
    confirm: Callable[[Plan], bool] | None = None
    consent: Callable[[str, str], bool | None] | None = None
    catalogue: Callable[[], Catalogue] = _no_catalogue
    redact: Callable[[str], str] = str

    def __post_init__(self) -> None:
        """Put before the provider's history who reads marks, so that no procedure takes a message for one."""
        known = self.deployments
        raw = known.raw if isinstance(known, MarkedDeployments) else known
        read = MarkedDeployments(raw, self.versions, self.seal)
        object.__setattr__(self, "deployments", read)  # frozen for everybody else
