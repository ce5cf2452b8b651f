"""The tools that set secrets, from a configuration: the writer, the key of the fingerprints, the source of values."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from backout.config.init.workflow import TOKEN_ENV as WORKFLOW_TOKEN_ENV
from backout.config.known import SAFE_SOURCES, SECRET_NAME
from backout.config.schema.environment import TOKEN_ENV
from backout.config.secret_names import list_secret_variables
from backout.config.trust import check_values
from backout.decoding import decode_values
from backout.errors import BackoutError, Refused, UsageError
from backout.model.secrets import ExpectedSecrets
from backout.providers.child_environment import make_team_environment
from backout.providers.files.fingerprints import KeyedFingerprints
from backout.providers.sources.parsing import MAX_BYTES, parse
from backout.providers.sources.sources import (
    CommandSource,
    EnvironmentSource,
    KeyringSource,
    from_file,
    from_text,
    from_values,
)
from backout.runbook.secrets.tools import PushTools

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.config import Config
    from backout.model.plan import Json
    from backout.model.secrets import SecretValues
    from backout.ports import SecretSource, SecretWriter

__all__ = [
    "describe_source",
    "from_text",
    "from_values",
    "learn_source",
    "list_own_names",
    "make_source",
    "push_tools",
    "read_expected_secrets",
    "read_values",
]

ACCOUNT_ENV = "CLOUDFLARE_ACCOUNT_ID"


def push_tools(config: Config, writer: SecretWriter) -> PushTools:
    """Return the tools that set secrets of the chosen environment."""
    return PushTools(
        writer=writer,
        fingerprints=KeyedFingerprints(config.places.fingerprints, config.name),
        expected=lambda: read_expected_secrets(config),
        opened=lambda named: make_source(config, named),
        configured=describe_source(config),
        on_live=not config.environment.platform.is_cloudflare,
        own=list_own_names(config),
    )


def list_own_names(config: Config) -> frozenset[str]:
    """Return the names that are never the application's: the tokens of deployments, and those that are ignored."""
    platform = config.environment.platform
    tokens = (platform.token_env, platform.read_token_env, platform.secrets_token_env, TOKEN_ENV, ACCOUNT_ENV)
    return frozenset({name for name in tokens if name} | set(config.environment.secrets.ignore))


def list_withheld(config: Config) -> frozenset[str]:
    """Return the variables that no source of secrets needs: tokens, connection strings and keys that backout reads."""
    return list_secret_variables(config.settings) | {TOKEN_ENV, WORKFLOW_TOKEN_ENV}


def read_expected_secrets(config: Config) -> ExpectedSecrets:
    """Return the names of the sample file and those that are required. Raises UsageError: the file cannot be read."""
    settings, own = config.environment.secrets, list_own_names(config)
    path = settings.example
    names: tuple[str, ...] = ()
    if path is not None:
        try:
            with path.open("rb") as file:
                names = tuple(name for name in parse(file.read(MAX_BYTES + 1), str(path)) if name not in own)
        except OSError as error:
            raise UsageError(f"cannot read it: {error.strerror}", where=str(path), hint="secrets.example") from error
    return ExpectedSecrets(names, settings.required, path.name if path else "")


def learn_source(config: Config) -> None:
    """Read the application's secrets from their source if that runs nothing, so that they are masked from then on.

    Of a file those that are required or are named as secrets are, and all of them where none is required: it may hold
    settings as well. What cannot be read is skipped; `backout secrets` says why.
    """
    named, required = describe_source(config), config.environment.secrets.required
    if named is None or named["from"] not in SAFE_SOURCES:
        return
    with contextlib.suppress(BackoutError):
        if named["from"] == "env":
            kept = make_source(config, named)
            expected = read_expected_secrets(config)
            kept.read(kept.names() or {*expected.example, *expected.required})
            return
        found = from_file(Path(str(named["path"])), lambda _value: None, check_values)
        names = found.names() or ()
        for name in names:
            if not required or name in required or SECRET_NAME.search(name):
                with contextlib.suppress(BackoutError):  # one that is not usable
                    config.variables.on_secret(found.read([name]).reveal(name))


def describe_source(config: Config) -> Mapping[str, Json] | None:
    """Return the source of backout.toml as a plan names it, or None."""
    settings = config.environment.secrets.source
    if settings is None:
        return None
    if settings.kind == "file":
        return {"from": "file", "path": str(settings.path)}
    if settings.kind == "env":
        return {"from": "env", "prefix": settings.prefix}
    if settings.kind == "keyring":
        return {"from": "keyring", "service": settings.service}
    return {"from": "command", "command": [*settings.command], "timeout": float(settings.timeout)}


def read_values(config: Config, file: Path) -> SecretValues:
    """Return all that a .env or a JSON file holds, but for what is never the application's; masked from then on.

    Raises:
        UsageError: it cannot be read.
        AuthError: others could have written it.
    """
    source = from_file(file, config.variables.on_secret, check_values)
    return source.read(set(source.names() or ()) - list_own_names(config))


def make_source(config: Config, named: Mapping[str, Json]) -> SecretSource:
    """Return the source that a plan names; nothing is read yet.

    Raises:
        Refused: it is a command, and none is to be run.
        BackoutError: the values were typed or came through stdin, and are not there any more.
    """
    heard, variables = config.variables.on_secret, config.variables.variables
    kind = named["from"]
    if kind == "file":
        return from_file(Path(str(named["path"])), heard, check_values)
    if kind == "env":
        return EnvironmentSource(variables, str(named["prefix"]), heard)
    if kind == "keyring":
        return KeyringSource(str(named["service"]), heard)
    if kind == "command":
        if config.no_commands:
            what = "the values come from a command, and with --no-commands none is run"
            raise Refused(what, where=config.name, hint="leave out --no-commands, on code that you trust")
        words = decode_values(named["command"], list[str], what="the command")
        timeout_s = decode_values(named["timeout"], float, what="the time limit")
        folder, variables = config.path.parent, make_team_environment(variables, without=list_withheld(config))
        return CommandSource(words, heard, variables=variables, folder=folder, timeout_s=timeout_s)
    raise BackoutError(
        f"the values came from {named.get('what')}, and none was kept: type the same command again with them",
        where=config.name,
    )
