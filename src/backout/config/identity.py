"""Checks beyond the types: keys that need each other, and environments that share an identity (safety rule 1)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from backout.config.explain import Mistake, Where
from backout.config.scalars import API_BASE_URL, Duration, is_loopback, is_private
from backout.config.variables import find_mixed
from backout.model.guard.count_query import list_mistakes
from backout.model.guard.policy import Expectation, SyntheticCheck
from backout.model.guard.routes import make_template

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

Table = dict[str, object]
WHOLE = 100
MOST_OFTEN_S = 0.2
"""Synthetic requests are never sent more often than this."""
SERVER_ERRORS = 500


def check_across_keys(document: Table) -> Iterator[Mistake]:
    """Yield the mistakes between keys of a document, which may also be wrong in other ways."""
    yield from _check_channels(_get_table(document, "notify"))
    yield from find_mixed(document)
    environments = _get_table(document, "environments")
    for name, content in environments.items():
        if isinstance(content, dict):
            yield from _check_together(content, ("environments", name))
    seen: list[tuple[str, str, tuple[str, ...]]] = []
    for name, content in environments.items():
        if not isinstance(content, dict):
            continue
        for path, what, identity in _check_identities(content):
            other = next(
                (each for each, kind, known in seen if each != name and kind == what and _is_same(known, identity)),
                None,
            )
            seen.append((name, what, identity))
            if other is not None:
                yield Mistake(
                    ("environments", name, *path),
                    f"the same {what} as in environments.{other}: a rollback of one would hit the other",
                )


def _is_same(known: tuple[str, ...], identity: tuple[str, ...]) -> bool:
    """Whether both may be the same thing: a part that is not set may be anything."""
    return all(mine == other or not mine or not other for mine, other in zip(known, identity, strict=True))


def _check_together(environment: Table, path: Where) -> Iterator[Mistake]:
    if isinstance(environment.get("database"), dict):
        yield from _check_database(_get_table(environment, "database"), (*path, "database"))
    platform = _get_table(environment, "platform")
    yield from _check_platform(platform, (*path, "platform"))
    yield from _check_traffic(_get_table(environment, "traffic"), platform, (*path, "traffic"))
    source = _get_table(environment, "secrets").get("source")
    if isinstance(source, dict) and (key := _SOURCE_NEEDS.get(str(source.get("from")))) and not source.get(key):
        yield Mistake((*path, "secrets", "source", key), f"required with from = {str(source['from'])!r}, but not there")
    yield from _check_ramp(environment, path)
    yield from _check_synthetic(environment, path)
    yield from _check_expectations(environment, path)
    yield from _find_unencrypted(environment, path)
    yield from _find_unproved_counts(environment, path)


def _check_platform(platform: Table, path: Where) -> Iterator[Mistake]:
    provider = platform.get("provider")
    if provider not in _OWN_TABLE:
        if not _get_text(platform, "script"):
            yield Mistake((*path, "script"), "required, but not there")
        return
    table = platform.get(str(provider))
    if not isinstance(table, dict):
        yield Mistake((*path, str(provider)), "required, but not there")
    elif provider == "command":
        for name in ("history", "current", "activate"):
            if not table.get(name):
                yield Mistake((*path, "command", name), "required, but not there: the program and its arguments")
    elif ("run" in table) == ("start" in table) or ("start" in table) != ("stop" in table):
        yield Mistake((*path, "caddy"), "needs start and stop, or run: what starts a release and ends it")
    else:
        yield from _check_hosts(table, (*path, "caddy"))


def _check_hosts(caddy: Table, path: Where) -> Iterator[Mistake]:
    folders = _list_release_folders(caddy)
    if "run" in caddy and any(destination != _HERE for _, destination, _ in folders):
        yield Mistake((*path, "run"), "runs releases on this host alone: hosts behind ssh need start and stop")
    for key, destination, releases in folders:
        if destination != _HERE and not releases.startswith("/"):
            yield Mistake((*path, *key), f"{releases!r} on another host: expected an absolute path")
    if len({(destination, releases) for _, destination, releases in folders}) < len(folders):
        yield Mistake((*path, "hosts"), "two of them are the same folder on the same host")


_HERE = "localhost"


def _list_release_folders(caddy: Table) -> list[tuple[Where, str, str]]:
    """Return each folder of releases: the key that names it, the host's destination, and the folder."""
    usual, hosts = _get_text(caddy, "releases"), _get_table(caddy, "hosts")
    found: list[tuple[Where, str, str]] = []
    for name in hosts:
        host = _get_table(hosts, name)
        own = _get_text(host, "releases")
        key = ("hosts", name, "releases") if own else ("releases",)
        found.append((key, _get_text(host, "ssh") or _HERE, own or usual))
    return found if hosts else [(("releases",), _HERE, usual)] if usual else []


