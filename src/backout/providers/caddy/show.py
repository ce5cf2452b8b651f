"""What Caddy itself says: which deployment it passes requests on to, asked on a socket of its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from backout.errors import AuthError, ProviderUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from backout.providers.caddy.machine import Machine

_OK: Final = 200
_ID: Final = re.compile(r"[0-9A-Za-z-]{1,64}")
_START: Final = "is it running? `systemctl status caddy`; `backout release route` prints what its configuration needs"


def ask_caddy(machine: Machine, path: Path) -> str:
    """Return the id of the deployment that Caddy passes requests on to, "" where it has none yet.

    Args:
        path: of the socket on that host.

    Raises:
        ProviderUnavailable: it does not listen there, or gives no usable answer; or the host was not reached.
        AuthError: the socket is not for this user.
    """
    where = machine.describe(path)
    try:
        status, body = machine.ask(path)
    except PermissionError as error:
        raise AuthError("the socket is not for this user", where=where, hint=f"ls -l {path}") from error
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise ProviderUnavailable("Caddy does not listen there", where=where, hint=_START) from error
    except OSError as error:
        what = f"Caddy gives no answer: {error.strerror or error or type(error).__name__}"
        raise ProviderUnavailable(what, where=where) from error
    shown = body.strip()
    if status != _OK or (shown and not _ID.fullmatch(shown)):
        raise ProviderUnavailable(f"Caddy shows no deployment ({status})", where=where, hint=_START)
    return shown
