"""What went wrong and why: labels with their scenarios, signatures of errors, and the diagnosis with its evidence."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - msgspec resolves it
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from msgspec import field

from backout.model.value import Value

if TYPE_CHECKING:
    from backout.model.incident.events import Template

UNKNOWN: Final = "unknown"
"""The label of what no signature says enough about."""
ANSWER_FROM: Final = 0.5
"""The confidence below which nothing is named."""


class Scenario(StrEnum):
    """The runbook's scenarios, and the one in which there is nothing to do."""

    NO_ACTION = "S0_no_action"
    HEALTH_CHECK = "S1_health_check"
    BUILD_FAILURE = "S2_build_failure"
    RUNTIME_ERRORS = "S3_runtime_errors"
    MIGRATION = "S4_migration"
    ENVIRONMENT = "S5_env_vars"


class LogKind(StrEnum):
    """What wrote the log: the running application, a build or deployment, or a migration."""

    RUNTIME = "runtime"
    BUILD = "build"
    MIGRATION = "migration"


class RollbackAdvice(StrEnum):
    """The effect of a rollback of the code on a cause."""

    CODE_OK = "code_ok"
    """It helps, as far as the code is to blame."""
    BLOCKED = "blocked"
    """It may make things worse: the schema comes first."""
    USELESS = "useless"
    """The cause lies outside of the code; the older version meets it as well."""
    NOT_NEEDED = "not_needed"
    """Nothing bad reached production, or it is not the deployment's fault."""


class Cause(Value, frozen=True):
    """One label of the catalogue.

    Args:
        label: its name.
        title: one line.
        about: what it means and how it shows, for `backout explain`.
        scenario: of a log of the running application; `scenario_by_kind` where a build's or a migration's differs.
        service: the affected service, when the text does not name one.
        severity: 0 (not our problem) to 3 (nothing works).
        rollback: the effect of a rollback of the code.
        steps: what to do, sentences or commands; `{environment}` and names that a signature captures stand in braces.
        confirm: what would confirm it.
        explains: labels that are this one's consequences when both are seen.
    """

    label: str
    title: str
    about: str
    scenario: Scenario
    service: str
    severity: int
    rollback: RollbackAdvice
    steps: tuple[str, ...]
    confirm: str
    explains: tuple[str, ...] = ()
    scenario_by_kind: Mapping[LogKind, Scenario] = field(default_factory=dict)

    def scenario_in(self, kind: LogKind) -> Scenario:
        """Return the scenario that this label means in a log of that kind."""
        return self.scenario_by_kind.get(kind, self.scenario)


class Signature(Value, frozen=True):
    """One form in which a cause appears in a text; patterns are Python regular expressions (`^` and `$` for lines).

    Args:
        id: unique within its label.
        label: the cause.
        any: at least one must match the message.
        all: each must match the message.
        none: none may match it.
        stack: at least one must match the stack frames.
        literals: lower-case texts of which one must occur before anything is searched.
        kinds: logs in which it counts, empty: all.
        specificity: 1 (a hint) to 10 (a code that has this one meaning); see the catalogue's README.
        service: whose trouble it is, "named": what the text names, None: the label's.
        examples: texts that it finds.
        counter_examples: texts that look like it, and that it must not find.
    """

    id: str
    label: str
    specificity: int
    any: tuple[str, ...] = ()
    all: tuple[str, ...] = ()
    none: tuple[str, ...] = ()
    stack: tuple[str, ...] = ()
    literals: tuple[str, ...] = ()
    kinds: tuple[LogKind, ...] = ()
    service: str | None = None
    examples: tuple[str, ...] = ()
    counter_examples: tuple[str, ...] = ()


class ServiceHint(Value, frozen=True):
    """How a text identifies a service: patterns and their weights (the sum decides)."""

    service: str
    patterns: tuple[tuple[str, float], ...]


class Catalogue(Value, frozen=True):
    """The whole catalogue of errors: causes by label, signatures, and the patterns that name services."""

    causes: Mapping[str, Cause]
    signatures: tuple[Signature, ...]
    services: tuple[ServiceHint, ...] = ()


