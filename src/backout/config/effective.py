"""One command's configuration: the effective values, values derived from them, and where its secrets are."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from backout.config.access import parse_access, parse_keys
from backout.config.identity import get_answering_host
from backout.config.other_secrets import list_other_secrets, reveals
from backout.config.places import Places
from backout.config.schema.environment import TOKEN_ENV
from backout.config.written import Setting, join_path, to_plain, to_text, walk_leaves
from backout.errors import ConfigError, Refused, UsageError
from backout.model.setting import describe_setting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from backout.config.access import BucketAccess
    from backout.config.environment import Environment
    from backout.config.explain import Where
    from backout.config.schema import EnvironmentSettings, Settings
    from backout.config.secret import Secret
    from backout.model.guard.policy import Policy

_ELSEWHERE = frozenset({"account_id", "token_env", "protected"})
"""Keys that something else decides if the file does not set them."""
_IN_ENVIRONMENT = 3
_PRODUCTION = re.compile(r"^(prod|production|live)([-_.]|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration of one command.

    Args:
        path: the file.
        settings: all of it, overrides applied.
        chosen: name of the environment, or None.
        variables: the process's environment.
        text: the file as read.
        set_by: {path: variable or flag that set it}.
        no_commands: programs that the file names are not run.
        withheld: what was removed because of that, (environment, key).
        trusted: what `places` has judged already.
        kept: what was made of it, once: connections.
    """

    path: Path
    settings: Settings
    chosen: str | None
    variables: Environment = field(repr=False)
    text: str = field(default="", repr=False)
    set_by: Mapping[Where, str] = field(default_factory=dict, repr=False)
    no_commands: bool = False
    withheld: frozenset[tuple[str, str]] = frozenset()
    trusted: set[tuple[Path, bool]] = field(default_factory=set, repr=False, compare=False)
    kept: dict[str, object] = field(default_factory=dict, repr=False, compare=False)

    @property
    def places(self) -> Places:
        """Where backout keeps what it writes and reads again."""
        return Places(self.path, self.settings, lambda: self.name, self.trusted)

    @property
    def name(self) -> str:
        """The environment's name. Raises UsageError: none was chosen and there are several."""
        if self.chosen is None:
            names = ", ".join(self.settings.environments)
            raise UsageError("which environment?", where=str(self.path), hint=f"add -e NAME, one of: {names}")
        return self.chosen

    @property
    def environment(self) -> EnvironmentSettings:
        """The chosen environment. Raises UsageError as `name` does."""
        return self.settings.environments[self.name]

    def refuse_withheld(self, *keys: str) -> None:
        """Raise Refused if one of these keys of the chosen environment names a program that must not be run."""
        for key in keys:
            if (self.name, key) in self.withheld:
                raise Refused(
                    f"{key} names a program, and with --no-commands none that the file names is run",
                    where=f"{self.path.name}: environments.{self.name}.{key}",
                    hint="leave out --no-commands, on code that you trust",
                )

    @property
    def protected(self) -> bool:
        """Whether this is production: mutations need a message and the name typed."""
        explicit = self.environment.protected
        return bool(_PRODUCTION.match(self.name)) if explicit is None else explicit

    @property
    def policy(self) -> Policy:
        """Criteria, guard and services of the chosen environment."""
        return self.environment.policy()

    @property
    def has_account(self) -> bool:
        """Whether the file or CLOUDFLARE_ACCOUNT_ID names the platform's account."""
        return bool(self._find_account())

    def _find_account(self) -> str | None:
        return self.environment.platform.account_id or self.variables.get("CLOUDFLARE_ACCOUNT_ID")

    @property
    def account_id(self) -> str:
        """The platform's account.

        Raises:
            ConfigError: neither the file nor CLOUDFLARE_ACCOUNT_ID names it.
        """
        found = self._find_account()
        if not found:
            where = f"{self.path.name}: environments.{self.name}.platform.account_id"
            add = describe_setting("environments", self.name, "platform", account_id="ACCOUNT_ID")
            what = "the configuration is not complete: CLOUDFLARE_ACCOUNT_ID is not set"
            raise ConfigError(
                (f"{where}: not set, and CLOUDFLARE_ACCOUNT_ID neither",),
                hint=f"{add}; or set CLOUDFLARE_ACCOUNT_ID",
                what=what,
            )
        return found

    def token(self) -> Secret:
        """Return the platform's API token: token_env, then token_file, then (neither written) CLOUDFLARE_API_TOKEN.

        Raises:
            AuthError: there is none; the hint says what to set.
        """
        platform = self.environment.platform
        variable = platform.token_env or (None if platform.token_file else TOKEN_ENV)
        return self._secret(variable, platform.token_file, "platform", "an API token")

    def read_token(self) -> Secret | None:
        """Return the API token for reading, or None if `token` is used for that. Raises AuthError as `token`."""
        platform = self.environment.platform
        return self._own_token(platform.read_token_env, platform.read_token_file, "an API token for reading")

    def secrets_token(self) -> Secret | None:
        """Return the API token for secrets, or None if the others are used for them. Raises AuthError as `token`."""
        platform = self.environment.platform
        return self._own_token(platform.secrets_token_env, platform.secrets_token_file, "an API token for secrets")

    def _own_token(self, variable: str | None, path: Path | None, what: str) -> Secret | None:
        return self._secret(variable, path, "platform", what) if variable or path else None

    def platform_secrets(self) -> dict[str, str]:
        """Return what the platform's commands are given on their input. Raises AuthError: one of them is not set."""
        commands = self.environment.platform.command
        named, where = {} if commands is None else commands.secrets_env, "platform.command"
        return {
            name: self._secret(variable, None, where, f"the secret {name}").reveal() for name, variable in named.items()
        }

    @property
    def health_host(self) -> str | None:
        """The host that answers health checks, or None without a health endpoint."""
        health = self.environment.health
        return None if health is None else get_answering_host(str(health.url), health.headers) or None

    def traffic_token(self, *, basic: bool = False) -> Secret:
        """Return the bearer token of the counts' source, or its `user:password`. Raises AuthError: it is not there."""
        traffic, what = self.environment.traffic, "what the counts' source asks for"
        variable, path = (traffic.basic_env, traffic.basic_file) if basic else (traffic.token_env, traffic.token_file)
        return self._secret(variable, path, "traffic", what)

    def recorder_secret(self) -> Secret:
        """Return the flight recorder's signing key. Raises AuthError: it is not set."""
        recorder = self.environment.traffic.recorder
        return self._secret(recorder.secret_env, recorder.secret_file, "traffic.recorder", "the recorder's secret")

    def recorder_access(self) -> BucketAccess:
        """Return the access key of the flight recorder's bucket.

        Raises:
            AuthError: it is not set, or is no JSON with an access_key_id and a secret_access_key.
        """
        recorder, where = self.environment.traffic.recorder, "traffic.recorder"
        found = self._secret(recorder.credentials_env, recorder.credentials_file, where, "an access key")
        return parse_access(found, self.variables.on_secret, f"environments.{self.name}.{where}")

    def database_url(self) -> Secret:
        """Return the database's connection string.

        Raises:
            AuthError: it is not set.
            UsageError: the environment has no Postgres database.
        """
        database = self.environment.database
        if database is None or database.provider != "postgres":
            raise UsageError(f"environments.{self.name} has no Postgres database", where=str(self.path))
        return self._secret(database.url_env, database.url_file, "database", "a connection string")

    def side_url(self, variable: str | None, path: Path | None) -> Secret:
        """Return the connection string of a database beside the live one, kept in a variable or a file.

        Raises:
            AuthError: it is not set.
        """
        return self._find_secret(variable, path, "the side database", "a connection string")

    def database_admin_url(self) -> Secret:
        """Return the connection string of the role that may replicate and restore: admin_url_*, else the application's.

        Raises:
            AuthError: it is not set.
            UsageError: the environment has no database.
        """
        database = self.environment.database
        if database is None or not (database.admin_url_env or database.admin_url_file):
            return self.database_url()
        variable, path = database.admin_url_env, database.admin_url_file
        return self._secret(variable, path, "database", "the administrator's connection string")

    def backup_key(self) -> Secret | None:
        """Return the encryption key of backups, or None if they are not encrypted. Raises AuthError: it is not set."""
        database = self.environment.database
        if database is None or not (database.backup.key_env or database.backup.key_file):
            return None
        backup = database.backup
        return self._secret(backup.key_env, backup.key_file, "database.backup", "the key of the backups")

    def backup_access(self) -> BucketAccess:
        """Return the access key of the backups' bucket.

        Raises:
            AuthError: it is not set, or is no JSON with an access_key_id and a secret_access_key.
        """
        database, where = self.environment.database, "database.backup.store"
        assert database is not None
        assert database.backup.store is not None
        store = database.backup.store
        found = self._secret(store.credentials_env, store.credentials_file, where, "an access key")
        return parse_access(found, self.variables.on_secret, f"environments.{self.name}.{where}")

    def storage_access(self) -> BucketAccess:
        """Return the access key of the application's bucket.

        Raises:
            AuthError: it is not set, or is no JSON with an access_key_id and a secret_access_key.
            UsageError: the environment has no bucket.
        """
        storage = self.environment.storage
        if storage is None:
            raise UsageError(
                f"environments.{self.name} has no storage",
                where=str(self.path),
                hint=describe_setting("environments", self.name, "storage", provider="s3", bucket="NAME"),
            )
        found = self._secret(storage.credentials_env, storage.credentials_file, "storage", "an access key")
        return parse_access(found, self.variables.on_secret, f"environments.{self.name}.storage")

    def history_keys(self) -> tuple[Secret, ...]:
        """Return what manifests of the bucket's history are signed with: () if they are not, two during a change.

        The first one signs; what the second one signed is accepted.

        Raises:
            AuthError: it is not set, or too short for a key.
        """
        storage = self.environment.storage
        if storage is None or not (storage.history_key_env or storage.history_key_file):
            return ()
        found = self._secret(storage.history_key_env, storage.history_key_file, "storage", "the key of the history")
        return parse_keys(found, self.variables.on_secret, f"environments.{self.name}.storage")

    def managed_token(self) -> Secret:
        """Return the token for the vendor's API.

        Raises:
            AuthError: it is not set.
            UsageError: no vendor runs the database.
        """
        database = self.environment.database
        if database is None or database.managed is None:
            what = f"environments.{self.name}.database has no section `managed`: no vendor runs it"
            raise UsageError(what, where=str(self.path), hint="docs/config.md")
        managed = database.managed
        variable = managed.token_env or (None if managed.token_file else f"{managed.provider.upper()}_API_KEY")
        return self._secret(variable, managed.token_file, "database.managed", "an API token")

    def health_headers(self) -> dict[str, str]:
        """Return the headers for the health endpoint, the secret ones resolved.

        Raises:
            AuthError: a variable of `headers_env` is not set.
            ConfigError: it holds another secret, such as a token.
        """
        health = self.environment.health
        if health is None:
            return {}
        return {**health.headers, **self._sent(health.headers_env, "health")}

    def check_credentials(self) -> dict[str, dict[str, str]]:
        """Return {name of a synthetic check: the headers with its credentials}. Raises as `health_headers`."""
        found = {}
        for number, check in enumerate(self.environment.guard.synthetic.checks):
            if check.headers_env:
                where = f"guard.synthetic.checks[{number}]"
                found[check.as_model().name] = self._sent(check.headers_env, where)
        return found

    def _sent(self, named: Mapping[str, str], section: str) -> dict[str, str]:
        """Return secret headers, resolved; none of them may be another kind of secret."""
        secret = {
            name: self._secret(variable, None, section, f"the header {name}").reveal()
            for name, variable in named.items()
        }
        for kind, value in self._list_others() if secret else ():
            if leaking := next((name for name, sent in secret.items() if reveals(sent, value)), None):
                where = f"{self.path.name}: environments.{self.name}.{section}.headers_env.{leaking}"
                what = f"{where}: its value is {kind}, which is never sent as a header"
                raise ConfigError((what,), hint="give the health endpoint a secret of its own")
        return secret

    def _list_others(self) -> Iterator[tuple[str, str]]:
        from backout.config.variables import DATABASE, TOKEN

        tokens = ((read, TOKEN) for read in (self.token, self.read_token, self.secrets_token))
        databases = ((read, DATABASE) for read in (self.database_url, self.database_admin_url))
        return list_other_secrets(self.settings, self.variables, (*tokens, *databases))

    def dead_man_url(self) -> Secret:
        """Return the URL that guard pings while it watches; it may hold a secret.

        Raises:
            AuthError: it is not set, or its file cannot be read.
            UsageError: none is set up.
        """
        dead_man = self.settings.notify.dead_man
        if dead_man is None:
            raise UsageError("notify.dead_man is not set up", where=str(self.path))
        return self._secret(dead_man.url_env, dead_man.url_file, "notify.dead_man", "a URL")

    @property
    def signs_marks(self) -> bool:
        """Whether marks at the provider are signed."""
        return bool(self.settings.marks.key_env or self.settings.marks.key_file)

    def marks_keys(self) -> tuple[Secret, ...]:
        """Return the keys for marks, of which the first one signs; () if this machine has none.

        Raises:
            AuthError: the value is not a key, or its file cannot be read.
        """
        marks = self.settings.marks
        found = self.variables.secret(marks.key_env) if marks.key_env else None
        if found is None and marks.key_file is not None:
            found = self.variables.secret_file(marks.key_file, "the key of the marks")
        if found is None:
            return ()
        return parse_keys(found, self.variables.on_secret, "marks")

    def values(self) -> Iterator[Setting]:
        """Yield every effective setting in the schema's order; of secrets only where they are kept."""
        from backout.config.toml_lines import find_lines

        lines = find_lines(self.text)
        for path, found in walk_leaves(self.settings, ()):
            if self.chosen and path[0] == "environments" and path[1] != self.chosen:
                continue
            in_file = f"{self.path.name}:{lines[path]}" if path in lines else "default"
            origin = self.set_by.get(path, in_file)
            value = found
            if found in (None, "") and path[-1] in _ELSEWHERE:
                value, origin = self._elsewhere(path)
            if value is not None:
                yield Setting(join_path(path), to_plain(value), origin, to_text(value))

    def _elsewhere(self, path: Where) -> tuple[object, str]:
        """Return the effective value of a key that is not set, and where it comes from."""
        if path[0] != "environments" or len(path) < _IN_ENVIRONMENT:
            return None, ""
        one = replace(self, chosen=str(path[1]))
        platform = one.environment.platform
        if path[2:] == ("platform", "account_id"):
            found = self.variables.get("CLOUDFLARE_ACCOUNT_ID")
            return found or "", "CLOUDFLARE_ACCOUNT_ID" if found else "CLOUDFLARE_ACCOUNT_ID, which is not set here"
        if path[2:] == ("platform", "token_env") and not platform.token_file:
            return TOKEN_ENV, "default"
        return (one.protected, "the environment's name") if path[2:] == ("protected",) else (None, "")

    def notify_secret(self, channel: str, variable: str | None, path: Path | None, what: str) -> Secret:
        """Return a secret of the channel `notify.CHANNEL`, kept in a variable or a file.

        Raises:
            AuthError: it is not set.
        """
        return self._find_secret(variable, path, f"notify.{channel}", what)

    def _secret(self, variable: str | None, path: Path | None, section: str, what: str) -> Secret:
        return self._find_secret(variable, path, f"environments.{self.name}.{section}", what)

    def _find_secret(self, variable: str | None, path: Path | None, where: str, what: str) -> Secret:
        return self.variables.require_secret(variable, path, what=what, where=where)
