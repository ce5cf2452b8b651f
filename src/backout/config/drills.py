"""The files of drills: TOML, each a drill; every mistake with its line, as in backout.toml."""

from __future__ import annotations

import copy
import functools
import operator
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from backout.config.explain import Mistake, Where, explain, suggest_similar
from backout.config.loading import describe_mistakes, parse_file, read_file
from backout.config.scalars import Duration, parse
from backout.config.schema.types import Asked, CommandLine, Positive, Ratio, Section, Share, Status, Text
from backout.errors import ConfigError, UsageError
from backout.model.drill import COUNTS_S, DrillAction, DrillGroup, DrillPlace, Expected, Limits, Loss
from backout.model.incident.diagnosis import Scenario

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SUFFIX = ".toml"
Amount = Annotated[int, msgspec.Meta(ge=0)]
FaultName = Literal[
    "service-down",
    "storage-denied",
    "latency",
    "errors",
    "worker-crash",
    "api-down",
    "api-slow",
    "api-429",
    "api-limit",
    "api-token-refused",
]
VisitorKind = Literal["crawler", "attack", "logged-out", "news-readers", "film-goers", "usual"]
Procedure = Literal[
    "deployment",
    "simulation",
    "six-steps",
    "rehearsal",
    "watch",
    "failed-build",
    "bad-target",
    "two-bad-targets",
    "unhelped",
    "hotfix",
    "killed-guard",
    "lost-journal",
    "missing-secret",
    "rotated-secret",
    "destructive-migration",
    "dead-channels",
    "resumed",
    "lost-objects",
    "corrupted-rows",
    "late-find",
    "wal-gap",
    "lost-key",
    "everything",
    "left-fence",
    "post-mortem-github",
    "post-mortem-gitlab",
    "post-mortem-knight",
]
"""How a drill goes on. `deployment`: guard waits, a version is deployed over the good one, and guard decides."""
DISTURBING: Final = ("destructive-migration", "two-bad-targets", "unhelped", "everything", "left-fence")
"""Procedures after which the good version's past is no baseline."""
UNGUARDED: Final = (
    *("six-steps", "failed-build", "lost-objects", "corrupted-rows", "late-find", "wal-gap", "lost-key"),
    *("everything", "left-fence"),
)
"""Procedures in which no guard compares with a baseline."""
OF_A_WORKER: Final = ("errors", "latency", "worker-crash")
"""Faults that hit one Worker, and nothing that others use as well."""
_OF_A_WORKER: Final = (
    *("deployment", "simulation", "six-steps", "failed-build", "bad-target", "two-bad-targets", "hotfix"),
    *("killed-guard", "lost-journal", "missing-secret", "rotated-secret", "dead-channels", "post-mortem-knight"),
)
"""Procedures that do the same."""

_ELSEWHERE: Final = {DrillPlace.STAGING: "rehearsal", DrillPlace.PRODUCTION: "watch"}
"""How a drill goes on in an environment of the team's own."""


class DeployPart(Section, frozen=True):
    """What is deployed: a variant of the sample application."""

    variant: Text = "good-2"
    variables: dict[str, str] = {}
    expect: dict[Asked, tuple[Status, ...]] = {}
    """Intended changes of answers, as `guard.expect` of backout.toml."""


class CommandsPart(Section, frozen=True):
    """How a team deploys in an environment of its own, in a shell, in the folder of backout.toml."""

    good: CommandLine | None = None
    """A version that works. None: `deploy.command` of that environment."""
    bad: CommandLine | None = None
    """A version whose health endpoint shows that something is wrong."""


class FaultPart(Section, frozen=True):
    """Something of the twin that is broken for a while."""

    kind: FaultName
    target: Text | None = None
    when: Literal["before", "after"] = "after"
    """Before the deployment or after it."""
    after: Duration = Duration(0)
    """How long after the deployment."""
    lasting: Duration | None = msgspec.field(name="for", default=None)
    """None: until the end of the drill."""
    share: Share | None = None
    latency: Duration | None = None
    status: Annotated[int, msgspec.Meta(ge=500, le=599)] | None = None


class VisitorsPart(Section, frozen=True):
    """Who comes, and how many a second."""

    rate: Annotated[float, msgspec.Meta(ge=0, le=500)] = 50.0
    others: dict[VisitorKind, Positive] = {}
    """Who comes beside the usual ones from the deployment on, and how many a second."""


class ExpectPart(Section, frozen=True):
    """What is right."""

    action: DrillAction
    scenario: Scenario | None = None
    or_scenario: Scenario | None = None
    """Right as well."""


class BadPart(Section, frozen=True):
    """Which answers of the deployed version are bad, beside 5xx and none at all."""

    statuses: tuple[Status, ...] = ()
    slower_than: Duration | None = None


