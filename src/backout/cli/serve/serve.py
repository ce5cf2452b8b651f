"""Runs the server of `backout serve`, without the variables of whoever started it."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from backout.errors import Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from urllib.parse import SplitResult

    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.model.login import Login
    from backout.web.hooks import HookSecrets
    from backout.web.sessions import Proxy

_END_WITHIN_S: Final = 2
_SHORTEST_SECRET: Final = 16
_PORTS: Final = {"http": 80, "https": 443}


class Wanted(NamedTuple):
    """What was typed."""

    listen: str
    url: str | None
    cert: str | None
    key: str | None
    proxy: tuple[str, ...]
    proxy_header: str | None
    proxy_role: str
    github_secret: str | None
    webhook_secret: str | None
    github_oidc: str | None
    github_oidc_issuer: str | None
    github_oidc_role: str


def run_server(shell: Shell, wanted: Wanted) -> int:
    """Serve until it is told to end.

    Raises:
        UsageError: the address cannot be had, or what was typed does not fit together.
        Refused: others could read along.
    """
    from backout.extras import require

    require("serve", "backout serve")
    from backout.wiring.serve_process import drop_variables

    config = load_config(shell)
    drop_variables(config)
    host, port = parse_address(wanted.listen)
    proxy = _make_proxy(wanted, config.settings.journal.people)
    _check_reach(host, wanted, proxy)
    url = (wanted.url or f"{'https' if wanted.cert else 'http'}://{_format_host(host)}:{port}").rstrip("/")
    return _serve(shell, config, wanted, (host, port), url, proxy)


def load_config(shell: Shell) -> Config:
    """Return the configuration; no secret that it names is read, and no program is run."""
    from pathlib import Path

    from backout import config

    path = Path(shell.flags.config) if shell.flags.config else None
    return config.load(shell.environment, start=shell.folder, path=path, no_commands=True)


def parse_address(listen: str) -> tuple[str, int]:
    """Return (address, port). Raises UsageError: it is no such thing."""
    host, _, port = listen.rpartition(":")
    try:
        address, number = ipaddress.ip_address(host.strip("[]")), int(port)
    except ValueError:
        number, address = -1, ipaddress.ip_address("127.0.0.1")
    if not 0 <= number < 2**16:
        raise UsageError(
            "it is not ADDRESS:PORT", where=f"--listen {listen}", hint="backout serve --listen 127.0.0.1:8765"
        )
    return str(address), number


def _check_reach(host: str, wanted: Wanted, proxy: Proxy | None) -> None:
    """Refuse an address that others reach, without https and without a proxy that has it."""
    if (wanted.cert is None) != (wanted.key is None):
        raise UsageError("a certificate needs its key", where="--cert", hint="backout serve --cert FILE --key FILE")
    if wanted.url is not None:
        parts = _split_url(wanted.url)
        if parts.scheme == "http" and not _is_local(parts.hostname or ""):
            raise Refused("people would log in unencrypted", where="--url", hint="--url https://backout.example.com")
    if ipaddress.ip_address(host).is_unspecified and wanted.url is None:
        hint = "backout serve --url https://backout.example.com:8443"
        raise UsageError(f"nobody types {host}: say what people type", where="--url", hint=hint)
    if ipaddress.ip_address(host).is_loopback or wanted.cert is not None:
        return
    if proxy is None or wanted.url is None or not wanted.url.startswith("https://"):
        raise Refused(
            "others reach this address, and what they send could be read on the way",
            where=f"--listen {wanted.listen}",
            hint="backout serve --cert FILE --key FILE; behind a proxy that has it: --proxy, --proxy-header and --url",
        )


def _split_url(url: str) -> SplitResult:
    """Return the parts of what people type. Raises UsageError: it is none of a whole site."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # `https://[`, a port above 65535
        parts, port = urlsplit(""), None
    rest = parts.path.strip("/") + parts.query + parts.fragment + (parts.username or "")
    if parts.scheme not in _PORTS or not parts.hostname or port == 0 or rest:
        raise UsageError("it is no address of a site", where="--url", hint="--url https://backout.example.com")
    return parts


