"""Plans as data: ordered steps, frozen and hashed when accepted; or a refusal with its legal options."""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Protocol, Self, TypeVar

from msgspec import field
from msgspec.structs import replace

from backout.errors import BackoutError
from backout.model.value import Value
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.model.triggers import Coverage

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class StepArguments(Protocol):
    """The arguments of one kind of step; each kind has its own class in `model.steps`."""

    action: ClassVar[str]
    """The name of the action that does it, as plans and the journal have it."""

    def to_json(self) -> dict[str, Json]:
        """Return it as JSON values."""
        ...


A = TypeVar("A", bound=StepArguments)


class Step(Value, frozen=True):
    """One step.

    Args:
        action: name of the registered Action that performs it.
        title: for people.
        args: JSON values only; they are part of the plan's hash.
        equivalent: the wrangler, curl or psql line that does the same by hand (safety rule 20), "" when there is none.
        irreversible: unknown after a crash means: ask a person, never repeat blindly.
    """

    action: str
    title: str
    args: Mapping[str, Json] = field(default_factory=dict)
    equivalent: str = ""
    irreversible: bool = False

    @classmethod
    def of(cls, title: str, arguments: StepArguments, equivalent: str = "", *, irreversible: bool = False) -> Self:
        """Return the step that does something with these arguments."""
        return cls(arguments.action, title, arguments.to_json(), equivalent, irreversible)

    def does(self, kind: type[StepArguments]) -> bool:
        """Whether it is of that kind."""
        return self.action == kind.action

    def arguments(self, kind: type[A]) -> A:
        """Return what it is given. Raises BackoutError: it is not as such a step is written."""
        from backout.decoding import Undecodable, decode_values

        try:
            return decode_values(self.args, kind, what=f"the step {self.action}")
        except Undecodable as error:  # a plan is always written whole, so it comes from a journal
            raise BackoutError(
                f"the journal is damaged: {error.what}",
                hint="backout audit verify  # whether each event is as it was written",
            ) from None

    def replace_arguments(self, arguments: StepArguments) -> Self:
        """Return the same step with other arguments."""
        return replace(self, args=arguments.to_json())


class PlanKind(StrEnum):
    """The purpose of a plan; also the first word of its run's id."""

    GUARD = "guard"
    ROLLBACK = "rollback"
    RAMP = "ramp"
    FORWARD = "forward"
    RECOVER = "recover"
    DRILL = "drill"
    BACKUP = "backup"
    SECRETS = "secrets"
    JOBS = "jobs"


class Plan(Value, frozen=True):
    """The steps to take, in order; printing it is the dry run.

    Args:
        why: one sentence for a person.
        notes: why this target and not a nearer one, and other important facts.
        not_covered: what changed or may have changed, but is not touched by this plan.
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

    def find_place(self, kind: type[StepArguments]) -> int:
        """Return the index of the (last) step of that kind. Raises KeyError: the plan has none."""
        found = [place for place, step in enumerate(self.steps) if step.action == kind.action]
        if not found:
            raise KeyError(kind.action)
        return found[-1]

    def has(self, kind: type[StepArguments]) -> bool:
        """Whether it has a step of that kind."""
        return any(step.action == kind.action for step in self.steps)

    def arguments(self, kind: type[A]) -> A:
        """Return what the (last) step of that kind is given.

        Raises:
            KeyError: the plan has none.
            BackoutError: it is not as such a step is written.
        """
        return self.step(kind.action).arguments(kind)

    def replace_arguments(self, arguments: StepArguments) -> Self:
        """Return the plan with other arguments for every step of that kind."""
        steps = (step.replace_arguments(arguments) if step.action == arguments.action else step for step in self.steps)
        return replace(self, steps=tuple(steps))

    @property
    def hash(self) -> str:
        """SHA-256 over the canonical JSON of kind, environment and steps: what is done, not how it is worded."""
        content = {
            "kind": self.kind,
            "environment": self.environment,
            "steps": [{"action": s.action, "args": dict(s.args), "irreversible": s.irreversible} for s in self.steps],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Rejection(Value, frozen=True):
    """Why a nearer or requested version was not chosen as target; `rule`: the safety rule, "" for none."""

    version: str
    reason: str
    rule: str = ""


PANIC_ONCE = SafetyRule.PANIC_ONCE
"""The rule that panic does not roll back twice in a row."""


class PlanRefused(Value, frozen=True):
    """The refusal of a plan: the rule that forbids it, why, and what is allowed instead (sentences with commands)."""

    rule: str
    reason: str
    options: tuple[str, ...]
    rejections: tuple[Rejection, ...] = ()


class Equivalents(Value, frozen=True):
    """The lines that a person would type instead (safety rule 20), as templates; a provider fills them in.

    Args:
        activate: with `{version}` and `{message}`.
        at_once: behind `activate`, resets what would keep running the code of before for a while.
        live: shows what is live.
        health: asks the health endpoint once.
        split: with `{shares}`, words `VERSION@PERCENTAGE%`.
        schedules: with `{schedules}`, a JSON list of objects with a `cron` each.
        prove: with `{version}` and `{leaving}`, a line each.
        ask: with `{version}`, asks one that gets no traffic, and that stands where it can be asked.
        errors: with `{version}`, follows its errors.
        secrets: sets several secrets, with `{file}`.
        secret: one, with `{name}`.
        secrets_apart: says why neither works
        while the newest version is not the live one.
        secret_names: lists their names.
        page: shows a maintenance page.
        upload: uploads the code of a checkout with its secrets, without any traffic.
        stop_jobs, start_jobs: with `{version}`, its job workers and timers.
        queue_off, queue_on: with `{queue}`, stop its delivery, and let it go on.
        cache_off, cache_on: with `{id}`, the same for a cache in front of the database.
        dashboard: with `{version}`, what
        a person does while the API does not answer, which all other lines need.
    """

    activate: str = ""
    at_once: str = ""
    split: str = ""
    live: str = ""
    health: str = ""
    schedules: str = ""
    prove: str = ""
    ask: str = ""
    errors: str = ""
    secrets: str = ""
    secret: str = ""
    secrets_apart: str = ""
    secret_names: str = ""
    page: str = ""
    upload: str = ""
    stop_jobs: str = ""
    start_jobs: str = ""
    queue_off: str = ""
    queue_on: str = ""
    cache_off: str = ""
    cache_on: str = ""
    dashboard: str = ""