class WatchPart(Section, frozen=True):
    """The drill's own short criteria, in place of those of backout.toml."""

    lasts: Duration = msgspec.field(name="for", default=Duration(40))
    baseline: Duration = Duration(15)
    error_rate_below: Share = 0.01
    error_rate_for: Duration = Duration(3)
    p99_at_most: Ratio = 50.0
    old_version_quiet: Duration = Duration(2)
    slow_start: Duration = Duration(60)
    warm_up: Duration = Duration(0)
    confirm: Duration = Duration(0)
    holdback: Annotated[float, msgspec.Meta(ge=0, le=50)] = 0
    checks: tuple[Text, ...] = ()
    """Paths that guard asks itself."""


class RpoPart(Section, frozen=True):
    """What may be lost."""

    rows: Amount | None = None
    objects: Amount | None = None
    seconds: Duration | None = None


class LimitsPart(Section, frozen=True):
    """What the drill may cost at most."""

    rto: Duration | None = None
    rpo: RpoPart = RpoPart()
    bad_requests: Amount | None = None

    def as_model(self) -> Limits:
        """Return it as the model's noun."""
        seconds = None if self.rpo.seconds is None else float(self.rpo.seconds)
        rto_s = None if self.rto is None else float(self.rto)
        return Limits(rto_s, Loss(self.rpo.rows, self.rpo.objects, seconds), self.bad_requests)


class DrillFile(Section, frozen=True):
    """One file; the drill's name is the file's."""

    title: Text
    group: DrillGroup
    expect: ExpectPart
    environment: DrillPlace = DrillPlace.TWIN
    procedure: Procedure = "deployment"
    deploy: DeployPart = DeployPart()
    commands: CommandsPart = CommandsPart()
    fault: tuple[FaultPart, ...] = ()
    visitors: VisitorsPart = VisitorsPart()
    bad: BadPart = BadPart()
    watch: WatchPart = WatchPart()
    limits: LimitsPart = LimitsPart()
    alone: bool = False
    """Whether what it breaks is used by other drills on the same twin, which its version alone does not tell."""
    due_after: Duration = Duration(COUNTS_S)
    """How long a success counts."""

    @property
    def needs_twin_alone(self) -> bool:
        """Whether no other drill may take place on the same twin meanwhile: it breaks what both use."""
        kinds = [fault.kind for fault in self.fault]
        return self.alone or self.procedure not in _OF_A_WORKER or any(kind not in OF_A_WORKER for kind in kinds)


class Drill(msgspec.Struct, frozen=True):
    """A drill with its name and the file that describes it."""

    name: str
    path: Path
    file: DrillFile

    @property
    def expected(self) -> Expected:
        """What is right."""
        return Expected(self.file.expect.action, self.file.expect.scenario, self.file.expect.or_scenario)


def read_drill(path: Path, variants: Iterable[str] = ()) -> Drill:
    """Return the drill of a file.

    Args:
        variants: what can be deployed; none: that is not checked.

    Raises:
        ConfigError: with every mistake.
        UsageError: it cannot be read.
    """
    again = f"correct {path.name}, then: backout drill list"
    try:
        text = read_file(path)
        document = parse_file(text, path)
    except ConfigError as error:
        raise ConfigError(error.mistakes, hint=again) from error
    found: tuple[Mistake, ...] = ()
    file: DrillFile | None = None
    try:
        file = _convert(document)
    except msgspec.ValidationError as error:
        found = tuple(explain(DrillFile, document)) or (Mistake((), str(error)),)
        file = _read_rest(document, found)
    if file is not None:
        told = {mistake.path for mistake in found}
        found += tuple(each for each in _check_across_keys(file, set(variants)) if each.path not in told)
        if not found:
            return Drill(path.stem, path, file)
    raise ConfigError(describe_mistakes(found, text, path, {}), hint=again)


def read_drills(folders: Iterable[Path], variants: Iterable[str] = ()) -> tuple[Drill, ...]:
    """Return the drills of all files in these folders, by folder and name; a later folder's replaces an earlier one.

    Raises:
        ConfigError: with every mistake in all of the files.
        UsageError: a file cannot be read.
    """
    known, found, mistakes = tuple(variants), dict[str, Drill](), list[str]()
    for path in (path for folder in folders for path in sorted(folder.glob(f"*{SUFFIX}"))):
        try:
            found[path.stem] = read_drill(path, known)
        except ConfigError as error:
            mistakes += error.mistakes
    if mistakes:
        raise ConfigError(tuple(mistakes), hint="correct these files, then: backout drill list")
    return tuple(found.values())


