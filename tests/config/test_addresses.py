"""What `panic` and `card` take from a file that others could have written: names and limits, and no address."""

from __future__ import annotations

import enum
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from backout.config.addresses import withhold_addresses
from backout.config.schema import EnvironmentSettings, Settings


def test_a_new_key_of_the_file_stays_away_until_someone_lists_it() -> None:
    """All of a file is set to something else than its default; what is left is what addresses.py names."""
    kept = {
        "platform": {"provider", "script", "account_id", "token_env", "token_file"},
        "database": {
            *("provider", "url_env", "migrations", "migrations_path", "database_id", "app_checks_head"),
            "connect_timeout",
        },
        "secrets": {"required", "ignore"},
        "pin": {"account_id", "script_tag", "database_system_identifier"},
    }
    whole = {"protected", "services", "criteria", "guard"}
    settings = filled(Settings)
    left = withhold_addresses(settings, ()).environments["production"]
    before = settings.environments["production"]
    for name in EnvironmentSettings.__struct_fields__:
        if name in whole:
            assert getattr(left, name) == getattr(before, name)
        elif name not in kept:
            field = next(field for field in msgspec.structs.fields(EnvironmentSettings) if field.name == name)
            assert getattr(left, name) == field.default, name
        else:
            section, was = getattr(left, name), getattr(before, name)
            same = {each for each in section.__struct_fields__ if getattr(section, each) == getattr(was, each)}
            assert same == kept[name], name


def filled(kind: Any) -> Any:
    """Return a value of a type of the schema in which every field has another value than its default."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return filled(parts[0])
    if origin is Literal:
        return parts[-1]
    if origin in (types.UnionType, Union):
        return filled(next(part for part in parts if part is not type(None)))
    if origin in (tuple, list):
        return (filled(parts[0]),)
    if origin is dict or kind is dict:
        return {"production": filled(parts[1])} if parts else {"a": 1}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = msgspec.structs.fields(kind)
        return kind(**{field.name: filled(field.type) for field in fields})
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return list(kind)[-1]
    if kind is bool:
        return True
    if kind is object:
        return 1
    return kind(7) if isinstance(kind, type) and issubclass(kind, (int, float)) else kind("https://else.example.com")
