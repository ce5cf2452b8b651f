"""BACKOUT_* variables and flags, laid over the file's document before it is checked.

BACKOUT_SECTION_KEY sets a key of the chosen environment (BACKOUT_GUARD_MODE=act), or of [incidents] and [journal].
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from backout.config.explain import Where, suggest_similar
from backout.config.schema import EnvironmentSettings
from backout.config.trust import TRUST_ENV

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backout.config.environment import Environment

Table = dict[str, object]
REQUEST_ENV: Final = "BACKOUT_REQUEST"
"""Set by a worker for the command that it begins for a request on the pages: the request's number."""
REQUESTER_ENV: Final = "BACKOUT_REQUESTER"
"""Set beside it: the login that asked, as the journal's events then name who acts."""
OWN_VARIABLES = ("BACKOUT_CONFIG", "BACKOUT_ENVIRONMENT", "BACKOUT_PROOF", REQUEST_ENV, REQUESTER_ENV, TRUST_ENV)
_SHARED = ("incidents", "journal")


JOURNAL_URL: Final = ("journal", "url_env")
"""The key that a file which a variable names takes the place of."""


def overlay(
    document: Table, chosen: str | None, variables: Environment, flags: Mapping[str, str]
) -> tuple[Table, dict[Where, str]]:
    """Return the document with variables and flags laid over it, and {path: who set it}."""
    wanted = {
        name: value for name in variables.variables if name.startswith("BACKOUT_") and (value := variables.get(name))
    }
    if not (flags or wanted.keys() - set(OWN_VARIABLES)):
        return document, {}
    merged, set_by = copy.deepcopy(document), {}
    table = tuple(list_settable(chosen or ""))
    for name, path, kind in table:
        if name in wanted and (chosen or path[0] in _SHARED):
            _put(merged, path, _convert(wanted[name], kind))
            set_by[path] = name
            if path == ("journal", "path"):  # a file in place of whatever the configuration names
                _put(merged, JOURNAL_URL, None)
                own = document.get("journal")
                if isinstance(own, dict) and own.get("url_env"):
                    set_by[JOURNAL_URL] = name
    for key, value in flags.items():
        path = ("environments", chosen or "", *key.split("."))
        kind = next((kind for _, known, kind in table if known == path), str)
        _put(merged, path, _convert(value, kind))
        set_by[path] = f"--{key.rpartition('.')[2].replace('_', '-')}"
    return merged, set_by


def warn_of_unknown(chosen: str | None, variables: Environment, read: frozenset[str]) -> Iterator[str]:
    """Yield a warning for every BACKOUT_* variable that sets nothing.

    Args:
        read: the variables that the file names, such as the one of the marks' key.
    """
    known = {*OWN_VARIABLES, *(name for name, _, _ in list_settable(chosen or "NAME"))}
    for name in sorted(variables.variables):
        if name.startswith("BACKOUT_") and name not in known | read:
            yield f"{name} sets nothing{suggest_similar(name, known)}"


def list_settable(environment: str) -> Iterator[tuple[str, Where, object]]:
    """Yield (variable, path, type) for every value that a variable may set."""
    for field_ in msgspec.structs.fields(EnvironmentSettings):
        for kind in _list_structs(field_.type):
            for inner in msgspec.structs.fields(kind):
                if not tuple(_list_structs(inner.type)):
                    path: Where = ("environments", environment, field_.name, inner.encode_name)
                    yield f"BACKOUT_{field_.name}_{inner.encode_name}".upper(), path, inner.type
    yield "BACKOUT_INCIDENTS_DIRECTORY", ("incidents", "directory"), Path
    yield "BACKOUT_JOURNAL_PATH", ("journal", "path"), Path


def _list_structs(kind: object) -> Iterator[type[msgspec.Struct]]:
    for candidate in (kind, *getattr(kind, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, msgspec.Struct):
            yield candidate


def _put(document: Table, path: Where, value: object) -> None:
    table: object = document
    for part in path[:-1]:
        if not isinstance(table, dict):
            return  # the file's own mistake is reported
        table = table.setdefault(part, {})
    if isinstance(table, dict):
        table[path[-1]] = value


def _convert(text: str, kind: object) -> object:
    """Return a variable's text as the number or truth value that the key needs, else unchanged (and then explained)."""
    if text in {"true", "false"} and kind is bool:
        return text == "true"
    if re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", text) and any(t in repr(kind) for t in ("int", "float", "Duration")):
        return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
    if repr(kind).startswith("tuple["):
        return [part for part in text.split(",") if part]
    return text