def order_drills(drills: Iterable[Drill]) -> tuple[Drill, ...]:
    """Return drills in an order in which few of them have to wait for a baseline.

    First those that leave the good version's past as it is. Of the others, each is followed by one that needs no
    baseline, and during which the past grows.
    """
    known = tuple(drills)
    disturbing = [each for each in known if _is_disturbing(each.file)]
    rest = [each for each in known if not _is_disturbing(each.file)]
    calm = [each for each in rest if each.file.procedure in UNGUARDED]
    pairs = zip_longest(sorted(disturbing, key=lambda each: each.file.procedure in UNGUARDED), calm)
    mixed = (each for pair in pairs for each in pair if each is not None)
    return (*(each for each in rest if each.file.procedure not in UNGUARDED), *mixed)


def _is_disturbing(file: DrillFile) -> bool:
    is_usual = file.visitors.rate == VisitorsPart().rate
    return file.procedure in DISTURBING or not is_usual or any(not each.kind.startswith("api-") for each in file.fault)


def find_drills(drills: Iterable[Drill], names: Iterable[str]) -> tuple[Drill, ...]:
    """Return the drills of these names, in the order of the names.

    Raises:
        UsageError: there is no such drill.
    """
    known = {drill.name: drill for drill in drills}
    for name in names:
        if name not in known:
            raise UsageError(f"no drill {name!r}{suggest_similar(name, known)}", hint="backout drill list")
    return tuple(known[name] for name in dict.fromkeys(names))


def _read_scalar(kind: type, value: object) -> object:
    return value if kind is object else parse(kind, value, Path())


def _read_rest(document: dict[str, object], mistakes: Iterable[Mistake]) -> DrillFile | None:
    """Return what is right of a wrong file, so that what does not fit together in it is told as well; None: too little.

    In place of what has to be there stands what fits with everything.
    """
    rest = copy.deepcopy(document)
    try:
        for path in (mistake.path for mistake in mistakes):
            *above, key = path
            table: dict[str | int, object] = functools.reduce(operator.getitem, above, rest)  # type: ignore[arg-type]
            fitting = _find_fitting(path)
            if fitting is None:
                table.pop(key, None)
            else:
                table[key] = fitting
        return None if "environment" not in rest and "environment" in document else _convert(rest)
    except (msgspec.ValidationError, TypeError, ValueError):
        return None


def _convert(document: dict[str, object]) -> DrillFile:
    return msgspec.convert(document, DrillFile, dec_hook=_read_scalar)


def _find_fitting(path: Where) -> object:
    match path:
        case ("title",):
            return "-"
        case ("group",):
            return DrillGroup.OTHER
        case ("expect",):
            return {"action": DrillAction.NONE}
        case ("expect", "action"):
            return DrillAction.NONE
        case ("fault", int()):
            return {"kind": "latency"}
        case ("fault", int(), "kind"):
            return "latency"
    return None


def _check_across_keys(file: DrillFile, variants: set[str]) -> Iterator[Mistake]:
    deploy, limits, action = file.deploy, file.limits, file.expect.action
    if variants and deploy.variant not in variants:
        yield Mistake(
            ("deploy", "variant"), f"no variant {deploy.variant!r}{suggest_similar(deploy.variant, variants)}"
        )
    yield from _check_place(file)
    for number, fault in enumerate(file.fault):
        if fault.kind == "service-down" and fault.target not in ("database", "storage", "email"):
            yield Mistake(("fault", number, "target"), "expected 'database', 'storage' or 'email'")
        if fault.when == "before" and fault.after:
            yield Mistake(("fault", number, "after"), "a fault from before the deployment has no time after it")
    if file.group is DrillGroup.MUST_NOT and action is DrillAction.ROLLBACK:
        yield Mistake(("expect", "action"), "a drill of the group 'must not' does not expect a rollback")
    if limits.rto is not None and not limits.rto:
        yield Mistake(("limits", "rto"), "expected more than 0 s")


def _check_place(file: DrillFile) -> Iterator[Mistake]:
    """Yield what cannot be done in an environment of the team's own."""
    place, procedure = file.environment, file.procedure
    if place is DrillPlace.TWIN:
        if file.commands != CommandsPart():
            yield Mistake(("commands",), "the twin's application has variants (deploy): commands are for staging")
        if procedure in _ELSEWHERE.values():
            yield Mistake(("procedure",), f"{procedure!r} is not for the twin")
        return
    what = "is only watched" if place is DrillPlace.PRODUCTION else "has no faults that could be set"
    yield from (Mistake(("fault", n), f"{place} {what}") for n in range(len(file.fault)))
    if procedure != _ELSEWHERE[place]:
        yield Mistake(("procedure",), f"in {place} it is {_ELSEWHERE[place]!r}")
    if place is DrillPlace.PRODUCTION and file.expect.action is not DrillAction.NONE:
        yield Mistake(("expect", "action"), "production is only watched: expected 'none'")