_OWN_TABLE = ("caddy", "command")
"""Platforms with a table of their own in place of the keys of Cloudflare."""


def _check_database(database: Table, path: Where) -> Iterator[Mistake]:
    migrations = database.get("migrations", "none")
    if database.get("provider") == "d1":
        if "database_id" not in database:
            yield Mistake((*path, "database_id"), "required, but not there: `wrangler d1 list` shows it")
        if migrations not in {"d1", "none"}:
            yield Mistake((*path, "migrations"), "a D1 database has d1 or none")
        return
    if not {"url_env", "url_file"} & set(database):
        yield Mistake(path, "needs url_env (a variable's name) or url_file")
    if migrations == "d1":
        yield Mistake((*path, "migrations"), 'belongs to provider = "d1"')


def _check_traffic(traffic: Table, platform: Table, path: Where) -> Iterator[Mistake]:
    provider = str(traffic.get("provider"))
    if (key := _NEEDED.get(provider)) and key not in traffic:
        yield Mistake((*path, key), "required, but not there")
    if provider == "logs" and "path" not in _get_table(traffic, "logs"):
        yield Mistake((*path, "logs", "path"), "required, but not there")
    if provider in _OF_CLOUDFLARE and platform.get("provider") in _OWN_TABLE:
        yield Mistake((*path, "provider"), f"{provider!r} belongs to platform.provider = 'cloudflare'")
    if provider == "caddy" and platform.get("provider") != "caddy":
        yield Mistake((*path, "provider"), "'caddy' belongs to platform.provider = 'caddy'")
    elif provider == "caddy" and not _has_log(_get_table(platform, "caddy")):
        yield Mistake((*path, "provider"), "needs platform.caddy.access_log, Caddy's log in JSON")
    if provider == "promql":
        for key, what in list_mistakes(_get_table(traffic, "promql")):
            yield Mistake((*path, "promql", key), what)
    if provider == "recorder":
        yield from _check_recorder(_get_table(traffic, "recorder"), (*path, "recorder"))


def _has_log(caddy: Table) -> bool:
    """Whether each host has an access log."""
    hosts = _get_table(caddy, "hosts")
    own = [bool(_get_text(_get_table(hosts, name), "access_log")) for name in hosts]
    return bool(_get_text(caddy, "access_log")) or (bool(own) and all(own))


_NEEDED = {"twin": "url", "prometheus": "url", "promql": "url"}
"""Where a source of counts is; the other sources need only the platform."""


_OF_CLOUDFLARE = ("recorder", "tail", "telemetry", "analytics", "twin")


_SOURCE_NEEDS = {"file": "path", "keyring": "service", "command": "command"}
"""What a source of secrets requires."""


def _check_recorder(recorder: Table, path: Where) -> Iterator[Mistake]:
    if ("url" in recorder) == ("bucket" in recorder):
        yield Mistake(path, "needs url (the recorder's own address, for its object) or bucket, one of them")
    needed = ("secret",) if "bucket" not in recorder else ("credentials", "secret")
    for name in needed:
        if not {f"{name}_env", f"{name}_file"} & set(recorder):
            yield Mistake(path, f"needs {name}_env (a variable's name) or {name}_file")


def _check_ramp(environment: Table, path: Where) -> Iterator[Mistake]:
    ramp = _get_table(environment, "guard").get("ramp")
    if not isinstance(ramp, list) or not all(isinstance(step, int | float) for step in ramp):
        return
    if ramp != sorted(set(ramp)):
        yield Mistake((*path, "guard", "ramp"), "each step must be higher than the one before it")
    elif ramp and ramp[-1] != WHOLE:
        yield Mistake((*path, "guard", "ramp"), "the last step must be 100: a ramp ends with all of the traffic")


def _check_synthetic(environment: Table, path: Where) -> Iterator[Mistake]:
    synthetic = _get_table(environment, "guard").get("synthetic")
    if not isinstance(synthetic, dict):
        return
    checks = [check for check in synthetic.get("checks") or () if isinstance(check, dict)]
    if (synthetic.get("paths") or checks) and "health" not in environment:
        yield Mistake((*path, "guard", "synthetic"), "needs health.url: synthetic requests go to that host only")
    with contextlib.suppress(ValueError):  # an invalid duration is reported elsewhere
        if Duration.parse(synthetic.get("every", "1s")) < MOST_OFTEN_S:
            yield Mistake((*path, "guard", "synthetic", "every"), "at most five requests a second: 200ms or more")
    yield from _check_checks(checks, synthetic.get("paths"), (*path, "guard", "synthetic", "checks"))


