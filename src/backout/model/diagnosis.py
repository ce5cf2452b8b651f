"""What went wrong and why: labels with their scenarios, signatures of errors, and the diagnosis with its evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

UNKNOWN: Final = "unknown"
"""The label of what no signature says enough about."""
ANSWER_FROM: Final = 0.5
"""The confidence below which nothing is named."""


class Scenario(StrEnum):
    """The runbook's scenarios, and the one in which nothing is to be done."""

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
    """What a rollback of the code does about a cause."""

    CODE_OK = "code_ok"
    """It helps, as far as the code is to blame."""
    BLOCKED = "blocked"
    """It may make things worse: the schema comes first."""
    USELESS = "useless"
    """The cause lies outside of the code; the older version meets it as well."""
    NOT_NEEDED = "not_needed"
    """Nothing bad reached production, or it is not the deployment's fault."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One label of the catalogue.

    Args:
        label: its name. title: one line that says it. about: what it means and how it looks, for `backout explain`.
        scenario: of a log of the running application; `scenario_by_kind` where a build's or a migration's differs.
        service: whose trouble it is when the text names nothing better.
        severity: 0 (none of ours) to 3 (nothing works). rollback: what a rollback of the code does about it.
        steps: what to do, sentences or commands; `{environment}` and names that a signature captures stand in braces.
        confirm: what would confirm it. explains: labels that are this one's consequences when both are seen.
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


@dataclass(frozen=True, slots=True)
class Signature:
    """One way in which a cause shows in a text; patterns are regular expressions (Python's, `^` and `$` for lines).

    Args:
        id: unique within its label. label: the cause.
        any: at least one is found in the message. all: each is. none: not one is. stack: at least one is found in the
            stack frames. literals: lower-case texts of which one must occur before anything is searched.
        kinds: logs in which it counts, empty: all.
        specificity: 1 (a hint) to 10 (a code that has this one meaning); see the catalogue's README.
        service: whose trouble it is, "named": what the text names, None: the label's.
        examples: texts that it finds. counter_examples: texts that look like it, and that it must not find.
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


@dataclass(frozen=True, slots=True)
class ServiceHint:
    """What in a text names a service: patterns and how strongly each speaks (the sum decides)."""

    service: str
    patterns: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All that is known of errors: causes by label, signatures, and what names a service."""

    causes: Mapping[str, Cause]
    signatures: tuple[Signature, ...]
    services: tuple[ServiceHint, ...] = ()


@dataclass(frozen=True, slots=True)
class Classified:
    """What one text is.

    Args:
        label: a label of the catalogue or `unknown`. confidence: in [0, 1], below 0.5 exactly when unknown.
        signature: the id that decided, "" without one. captures: {name: value} that its patterns named.
        others: (label, probability) of what else it may be, likeliest first.
    """

    label: str
    service: str | None
    scenario: Scenario | None
    confidence: float
    signature: str = ""
    captures: Mapping[str, str] = field(default_factory=dict)
    others: tuple[tuple[str, float], ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether it has a label."""
        return self.label != UNKNOWN
