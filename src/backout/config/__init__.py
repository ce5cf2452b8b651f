"""The team's configuration (backout.toml) and the process's environment, as frozen values.

Nothing outside this package reads the process's environment. Importing it is cheap: the parts load when first named.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backout.config.effective import Config as Config
    from backout.config.environment import Environment as Environment
    from backout.config.loading import find as find
    from backout.config.loading import find_mistakes as find_mistakes
    from backout.config.loading import load as load
    from backout.config.schema import EnvironmentSettings as EnvironmentSettings
    from backout.config.schema import Settings as Settings
    from backout.config.secret import Secret as Secret
    from backout.config.warnings import list_unprovable as list_unprovable
    from backout.config.warnings import list_warnings as list_warnings
    from backout.config.written import Setting as Setting

_HOMES = {
    "Config": "effective",
    "Environment": "environment",
    "EnvironmentSettings": "schema",
    "Secret": "secret",
    "Settings": "schema",
    "Setting": "effective",
    "find": "loading",
    "load": "loading",
    "find_mistakes": "loading",
    "list_unprovable": "warnings",
    "list_warnings": "warnings",
}


def __getattr__(name: str) -> object:
    """Import the part that holds `name` on demand, so that `--help` does not pay for the parser."""
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(import_module(f"backout.config.{_HOMES[name]}"), name)