class Classified(Value, frozen=True):
    """The classification of one text.

    Args:
        label: a label of the catalogue or `unknown`.
        confidence: in [0, 1], below 0.5 exactly when unknown.
        signature: the id that decided, "" without one.
        line: the line of the text that matched.
        captures: {name: value} that its patterns named.
        others: (label, probability) of the alternatives, likeliest first.
    """

    label: str
    service: str | None
    scenario: Scenario | None
    confidence: float
    signature: str = ""
    line: str = ""
    captures: Mapping[str, str] = field(default_factory=dict)
    others: tuple[tuple[str, float], ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether it has a label."""
        return self.label != UNKNOWN


class Changed(StrEnum):
    """The differences between the version being judged and the one before it."""

    CODE = "code"
    SECRETS = "secrets"
    VARIABLES = "variables"
    BINDINGS = "bindings"
    MIGRATIONS = "migrations"
    COMPATIBILITY = "compatibility date"
    DEPENDENCIES = "dependencies"


class Labelled(Value, frozen=True):
    """One template of the events, with its entry in the catalogue."""

    template: Template
    classified: Classified

    @property
    def label(self) -> str:
        """Its label, or `unknown`."""
        return self.classified.label


class Clue(Value, frozen=True):
    """Evidence from a source other than the events: a health report, the migrations' history, the secrets' names.

    Args:
        label: the cause that it supports.
        weight: how strongly, as a power of e.
        text: the evidence, one line.
        source: its origin ("health", "migrations", ...).
        at: Unix seconds.
        service: the affected one, None: the label's.
        names: what is missing or wrong, by name.
        explains_silence: requests that fail without a word follow from it: a critical service is down.
    """

    label: str
    weight: float
    text: str
    source: str
    at: float | None = None
    service: str | None = None
    names: tuple[str, ...] = ()
    explains_silence: bool = False


class Surroundings(Value, frozen=True):
    """The context of the events.

    Args:
        old, new: the version before and the one being judged, None: not known.
        deployed_at: Unix seconds of `new`.
        changed: what differs between them.
        clues: evidence from other sources.
        clean: what was checked and is well.
        kind: the origin of the events.
        environment: its name in the commands to type next.
    """

    old: str | None = None
    new: str | None = None
    deployed_at: float | None = None
    changed: frozenset[Changed] = frozenset()
    clues: tuple[Clue, ...] = ()
    clean: tuple[str, ...] = ()
    kind: LogKind = LogKind.RUNTIME
    environment: str = "ENV"


class Quote(Value, frozen=True):
    """A quoted line of evidence: text, first time, version ("" unknown), number, source."""

    text: str
    at: float | None
    version: str
    count: int
    source: str = "events"


class Alternative(Value, frozen=True):
    """An alternative cause, with its probability in [0, 1]."""

    cause: str
    probability: float


class Diagnosis(Value, frozen=True):
    """The problem, its cause, and the lines that prove it.

    Args:
        scenario, service: None when unknown.
        cause: a label, or `unknown`.
        confidence: its probability, in [0, 1].
        criticality: of the service, as backout.toml says; None: it does not.
        is_new: whether the cause came with the new version, None: there is nothing to compare with.
        novelty: that in words.
        first_seen: Unix seconds.
        share: of the new version's invocations (of all without one), in [0, 1], None: unknown.
        evidence: at most five quotes.
        alternatives: likeliest first.
        next: commands.
        names: what is missing or wrong.
        counts: {version: (invocations, errors)}.
        fresh: templates that are new and that no signature knows.
        clean: what was looked at and found well.
        notes: what limits all this (a sampled tail, clocks that jumped).
    """

    scenario: Scenario | None
    cause: str
    confidence: float
    service: str | None
    rollback: RollbackAdvice
    title: str
    criticality: str | None = None
    is_new: bool | None = None
    novelty: str = ""
    first_seen: float | None = None
    deployed_at: float | None = None
    share: float | None = None
    evidence: tuple[Quote, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    next: tuple[str, ...] = ()
    confirm: str = ""
    names: tuple[str, ...] = ()
    counts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    unreadable: Mapping[str, int] = field(default_factory=dict)
    fresh: tuple[Quote, ...] = ()
    clean: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether a cause is named."""
        return self.cause != UNKNOWN