def _is_local(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _make_proxy(wanted: Wanted, people: Mapping[str, str]) -> Proxy | None:
    from backout.model.login import Permission
    from backout.web.sessions import Proxy

    if not wanted.proxy and wanted.proxy_header is None:
        return None
    if not wanted.proxy or wanted.proxy_header is None:
        hint = "backout serve --proxy 127.0.0.1/32 --proxy-header X-Forwarded-User"
        raise UsageError("a proxy needs its network and its header", where="--proxy", hint=hint)
    for each in wanted.proxy:
        try:
            ipaddress.ip_network(each)
        except ValueError:
            raise UsageError(f"{each!r} is no network", where="--proxy", hint="--proxy 10.0.0.5/32") from None
    if not re.fullmatch(r"[A-Za-z0-9-]{1,64}", wanted.proxy_header):
        raise UsageError("that is no name of a header", where="--proxy-header", hint="--proxy-header X-Forwarded-User")
    return Proxy(wanted.proxy_header, wanted.proxy, Permission(wanted.proxy_role), people)


def _make_job_checker(wanted: Wanted, url: str) -> Callable[[str], Login | None] | None:
    from backout.model.login import Permission
    from backout.wiring.serve import make_job_checker

    if wanted.github_oidc is None:
        return None
    if not re.fullmatch(r"[A-Za-z0-9-]{1,39}/[A-Za-z0-9._-]{1,100}", wanted.github_oidc):
        hint = "backout serve --github-oidc OWNER/REPOSITORY"
        raise UsageError("that is no repository", where="--github-oidc", hint=hint)
    return make_job_checker(wanted.github_oidc, url, Permission(wanted.github_oidc_role), wanted.github_oidc_issuer)


def _read_hooks(shell: Shell, wanted: Wanted) -> HookSecrets:
    """Return the secrets of those who may send webhooks. Raises UsageError: a file has none, or others may read it."""
    from backout.web.hooks import HookSecrets, decode_standard_secret

    github = _read_secret(shell, "--github-secret", wanted.github_secret)
    standard = _read_secret(shell, "--webhook-secret", wanted.webhook_secret)
    try:
        return HookSecrets(github.encode(), decode_standard_secret(standard) if standard else b"")
    except ValueError as error:
        raise UsageError(f"that is no secret of Standard Webhooks: {error}", where="--webhook-secret") from error


def _read_secret(shell: Shell, flag: str, file: str | None) -> str:
    if file is None:
        return ""
    from pathlib import Path

    found = shell.environment.secret_file(shell.folder / Path(file), flag)
    if found is None or len(found.reveal()) < _SHORTEST_SECRET:
        raise UsageError(f"a secret has {_SHORTEST_SECRET} characters at least", where=flag)
    return found.reveal()


def _format_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _list_hosts(url: str, port: int) -> set[str]:
    """Return what the Host header may be: the one of the URL, and on loopback its other names."""
    parts = _split_url(url)
    name, usual = _format_host(parts.hostname or ""), _PORTS[parts.scheme]
    known = {(name, parts.port or usual)}
    if _is_local(parts.hostname or ""):
        known |= {(each, port) for each in ("127.0.0.1", "localhost", "[::1]")}
    with_port = {f"{each}:{number}" for each, number in known}
    return with_port | {each for each, number in known if number == usual}  # a browser leaves out the usual one


def _serve(
    shell: Shell, config: Config, wanted: Wanted, address: tuple[str, int], url: str, proxy: Proxy | None
) -> int:
    import socket

    import uvicorn

    from backout.model.login import Permission
    from backout.web.app import make_app
    from backout.wiring.serve import Site

    host, port = address
    try:
        listening = socket.create_server(address, family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        hint = f"backout serve --listen {_format_host(host)}:{port + 1}"
        raise UsageError(
            f"nothing can listen there ({error.strerror})", where=f"--listen {wanted.listen}", hint=hint
        ) from error
    port = listening.getsockname()[1]
    if not address[1] and wanted.url is None:
        url = f"{url.rpartition(':')[0]}:{port}"
    site = Site(config)
    secure = url.startswith("https://")
    hooks, check_oidc = _read_hooks(shell, wanted), _make_job_checker(wanted, url)
    app = make_app(site, _list_hosts(url, port), secure=secure, proxy=proxy, hooks=hooks, check_oidc=check_oidc)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            ssl_certfile=wanted.cert,
            ssl_keyfile=wanted.key,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_END_WITHIN_S,
        )
    )
    offer = site.logins.offer(site.person, Permission.APPROVER)
    first = f"{url}/login?offer={offer}"
    if shell.flags.json:
        shell.output.line("serve", {"url": url, "login_url": first})
    else:
        shell.output.complain(f"the pages are at {url}\nlog in, once and within five minutes: {first}")
        shell.output.next("backout worker  # acts on what is asked for there, and reads what is live")
    try:
        asyncio.run(server.serve([listening]))
    finally:
        listening.close()
        site.close()
    return 0
