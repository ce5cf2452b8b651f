"""Keys of backout.toml that can run programs: which they are, and how a command does without them (`--no-commands`).

The schema marks them. Without them their values are not in the settings at all, so no code can run one by accident.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from backout.config.schema import Deploy, EnvironmentSettings, Settings
from backout.config.schema.types import RUNS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from backout.config.explain import Where

Key = tuple[str, ...]


def list_program_keys() -> tuple[str, ...]:
    """Return the marked keys of an environment, dotted, in the schema's order."""
    return tuple(".".join(key) for key in _find_marked(EnvironmentSettings, ()))


def withhold(settings: Settings, chosen_by_hand: Collection[Where]) -> tuple[Settings, frozenset[tuple[str, str]]]:
    """Return the settings without the programs that the file names, and what was removed as (environment, key).

    Args:
        chosen_by_hand: paths that a variable or a flag has set; those are not from the file.
    """
    kept: dict[str, EnvironmentSettings] = {}
    taken: set[tuple[str, str]] = set()
    for name, environment in settings.environments.items():
        by_hand = {tuple(map(str, path[2:])) for path in chosen_by_hand if path[:2] == ("environments", name)}
        named = [
            key for key in _find_marked(EnvironmentSettings, ()) if _get_value(environment, key) and key not in by_hand
        ]
        taken |= {(name, ".".join(key)) for key in named}
        for key in named:
            environment = _drop_key(environment, key)  # noqa: PLW2901 - one key less each time
        kept[name] = environment
    return msgspec.structs.replace(settings, environments=kept), frozenset(taken)


def _drop_key(environment: EnvironmentSettings, key: Key) -> EnvironmentSettings:
    """Return the environment without a key: the key itself if it is optional, else the table that needs it."""
    replace = msgspec.structs.replace
    match key:
        case ("deploy", name):
            return replace(environment, deploy=replace(environment.deploy, **{name: getattr(Deploy(), name)}))
        case ("secrets", "source", _):
            return replace(environment, secrets=replace(environment.secrets, source=None))
        case ("database", "backup", part, _) if environment.database:
            backup = replace(environment.database.backup, **{part: None})
            return replace(environment, database=replace(environment.database, backup=backup))
        case ("platform", "caddy", "jobs", _) if environment.platform.caddy:
            caddy = replace(environment.platform.caddy, jobs=None)
            return replace(environment, platform=replace(environment.platform, caddy=caddy))
        case ("platform", "caddy", name) if environment.platform.caddy:
            caddy = replace(environment.platform.caddy, **{name: None})
            return replace(environment, platform=replace(environment.platform, caddy=caddy))
        case ("platform", "command", name) if environment.platform.command:
            commands = replace(environment.platform.command, **{name: ()})
            return replace(environment, platform=replace(environment.platform, command=commands))
        case ("database", part, *_) if environment.database:
            return replace(environment, database=replace(environment.database, **{part: None}))
    raise AssertionError(f"no text says how to go without {'.'.join(key)}")


def _get_value(struct: object, key: Key) -> object:
    for name in key:
        if struct is None:
            return None
        fields = {field.encode_name: field.name for field in msgspec.structs.fields(struct)}  # type: ignore[arg-type]
        struct = getattr(struct, fields[name])
    return struct


def _find_marked(kind: type[msgspec.Struct], path: Key) -> Iterator[Key]:
    for field in msgspec.structs.fields(kind):
        here = (*path, field.encode_name)
        if any(RUNS in getattr(each, "__metadata__", ()) for each in _list_parts(field.type)):
            yield here
        for each in _list_parts(field.type):
            if isinstance(each, type) and issubclass(each, msgspec.Struct):
                yield from _find_marked(each, here)


def _list_parts(kind: Any) -> Iterator[Any]:
    """Yield a type and, of a union, its members."""
    yield kind
    yield from getattr(kind, "__args__", ()) if not hasattr(kind, "__metadata__") else ()
