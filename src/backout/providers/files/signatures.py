"""The catalogue of causes and signatures in folders: one TOML file for each label, users' files beside ours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from backout.decoding import UNDECODABLE, convert, decode_toml
from backout.errors import ConfigError
from backout.model.incident.diagnosis import Catalogue, Cause, LogKind, RollbackAdvice, Scenario, ServiceHint, Signature

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.resources.abc import Traversable

SERVICES: Final = "services.toml"
_SERVICE_NAMES: Final = frozenset(
    [
        "database",
        "storage",
        "email",
        "auth",
        "config",
        "api",
        "upstream",
        "worker",
        "build",
        "deploy",
        "edge",
        "client",
        "named",
    ]
)


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A `[[signature]]` as written; `not` is a keyword of Python."""

    id: str
    specificity: int
    any: tuple[str, ...] = ()
    all: tuple[str, ...] = ()
    none: tuple[str, ...] = msgspec.field(default=(), name="not")
    stack: tuple[str, ...] = ()
    literals: tuple[str, ...] = ()
    kinds: tuple[LogKind, ...] = ()
    service: str | None = None
    examples: tuple[str, ...] = ()
    counter_examples: tuple[str, ...] = ()


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file of one label; all but `label` and `signature` may be missing where the label is already known."""

    label: str
    signature: tuple[_Row, ...] = ()
    title: str | None = None
    about: str = ""
    scenario: Scenario | None = None
    scenario_by_kind: dict[LogKind, Scenario] = {}
    service: str = "worker"
    severity: int = 2
    rollback: RollbackAdvice = RollbackAdvice.CODE_OK
    steps: tuple[str, ...] = ()
    confirm: str = ""
    explains: tuple[str, ...] = ()


def read_catalogue(folders: Iterable[Traversable]) -> Catalogue:
    """Return the catalogue of these folders, in their order; a later file may add signatures to an earlier label.

    Raises:
        ConfigError: all that is wrong in the files, each with its name.
    """
    causes: dict[str, Cause] = {}
    signatures: dict[tuple[str, str], Signature] = {}
    services: dict[str, tuple[tuple[str, float], ...]] = {}
    mistakes: list[str] = []
    for folder in folders:
        for path in sorted(folder.iterdir(), key=lambda each: each.name):
            if not path.name.endswith(".toml"):
                continue
            try:
                raw = decode_toml(path.read_text(encoding="utf-8"))
                if path.name == SERVICES:
                    for service, patterns in convert(raw, dict[str, dict[str, float]]).items():
                        services[service] = (*services.get(service, ()), *patterns.items())
                    continue
                file = convert(raw, _File)
            except (OSError, *UNDECODABLE) as error:
                mistakes.append(f"{path.name}: {error}")
                continue
            mistakes += (f"{path.name}: {mistake}" for mistake in _take_file(file, causes, signatures))
    mistakes += (
        f"{cause.label}: explains {other!r}, which is not a label"
        for cause in causes.values()
        for other in cause.explains
        if other not in causes
    )
    if mistakes:
        raise ConfigError(tuple(mistakes))
    hints = tuple(ServiceHint(service, patterns) for service, patterns in services.items())
    return Catalogue(causes, tuple(signatures.values()), hints)


def _take_file(file: _File, causes: dict[str, Cause], signatures: dict[tuple[str, str], Signature]) -> list[str]:
    """Take one file in and return what is wrong in it."""
    mistakes = []
    if file.title is not None and file.scenario is not None:
        causes[file.label] = Cause(
            label=file.label,
            title=file.title,
            about=file.about,
            scenario=file.scenario,
            service=file.service,
            severity=file.severity,
            rollback=file.rollback,
            steps=file.steps,
            confirm=file.confirm,
            explains=file.explains,
            scenario_by_kind=file.scenario_by_kind,
        )
    elif file.label not in causes:
        mistakes.append(f"label {file.label!r} is new: give its `title` and its `scenario`")
    for row in file.signature:
        where = f"signature {row.id!r}"
        if (file.label, row.id) in signatures:
            mistakes.append(f"{where} appears twice")
        mistakes += (f"{where}: {mistake}" for mistake in _list_mistakes(row))
        fields = {name: getattr(row, name) for name in row.__struct_fields__}
        signatures[file.label, row.id] = Signature(label=file.label, **fields)
    return mistakes


def _list_mistakes(row: _Row) -> list[str]:
    found = []
    if not (row.any or row.all or row.stack):
        found.append("no pattern: one of `any`, `all` and `stack` is needed")
    if not 1 <= row.specificity <= 10:
        found.append(f"specificity {row.specificity} is not in 1 to 10")
    if row.service is not None and row.service not in _SERVICE_NAMES:
        found.append(f"{row.service!r} is not a service; there are {', '.join(sorted(_SERVICE_NAMES))}")
    if any(literal != literal.lower() for literal in row.literals):
        found.append("`literals` are compared with the text in lower case: write them in lower case")
    return found


def check_patterns(catalogue: Catalogue) -> tuple[str, ...]:
    """Return what is wrong with the patterns (they are compiled when they are first needed, not when they are read)."""
    mistakes = []
    for one in catalogue.signatures:
        for pattern in (*one.any, *one.all, *one.none, *one.stack):
            try:
                re.compile(pattern, re.MULTILINE)
            except re.error as error:
                mistakes.append(f"{one.label}: signature {one.id!r}: {pattern!r}: {error}")
    return tuple(mistakes)
