"""The files of drills: TOML, each a drill; every mistake with its line, as in backout.toml."""

from __future__ import annotations

import copy
import functools
import operator
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from backout.config.drill_rules import check_across_keys
from backout.config.explain import Mistake, Where, explain, suggest_similar
from backout.config.loading import describe_mistakes, parse_file, read_file
from backout.config.scalars import parse
from backout.config.schema.drill import DrillFile, VisitorsPart
from backout.decoding import convert
from backout.errors import ConfigError, UsageError
from backout.model.drill import DrillAction, DrillGroup, Expected

if TYPE_CHECKING:
    from collections.abc import Iterable

SUFFIX = ".toml"
DISTURBING: Final = ("destructive-migration", "two-bad-targets", "unhelped", "everything", "left-fence")
"""Procedures after which the good version's past is no baseline."""
UNGUARDED: Final = (
    *("six-steps", "failed-build", "lost-objects", "corrupted-rows", "late-find", "wal-gap", "lost-key"),
    *("everything", "left-fence"),
)
"""Procedures in which no guard compares with a baseline."""


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
        found += tuple(each for each in check_across_keys(file, set(variants)) if each.path not in told)
        if not found:
            return Drill(path.stem, path, file)
    raise ConfigError(describe_mistakes(found, text, path, {}), hint=again)


def read_drills(folders: Iterable[Path], variants: Iterable[str] = ()) -> tuple[Drill, ...]:
    """Return the drills of all files in these folders, by folder and name; a later folder's replaces an earlier one.

    Raises:
        ConfigError: with every mistake in all of the files, and each that cannot be read.
    """
    known, found, mistakes = tuple(variants), dict[str, Drill](), list[str]()
    for path in (path for folder in folders for path in sorted(folder.glob(f"*{SUFFIX}"))):
        try:
            found[path.stem] = read_drill(path, known)
        except ConfigError as error:
            mistakes += error.mistakes
        except UsageError as error:
            mistakes.append(f"{path.name}: {error.what}")
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
    for mistake in mistakes:
        _replace(rest, mistake.path)
    try:
        return None if "environment" not in rest and "environment" in document else _convert(rest)
    except (msgspec.ValidationError, TypeError, ValueError):
        return None


def _replace(document: dict[str, object], path: Where) -> None:
    """Put what fits in place of a mistake, or take it out: of an array all of it."""
    *above, key = path
    try:
        table: object = functools.reduce(operator.getitem, above, document)  # type: ignore[arg-type]
    except (LookupError, TypeError):
        return  # it went with another mistake
    fitting = _find_fitting(path)
    if isinstance(table, list) and fitting is None:
        _replace(document, tuple(above))
    elif fitting is not None:
        table[key] = fitting  # type: ignore[index]
    elif isinstance(table, dict):
        table.pop(key, None)


def _convert(document: dict[str, object]) -> DrillFile:
    return convert(document, DrillFile, dec_hook=_read_scalar)


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
