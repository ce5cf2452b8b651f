"""The ports of an environment whose platform is spoken for by the team's own commands."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from backout.errors import BackoutError, ConfigError, ProviderRejected, Refused, Unmeasured
from backout.providers.child_environment import make_bare_environment
from backout.providers.command.calls import PlatformCommands
from backout.providers.command.fingerprint import make_fingerprint
from backout.providers.command.lines import Lines
from backout.providers.command.platform import CommandDeployments, CommandVersions
from backout.providers.command.protocol import PROTOCOL, Current, Reached, Request
from backout.wiring.health_line import make_health_question

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.config import Config
    from backout.config.schema.environment import PlatformCommands as Settings
    from backout.model.incident.card import CardLines
    from backout.model.plan import Equivalents
    from backout.ports import HealthCheck
    from backout.providers.command.protocol import Name

_KEPT_S: Final = 10.0
"""How long what `probe` answered of a version is taken for true."""


class CommandPlatform:
    """An `OtherPlatform`."""

    def __init__(self, config: Config, settings: Settings, commands: PlatformCommands, lines: Lines) -> None:
        self._config = config
        self._settings = settings
        self._commands = commands
        self._lines = lines
        self._reached: dict[str, tuple[float, Reached]] = {}

    @property
    def place(self) -> str:
        """What marks are signed for."""
        return f"command/{self._config.settings.app.name}/{self._config.name}"

    @property
    def doubt(self) -> str:
        """Why nothing may be done automatically: the commands, as they are now, have not passed."""
        passed = self._config.environment.pin.conformance or ""
        at, _, fingerprint = passed.partition("/")
        if fingerprint == self.fingerprint():
            return ""
        when = f"changed since they passed `backout conformance` on {at}" if passed else "never passed it"
        return f"the platform's commands are advice only until they pass `backout conformance`: they {when}"

    @property
    def places_targets(self) -> bool:
        """Whether a version gets a place at 0 %: where there is a command that shares the traffic."""
        return self._commands.has("shares")

    def fingerprint(self) -> str:
        """Return which commands these are."""
        variables = {**self._settings.environment, **dict.fromkeys(self._settings.pass_environment, "")}
        return make_fingerprint(_list_argv(self._settings), variables, self._config.path.parent)

    def make_deployments(self) -> CommandDeployments:
        """Return the port Deployments."""
        return CommandDeployments(self._commands)

    def make_versions(self) -> CommandVersions:
        """Return the port Versions."""
        return CommandVersions(self._commands)

    def make_secrets(self) -> None:
        """Return None: the protocol has no secrets."""

    def make_bundles(self) -> None:
        """Return None: the protocol uploads nothing."""

    def make_release_check(self) -> None:
        """Return None: the commands know it."""

    def find_maintenance(self) -> None:
        """Return None: the protocol has no maintenance page."""

    def find_secret_writer(self) -> None:
        """Return None: the protocol has no secrets."""

    def make_jobs(self) -> None:
        """Return None: the protocol has no job workers."""

    def make_standby(self) -> None:
        """Return None: the protocol has no processes."""

    def find_tag(self) -> str | None:
        """Return what `current` calls the application, None where there is none."""
        try:
            return self._commands.ask("current", Current).application
        except ProviderRejected:
            return None

    def explain_no_tag(self) -> Unmeasured:
        """Return the error that there is no such application."""
        what = "the platform has no such application yet, so there is nothing to pin"
        return Unmeasured(what, where="platform.command.current", hint="deploy once, then the same command again")

    def find_headers(self, version: str) -> Mapping[str, str] | None:
        """Return the headers that lead to one version, as `probe` says; None where it says none."""
        try:
            return self._reach(version).headers or None
        except BackoutError:
            return None

    def find_opener(self) -> Callable[[str], HealthCheck] | None:
        """Return what opens the health endpoint at the address that `probe` says, None where it cannot be asked."""
        health = self._config.environment.health
        if health is None or not self._commands.has("probe"):
            return None
        parts = urlsplit(str(health.url))

        def open_version(version: str) -> HealthCheck:
            from backout.wiring.health_elsewhere import open_health_at

            reached = self._reach(version)
            if not reached.url:
                raise Unmeasured("it has no address of its own", where="platform.command.probe")
            own = urlsplit(reached.url)._replace(path=parts.path, query=parts.query).geturl()
            return open_health_at(self._config, health, own)

        return open_version

    def list_equivalents(self) -> Equivalents:
        """Return what a person would type instead of a plan's steps."""
        return self._lines.list_equivalents()

    def list_card_lines(self) -> CardLines:
        """Return the platform's lines of the card."""
        return self._lines.list_card_lines()

    def _reach(self, version: str) -> Reached:
        if not self._commands.has("probe"):
            raise Unmeasured("there is no command that says how one version is reached", where="platform.command.probe")
        now = time.monotonic()
        at, found = self._reached.get(version, (0.0, None))
        if found is None or now - at > _KEPT_S:
            request = Request(protocol=PROTOCOL, command="probe", version=version)
            found = self._commands.ask("probe", Reached, request)
            self._reached[version] = (now, found)
        return found


def open_commands(config: Config) -> CommandPlatform:
    """Return the platform; nothing is run yet.

    Raises:
        Refused: no command is to be run.
        ConfigError: the environment has no commands.
    """
    settings = config.environment.platform.command
    if config.no_commands:
        what = "the platform is spoken for by commands, and with --no-commands none is run"
        raise Refused(what, where=config.name, hint="leave out --no-commands, on code that you trust")
    if config.environment.platform.provider != "command" or settings is None:
        where = f"{config.path.name}: environments.{config.name}.platform"
        raise ConfigError((f'{where}: commands need provider = "command"',))
    argv = _list_argv(settings)
    lines = Lines(
        argv,
        settings.environment,
        make_health_question(config),
        folder=str(config.path.parent.absolute()),
        wanted=(*(f'"secrets": {{"{key}": …}}' for key in settings.secrets_env), *settings.pass_environment),
    )
    given, passed, variables = settings.environment, settings.pass_environment, config.variables.variables
    commands = PlatformCommands(
        argv,
        config.path.parent,
        timeout_s=float(settings.timeout),
        make_environment=lambda: make_bare_environment(given, passed=passed, variables=variables),
        read_secrets=config.platform_secrets,
        write_line=lines.write,
        mask=config.variables.mask_text,
    )
    return CommandPlatform(config, settings, commands, lines)


def _list_argv(settings: Settings) -> Mapping[Name, tuple[str, ...]]:
    return {
        "history": settings.history,
        "current": settings.current,
        "activate": settings.activate,
        "shares": settings.shares,
        "probe": settings.probe,
    }
