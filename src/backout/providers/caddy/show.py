"""What Caddy itself says: which deployment it passes requests on to, asked on a socket of its own."""

from __future__ import annotations

import http.client
import re
from typing import TYPE_CHECKING, Final

from backout.errors import AuthError, ProviderUnavailable
from backout.providers.sockets import dial_socket

if TYPE_CHECKING:
    from pathlib import Path

_OK: Final = 200
_WITHIN_S: Final = 5.0
_ID: Final = re.compile(r"[0-9A-Za-z-]{1,64}")
_START: Final = "is it running? `systemctl status caddy`; `backout release route` prints what its configuration needs"


def ask_caddy(path: Path) -> str:
    """Return the id of the deployment that Caddy passes requests on to, "" where it has none yet.

    Args:
        path: of the socket.

    Raises:
        ProviderUnavailable: it does not listen there, or gives no usable answer.
        AuthError: the socket is not for this user.
    """
    connection = _UnixConnection(path)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        status, body = answer.status, answer.read(1000)
    except PermissionError as error:
        raise AuthError("the socket is not for this user", where=str(path), hint=f"ls -l {path}") from error
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise ProviderUnavailable("Caddy does not listen there", where=str(path), hint=_START) from error
    except (OSError, http.client.HTTPException) as error:
        what = f"Caddy gives no answer: {error or type(error).__name__}"
        raise ProviderUnavailable(what, where=str(path)) from error
    finally:
        connection.close()
    shown = body.decode("ascii", "replace").strip()
    if status != _OK or (shown and not _ID.fullmatch(shown)):
        raise ProviderUnavailable(f"Caddy shows no deployment ({status})", where=str(path), hint=_START)
    return shown


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_WITHIN_S)
        self._path = path

    def connect(self) -> None:
        self.sock = dial_socket(str(self._path), _WITHIN_S)
