"""The steps of a watch, and of a gradual deployment that it moves up."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from backout.model.guard.policy import Expectation, Mode
from backout.model.guard.shift import Noticed
from backout.model.guard.verdict import Decision, Verdict
from backout.model.steps.base import Arguments, Record, Result

if TYPE_CHECKING:
    from backout.model.plan import Json


class KnownBad(Record, frozen=True, kw_only=True):
    """The quarantine of the watched version or of its code: of which version, when (Unix seconds), why, its author."""

    version: str
    at: float
    why: str
    by: str = ""


class WatchResult(Result, frozen=True, kw_only=True):
    """How a watch ended.

    Args:
        moved: id of the deployment that took the watched one's place, or "".
        downgraded: why no automatic action may rest on the source of counts, or "".
        unseen: why a step of a ramp was not seen, or "".
        token_lost: why the token counts as lost, or "".
        not_asked: why both versions were not asked side by side although that was wanted, or "".
        to_ask: what a person may do about that, sentences with commands.
        noticed: the shifts that a notice was sent for.
    """

    verdict: Verdict
    decision: Decision
    moved: str = ""
    downgraded: str = ""
    unseen: str = ""
    token_lost: str = ""
    not_asked: str = ""
    to_ask: tuple[str, ...] = ()
    noticed: tuple[Noticed, ...] = ()


class WatchStep(Arguments[WatchResult], frozen=True, kw_only=True):
    """Collect evidence until it decides or the time is up. Times are Unix seconds.

    Args:
        deployment: the watched one.
        version: on trial in it.
        old: the version whose past is the baseline, or "".
        split: the version's share of the traffic, in (0, 1].
        since: the start of the watch.
        deployed_at: of the deployment.
        for_s: seconds, at most.
        early: it ends as soon as the evidence says healthy.
        known_bad: the quarantine of the version or its code, None for none.
        code_known: whether the version's code could be read.
        expect: changes of answers that were said to be intended when the watch was begun.
        ramp: percentages that are to come.
        steps: (from when, share) of those that were.
        stage_s: how long each may take.
        at_least_s: no sooner after `since` does it end as healthy.
        early_at_last: whether the last one ends early, too.
        holdback: the version before keeps a part of the traffic for the first minutes.
        objects: it has Durable Objects, which may run the code of before for the first minutes.
    """

    action: ClassVar[str] = "watch"
    omitted: ClassVar[frozenset[str]] = frozenset({"expect", "steps", "at_least_s", "holdback", "objects"})
    deployment: str
    version: str
    old: str
    since: float
    for_s: float
    split: float = 1.0
    deployed_at: float = 0.0
    early: bool = False
    known_bad: KnownBad | None = None
    code_known: bool = True
    expect: tuple[Expectation, ...] = ()
    ramp: tuple[float, ...] | None = None
    steps: tuple[tuple[float, float], ...] = ()
    stage_s: float | None = None
    at_least_s: float = 0.0
    early_at_last: bool | None = None
    holdback: bool = False
    objects: bool = False

    def to_json(self) -> dict[str, Json]:
        """Return it as JSON values; what a ramp alone has is left out of a plain watch."""
        found = super().to_json()
        return {name: value for name, value in found.items() if value is not None or name not in _OF_A_RAMP}

    @property
    def shares(self) -> tuple[tuple[float, float], ...]:
        """The version's shares, (from Unix seconds, share in (0, 1]); a ramp has several."""
        return self.steps or ((self.since, self.split),)


_OF_A_RAMP = frozenset({"ramp", "stage_s", "early_at_last"})


class ConcludeAction(StrEnum):
    """The consequence of a verdict."""

    STABLE = "stable"
    ACCEPT = "accept"
    HOLD = "hold"
    REFUSED = "refused"
    VOID = "void"
    ROLLBACK = "rollback"
    PUSH_SECRET = "push_secret"  # noqa: S105 - an action
    RAMP = "ramp"


class ProviderMark(Record, frozen=True, kw_only=True):
    """The result of a mark at the provider: the deployment that carries it, or what prevented it."""

    deployment: str | None = None
    problem: str | None = None


class ConcludeResult(Result, frozen=True, kw_only=True):
    """The consequence of a verdict, and why.

    Args:
        report: its path, "" for none.
        rule: the safety rule that forbids more.
        would: the action that would have been taken.
        target: the version gone back to.
        options: what a person may do, sentences with commands.
        names: of the secrets that are set.
        policy: the setting that accepts it.
        provider_mark: of a version that was marked stable.
        measured: what was measured of it.
    """

    omitted: ClassVar[frozenset[str]] = frozenset(
        {"report", "rule", "would", "target", "options", "names", "policy", "provider_mark", "measured"}
    )
    action: ConcludeAction
    why: str = ""
    report: str = ""
    rule: str = ""
    would: str = ""
    target: str = ""
    options: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    policy: str = ""
    provider_mark: ProviderMark | None = None
    measured: Any = None


class ConcludeStep(Arguments[ConcludeResult], frozen=True, kw_only=True):
    """Act on the verdict, by policy.

    Args:
        deployment, version, since: as of the watch.
        code_hash: of the version's code, None where it could not be read.
        known_bad: whether the version or its code is quarantined.
        ramp: percentages that are to come; None of a plain watch.
        holdback: the version before keeps a part of the traffic until then.
    """

    action: ClassVar[str] = "conclude"
    omitted: ClassVar[frozenset[str]] = frozenset({"holdback"})
    deployment: str
    version: str
    mode: Mode
    code_hash: str | None = None
    since: float | None = None
    known_bad: bool = False
    ramp: tuple[float, ...] | None = None
    holdback: bool = False

    def to_json(self) -> dict[str, Json]:
        """Return it as JSON values; what a ramp alone has is left out of a plain watch."""
        found = super().to_json()
        return {name: value for name, value in found.items() if value is not None or name != "ramp"}


class RampResult(Result, frozen=True, kw_only=True):
    """The deployment of a step up, as read back; `at` in Unix seconds."""

    deployment: str
    at: float
    percentage: float


class RampStep(Arguments[RampResult], frozen=True, kw_only=True):
    """Give a version its next share of the traffic.

    Args:
        old: the version with the rest.
        percentage: in (0, 100].
        expected: id of the deployment whose watch allows it.
        message: for the deployment's message.
        holdback: the version before gets a part of the traffic back.
    """

    action: ClassVar[str] = "ramp"
    omitted: ClassVar[frozenset[str]] = frozenset({"holdback"})
    version: str
    old: str
    percentage: float
    expected: str
    message: str
    holdback: bool = False


class WatchOnResult(Result, frozen=True, kw_only=True):
    """The deployment whose watch goes on."""

    deployment: str


class WatchOnStep(Arguments[WatchOnResult], frozen=True, kw_only=True):
    """Hand over to the watch of what a step up made live; both are that watch's steps, but for the new deployment."""

    action: ClassVar[str] = "watch_on"
    watch: WatchStep
    conclude: ConcludeStep

    def to_json(self) -> dict[str, Json]:
        """Return it as JSON values."""
        return {"watch": self.watch.to_json(), "conclude": self.conclude.to_json()}