def _check_checks(checks: list[Table], paths: object, path: Where) -> Iterator[Mistake]:
    """Yield duplicate checks, and those whose expected answer is impossible."""
    known: set[object] = set(paths) if isinstance(paths, list) and all(isinstance(p, str) for p in paths) else set()
    for number, check in enumerate(checks):
        asked = check_name(check)
        if asked in known:
            yield Mistake((*path, number, "path"), f"{asked} is asked already")
        known.add(asked)
        if check.get("method") == "HEAD" and (check.get("word") or check.get("json")):
            yield Mistake((*path, number, "method"), "an answer to HEAD has no body, so neither word nor json")
        if check.get("preflight") and not check.get("origin"):
            yield Mistake((*path, number, "preflight"), "a page of which origin asks? origin is missing")
        for field, value in _get_table(check, "json").items():
            if not isinstance(value, str | int | float):
                yield Mistake((*path, number, "json", field), "expected a text, a number, true or false")


def check_name(check: Table) -> str:
    """Return the name of a check, see `SyntheticCheck.name`."""
    with_credentials = tuple(sorted(_get_table(check, "headers_env")))
    method = _get_text(check, "method") or "GET"
    return SyntheticCheck(
        _get_text(check, "path"),
        method,
        origin=_get_text(check, "origin"),
        preflight=_get_text(check, "preflight"),
        credentials=with_credentials,
    ).name


def _check_expectations(environment: Table, path: Where) -> Iterator[Mistake]:
    """Yield the expectations that would excuse too much: everything, the health endpoint, server errors."""
    url = _get_text(_get_table(environment, "health"), "url")
    for asked, statuses in _get_table(_get_table(environment, "guard"), "expect").items():
        where = (*path, "guard", "expect", asked)
        wrong = explain_refusal(asked, statuses if isinstance(statuses, list) else [], url)
        if wrong:
            yield Mistake(where, wrong)


def get_health_path(url: str) -> str:
    """Return the path of this health URL; without a URL (or with an unreadable one), "/health".

    >>> get_health_path("https://a.example.com"), get_health_path("https://a.example.com/up?full"), get_health_path("")
    ('/', '/up', '/health')
    """
    with contextlib.suppress(ValueError):  # what is no URL is told elsewhere
        if url:
            return urlsplit(url).path or "/"
    return "/health"


def explain_refusal(asked: str, statuses: Collection[object], health_url: str) -> str:
    """Return why a change of answers cannot be declared, or "".

    Args:
        asked: as in "GET /old/*".
        health_url: of the health endpoint, whose path must not be excused; "" for none.

    >>> explain_refusal("GET /*", [410], "")
    'it would excuse every answer: name the path that changes'
    """
    where = asked.partition(" ")[2]
    if where == "/*" or "*" in where[:-1] or (where.endswith("*") and not where.endswith("/*")):
        every = where in ("/*", "*")
        return "it would excuse every answer: name the path that changes" if every else "a * stands at the end, as /*"
    health = get_health_path(health_url)
    # As guard itself decides what is covered, also under the name that counts have for the path.
    declared = Expectation("", where, ())
    if declared.covers("", health) or declared.covers("", make_template("", health)):
        return f"it would excuse the health endpoint ({health})"
    if not statuses:
        return "expected the statuses that it may be answered with, such as [410]"
    if any(isinstance(status, int) and status >= SERVER_ERRORS for status in statuses):
        return "a server error is never expected"
    return ""


def _find_unencrypted(environment: Table, path: Where) -> Iterator[Mistake]:
    """Yield the addresses that a secret would reach unencrypted."""
    health, traffic = _get_table(environment, "health"), _get_table(environment, "traffic")
    checks = _get_table(_get_table(environment, "guard"), "synthetic").get("checks")
    sending = [c for c in checks if isinstance(c, dict) and c.get("headers_env")] if isinstance(checks, list) else []
    if sending and not is_private(_get_text(health, "url") or "https://"):
        what = "expected https: the credentials of guard.synthetic.checks go there, and http is for loopback alone"
        yield Mistake((*path, "health", "url"), what)
    secrets = [(health, "health", "headers_env")]
    secrets += [(traffic, "traffic", name) for name in ("token_env", "token_file", "basic_env", "basic_file")]
    for table, key, secret in secrets:
        with contextlib.suppress(ValueError):  # what is no URL is told elsewhere
            if table.get(secret) and not is_private(_get_text(table, "url") or "https://"):
                yield Mistake(
                    (*path, key, "url"), f"expected https: {secret} goes there, and http is for loopback alone"
                )


