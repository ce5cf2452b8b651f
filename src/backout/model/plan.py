"""Plans as data: ordered steps, frozen and hashed when accepted; or a refusal with its legal options."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.triggers import Coverage

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Args:
        action: name of the registered Action that does it. title: what a person reads.
        args: JSON values only; they are part of the plan's hash.
        equivalent: the wrangler, curl or psql line that does the same by hand (safety rule 20), "" when there is none.
        irreversible: unknown after a crash means: ask a person, never repeat blindly.
    """

    action: str
    title: str
    args: Mapping[str, Json] = field(default_factory=dict)
    equivalent: str = ""
    irreversible: bool = False


class PlanKind(StrEnum):
    """What a plan is for; also the first word of its run's id."""

    GUARD = "guard"
    ROLLBACK = "rollback"
    RAMP = "ramp"
    FORWARD = "forward"
    RECOVER = "recover"
    DRILL = "drill"
    BACKUP = "backup"
    SECRETS = "secrets"


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done, in order; printing it is the dry run.

    Args:
        why: one sentence for a person. notes: why this target and not the nearer ones, what must be known.
        not_covered: what this plan does not touch although it changed or may have changed.
        coverage: what changes, stays or is refused beside the code, compared with when the target was live.
        cause: the run that led to this one, or "".
    """

    kind: PlanKind
    environment: str
    why: str
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()
    not_covered: tuple[str, ...] = ()
    cause: str = ""
    coverage: tuple[Coverage, ...] = ()

    def step(self, action: str) -> Step:
        """Return the (last) step of that action; KeyError when the plan has none."""
        for step in reversed(self.steps):
            if step.action == action:
                return step
        raise KeyError(action)

    @property
    def hash(self) -> str:
        """SHA-256 over the canonical JSON of kind, environment and steps: what is done, not how it is worded."""
        content = {
            "kind": self.kind,
            "environment": self.environment,
            "steps": [{"action": s.action, "args": dict(s.args), "irreversible": s.irreversible} for s in self.steps],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a nearer or wished-for version was not chosen as target; `rule`: the safety rule, "" for none."""

    version: str
    reason: str
    rule: str = ""


PANIC_ONCE = "panic once"
"""The rule that a panic does not go back twice."""


@dataclass(frozen=True, slots=True)
class PlanRefused:
    """No plan: which rule forbids it, why, and what is allowed instead (whole sentences with commands)."""

    rule: str
    reason: str
    options: tuple[str, ...]
    rejections: tuple[Rejection, ...] = ()


@dataclass(frozen=True, slots=True)
class Equivalents:
    """The lines that a person would type instead (safety rule 20), as templates; a provider fills them in.

    Args:
        activate: with `{version}` and `{message}`. live: shows what is live. health: asks the health endpoint once.
        split: with `{shares}`, words `VERSION@PERCENTAGE%`.
        schedules: with `{schedules}`, a JSON list of objects with a `cron` each. prove: with `{version}` and
        `{leaving}`, a line each. errors: with `{version}`, follows its errors.
        secrets: sets several secrets, with `{file}`. secret: one, with `{name}`. secrets_apart: says why neither works
        while the newest version is not the live one. secret_names: lists their names. dashboard: with `{version}`, what
        a person does while the API does not answer, which all other lines need.
    """

    activate: str = ""
    split: str = ""
    live: str = ""
    health: str = ""
    schedules: str = ""
    prove: str = ""
    errors: str = ""
    secrets: str = ""
    secret: str = ""
    secrets_apart: str = ""
    secret_names: str = ""
    dashboard: str = ""
