"""How programs without TLS reach a database: a connection string, through the proxy where needed."""

from __future__ import annotations

import atexit
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from backout.errors import UsageError
from backout.providers.postgres.tls.access import add_verification, format_parameters, is_here, needs_proof, parse_dsn
from backout.providers.postgres.tls.program_environment import make_program_environment
from backout.providers.postgres.tls.proxy import PORT, TlsProxy, TlsServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from backout.providers.child_environment import ChildEnvironment

__all__ = ["PlainAccess", "is_here", "open_program_environment", "parse_dsn", "without_tls"]

_TLS_ONLY: Final = (
    "sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslcrldir", "sslnegotiation", "sslsni",
    "sslcertmode", "ssl_min_protocol_version", "ssl_max_protocol_version", "channel_binding", "hostaddr", "gssencmode",
    "requiressl", "sslcompression", "ssl",
)  # fmt: skip


@contextlib.contextmanager
def without_tls(url: str, *, has_tls: bool = False) -> Iterator[str]:
    """Yield a connection string for programs without TLS: the same database, through a proxy where it needs TLS.

    A unix socket, this machine, and `sslmode=disable` go without; every other server is reached with a verified
    certificate. With `has_tls` the programs do it themselves, and the string asks them for the same.

    Raises:
        AuthError: it is no connection string; the text does not quote it.
        UsageError: several hosts, or no certificate file.
        ProviderUnavailable: the certificate does not hold, or the server has no TLS: before any program runs.
    """
    parameters = parse_dsn(url)
    server = None if has_tls else _find_server(parameters)
    if server is None:
        yield add_verification(format_parameters(parameters)) if has_tls else format_parameters(parameters)
        return
    with TlsProxy(server) as proxy:
        proxy.try_it()
        kept = {name: value for name, value in parameters.items() if name not in _TLS_ONLY}
        yield format_parameters({**kept, "host": str(proxy.directory), "port": str(PORT)})


@contextlib.contextmanager
def open_program_environment(url: str, *, has_tls: bool) -> Iterator[ChildEnvironment]:
    """Yield the environment in which a Postgres program reaches a database, through `without_tls` where it must."""
    with without_tls(url, has_tls=has_tls) as plain:
        yield make_program_environment(plain)


class PlainAccess:
    """A connection string for programs without TLS; the proxy starts on first use, and ends with the process.

    Args:
        url: returns the connection string.
        has_tls: whether the programs speak TLS themselves.
    """

    def __init__(self, url: Callable[[], str], has_tls: Callable[[], bool]) -> None:
        self._url = url
        self._has_tls = has_tls
        self._open = contextlib.ExitStack()
        self._dsn: str | None = None

    def dsn(self) -> str:
        """Return it. Raises as `without_tls`, at the first call; a later one returns the same."""
        if self._dsn is None:
            self._dsn = self._open.enter_context(without_tls(self._url(), has_tls=self._has_tls()))
            atexit.register(self.close)
        return self._dsn

    def close(self) -> None:
        """End the proxy before the process ends."""
        self._open.close()


def _find_server(parameters: Mapping[str, str]) -> TlsServer | None:
    """Return the server to be reached with TLS, or None where the connection goes without."""
    host, mode = parameters.get("host", ""), parameters.get("sslmode", "")
    if not needs_proof(parameters):
        return None
    if "," in host:
        raise UsageError("the connection string names several hosts", where="database", hint="name the primary alone")
    root = parameters.get("sslrootcert", "")
    own = Path("~/.postgresql/root.crt").expanduser()
    if not root and own.is_file():
        root = str(own)
    return TlsServer(
        host,
        int(parameters.get("port", PORT)),
        address=parameters.get("hostaddr", ""),
        check_name=mode != "verify-ca",
        root="" if root == "system" else root,
        certificate=parameters.get("sslcert", ""),
        key=parameters.get("sslkey", ""),
    )
