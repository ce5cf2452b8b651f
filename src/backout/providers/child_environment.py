"""What child processes inherit: the one place that builds their environment, and the arguments for our own modules.

A child gets the few variables that every program needs, and what its caller gives by name. Tokens and connection
strings lie in our environment; a long-lived child would show them to anyone who may read its `/proc/PID/environ`, and a
program that can be made to run a command would hand them to it. Only a command configured by the team gets everything.
"""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NewType

import backout

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ChildEnvironment = NewType("ChildEnvironment", dict[str, str])
"""All variables of a child. Only this module makes one, and every child of ours is given one: a test holds both."""

_KEPT: Final = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ", "LANG", "LANGUAGE"),
    *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "KRB5CCNAME", "KRB5_CONFIG"),
)
"""Where programs, their libraries and files lie, and how they speak: nothing that opens a door."""
_KEPT_PREFIX: Final = "LC_"
_LET_IN: Final = (
    "import runpy, sys; sys.path.insert({place}, sys.argv.pop(1)); "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)


def make_bare_environment(
    given: Mapping[str, str] | None = None,
    *,
    passed: Iterable[str] = (),
    variables: Mapping[str, str] | None = None,
) -> ChildEnvironment:
    """Return the environment of a child that needs nothing of ours but what is named.

    Args:
        given: set for the child alone, and wins.
        passed: names that the child gets as we have them, where we do.
        variables: ours; None for this process's.
    """
    ours = os.environ if variables is None else variables
    wanted = {*_KEPT, *passed}
    kept = {name: value for name, value in ours.items() if name in wanted or name.startswith(_KEPT_PREFIX)}
    return ChildEnvironment({**kept, **(given or {})})


def make_team_environment(
    variables: Mapping[str, str] | None = None, *, without: Iterable[str] = ()
) -> ChildEnvironment:
    """Return our whole environment, for a command that the team wrote and that needs what only the team knows.

    Args:
        variables: ours; None for this process's.
        without: names that such a command has no use for.
    """
    ours = os.environ if variables is None else variables
    withheld = frozenset(without)
    return ChildEnvironment({name: value for name, value in ours.items() if name not in withheld})


def make_sealed_environment(given: Mapping[str, str]) -> ChildEnvironment:
    """Return what is given and nothing of ours, for a program that runs what strangers wrote."""
    return ChildEnvironment(dict(given))


def make_module_command(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command line that runs a module of ours, whatever lies in the folder where it starts.

    `-I` keeps the current folder, PYTHONPATH and the user's own packages off the module path. Where backout itself was
    found by one of the latter two, that place alone is let in again.
    """
    home = str(Path(backout.__file__).resolve().parent.parent)
    if site.ENABLE_USER_SITE and home == str(Path(site.getusersitepackages()).resolve()):
        return (sys.executable, "-I", "-c", _LET_IN.format(place="len(sys.path)"), home, module, *arguments)
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if home in (str(Path(folder).resolve()) for folder in named if folder):
        return (sys.executable, "-I", "-c", _LET_IN.format(place="0"), home, module, *arguments)
    return (sys.executable, "-I", "-m", module, *arguments)