def _find_unproved_counts(environment: Table, path: Where) -> Iterator[Mistake]:
    """Yield the address of counts on which guard acts by itself, and which others on the way could write."""
    traffic, acts = _get_table(environment, "traffic"), _get_table(environment, "guard").get("mode") == "act"
    with contextlib.suppress(ValueError):  # what is no URL is told elsewhere
        if acts and traffic.get("provider") in _NEEDED and not is_private(_get_text(traffic, "url") or "https://"):
            what = "expected https: guard.mode is 'act' and these counts decide, and http is for loopback alone"
            yield Mistake((*path, "traffic", "url"), what)


def _check_channels(notify: Table) -> Iterator[Mistake]:
    needed = {
        "webhook": ("url", "secret"),
        "slack": ("url",),
        "pagerduty": ("routing_key",),
        "dead_man": ("url",),
    }
    for channel, names in needed.items():
        table = notify.get(channel)
        if not isinstance(table, dict):
            continue
        for name in names:
            if not {f"{name}_env", f"{name}_file"} & set(table):
                yield Mistake(("notify", channel), f"needs {name}_env (a variable's name) or {name}_file")
    smtp = _get_table(notify, "smtp")
    if ("user" in smtp) != bool({"password_env", "password_file"} & set(smtp)):
        yield Mistake(("notify", "smtp"), "user and password_env (or password_file) need each other")
    if (
        isinstance(smtp, dict)
        and "user" in smtp
        and smtp.get("security") == "none"
        and not is_loopback(_get_text(smtp, "host"))
    ):
        yield Mistake(("notify", "smtp", "security"), "a password goes there: expected 'starttls' or 'tls'")


def _check_identities(environment: Table) -> Iterator[tuple[Where, str, tuple[str, ...]]]:
    platform, health, storage = (_get_table(environment, key) for key in ("platform", "health", "storage"))
    account = (_get_text(platform, "api_base_url").rstrip("/") or API_BASE_URL, _get_text(platform, "account_id"))
    if script := _get_text(platform, "script"):
        yield ("platform", "script"), "script", (*account, script)
    for where, destination, releases in _list_release_folders(_get_table(platform, "caddy")):
        yield ("platform", "caddy", *where), "folder of releases", (destination, releases)
    if (commands := _get_table(platform, "command")).get("activate"):
        asked = [commands.get(key) for key in ("activate", "environment", "pass_environment")]
        yield ("platform", "command", "activate"), "command with the same variables", (repr(asked),)
    if host := _get_host(health):
        yield ("health", "url"), "health host", (host,)
    if bucket := _get_text(storage, "bucket"):
        owner = account if storage.get("provider") == "r2" else ("", "")  # the names of S3 buckets are global
        yield ("storage", "bucket"), "bucket", (*owner, _get_text(storage, "endpoint").rstrip("/"), bucket)
    pin = _get_table(environment, "pin")
    for key, what in _PINS.items():
        if pinned := _get_text(pin, key):
            yield ("pin", key), what, (pinned,)


_PINS = {
    "script_tag": "pinned script",
    "database_system_identifier": "database",
    "health_host": "pinned health host",
}
"""Two environments may share an account; everything else pinned belongs to one (buckets are compared above)."""


def _get_host(health: Table) -> str:
    return get_answering_host(_get_text(health, "url"), _get_table(health, "headers"))


def get_answering_host(url: str, headers: Mapping[str, object]) -> str:
    """Return the host that answers: an explicit Host header (a loopback router), else the URL's; "" for no URL.

    >>> (get_answering_host("https://app.example.com/health", {}),
    ...  get_answering_host("http://127.0.0.1:87/health", {"Host": "App.localhost"}))
    ('app.example.com', 'app.localhost')
    """
    for name, value in headers.items():
        if name.lower() == "host" and isinstance(value, str):
            return value.lower()
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""


def _get_table(parent: Table, key: str) -> Table:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def _get_text(parent: Table, key: str) -> str:
    value = parent.get(key)
    return value if isinstance(value, str) else ""
