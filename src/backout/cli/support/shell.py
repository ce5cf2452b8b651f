"""What every command is given: streams, global flags, the environment, and the configuration on request."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

from backout.cli.support.output import Output
from backout.cli.support.style import Style, wants_color
from backout.config import Environment
from backout.errors import Refused
from backout.report.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.config import Config
    from backout.errors import BackoutError, Untrusted
    from backout.model.incident.notice import Delivery
    from backout.ports import Notifier
    from backout.runbook.toolbox import Toolbox
    from backout.wiring.hooks import Hooks

_MIN_WIDTH, _MAX_WIDTH = 60, 120
DELIVER_WITHIN_S = 5.0
"""How long the end of a command waits for notices to arrive; the next command sends those that did not."""


class Flags(NamedTuple):
    """The global options, typed before or after the command."""

    environment: str | None = None
    config: str | None = None
    json: bool = False
    color: str = "auto"
    yes: bool = False
    no_input: bool = False
    no_commands: bool = False
    quiet: bool = False
    verbose: int = 0
    glass: str = ""
    """Why a plan is to go on without the approval that it needs."""


class Shell:
    """The context of one command.

    Args:
        environment: the process's variables.
        output: the only way to the streams.
        folder: the working directory.
    """

    def __init__(
        self, environment: Environment, output: Output, redactor: Redactor, stdin: TextIO, folder: Path
    ) -> None:
        self.environment = environment
        self.output = output
        self.redactor = redactor
        self.stdin = stdin
        self.folder = folder
        self.flags = Flags()
        self.notifier: Notifier | None = None
        """Delivers what is left when the command has answered."""
        self._complained: set[str] = set()
        self._learned: set[tuple[Path, str | None]] = set()
        """The files, each with the environment whose secrets were read."""
        self._is_warned = False
        self._file: tuple[str, str] | None = None
        """Name and text of the configuration file that was read."""

    @classmethod
    def of_process(cls) -> Shell:
        """Return the shell of this process."""
        redactor = Redactor()
        return cls(
            environment=Environment.read(redactor.register, redactor.values),
            output=Output(sys.stdout, sys.stderr, redactor),
            redactor=redactor,
            stdin=sys.stdin,
            folder=Path.cwd(),
        )

    def begin(self, arguments: Sequence[str]) -> None:
        """Read what must apply even when the rest of the line cannot be parsed: how the error is shown."""
        options = arguments[: arguments.index("--")] if "--" in arguments else arguments
        self.take(json="--json" in options, verbose=sum(option == "-v" for option in options))

    def take(self, **flags: object) -> None:
        """Take over flags as they are read."""
        self.flags = self.flags._replace(**flags)  # type: ignore[arg-type]
        out = self.output
        out.json, out.quiet, out.verbose = self.flags.json, self.flags.quiet, self.flags.verbose
        out.config, out.environment = self.flags.config, self.flags.environment
        out.style, out.talk = self._style(out.stdout), self._style(out.stderr)

    @property
    def interactive(self) -> bool:
        """Whether there is a person at the terminal to ask."""
        return not self.flags.no_input and self.stdin.isatty() and self.output.stderr.isatty()

    def config(
        self,
        flags: Mapping[str, str | None] | None = None,
        *,
        in_need: bool = False,
        environment: str | None = None,
    ) -> Config:
        """Read the configuration; `flags` are {"guard.mode": "act"}, None for what was not typed.

        Args:
            environment: in place of the one that was typed.
            in_need: continue with files that others could have written, and say so: for commands that must always
                answer.

        Raises:
            ConfigError, UsageError: see `backout.config.loading`.
        """
        from backout import config
        from backout.config.trust import refuse

        found = config.load(
            self.environment,
            start=self.folder,
            path=Path(self.flags.config) if self.flags.config else None,
            environment=environment or self.flags.environment,
            flags={key: value for key, value in (flags or {}).items() if value is not None},
            on_doubt=self._doubt if in_need else refuse,
            no_commands=self.flags.no_commands,
        )
        self._learn(found)
        self._warn_of_file(found)
        self._file = (found.path.name, found.text)
        return found

    def _warn_of_file(self, found: Config) -> None:
        """Say once that a variable names a file in place of the journal that the team shares."""
        from backout.config.overlay import JOURNAL_URL

        if JOURNAL_URL in found.set_by and not self._is_warned:
            self._is_warned = True
            variable = found.set_by[JOURNAL_URL]
            said = (
                f"{variable} is set: this command uses the file {found.places.journal}, not the journal on the server"
            )
            self.output.warn(f"{said} that journal.url_env names, and nobody else sees what it records")

    def choose(self, config: Config, environment: str) -> Config:
        """Return the configuration of another environment of a file that was read.

        It is read anew only where variables or flags set something: whose they are depends on the environment.

        Raises:
            ConfigError, UsageError: as `config`.
        """
        if config.set_by:
            return self.config(environment=environment)
        found = dataclasses.replace(config, chosen=environment, kept={})
        self._learn(found)
        return found

    def _learn(self, found: Config) -> None:
        """Mask all secrets of this environment before anything of it is printed, stored or sent."""
        if (found.path, found.chosen) not in self._learned:
            from backout.config.known import SAFE_SOURCES, list_open_words, read_all

            self.redactor.say_openly(*list_open_words(found))
            read_all(found)
            source = found.environment.secrets.source if found.chosen is not None else None
            if source is not None and source.kind in SAFE_SOURCES:
                from backout.wiring.secrets import learn_source

                learn_source(found)
            self._learned.add((found.path, found.chosen))

    def _doubt(self, doubt: Untrusted) -> None:
        why = "; ".join(doubt.mistakes)
        self.output.warn(f"{doubt.what} ({why}); going on without {doubt.without}. Look at it: {doubt.hint}")

    def in_own_file(self, error: BackoutError) -> BackoutError:
        """Return the error with each setting that it names in the words of the file that was read, see `additions`."""
        if self._file is not None and "in backout.toml, [" in f"{error.hint}{getattr(error, 'options', '')}":
            from backout.config.init.additions import rewrite_for_file

            name, text = self._file
            error.hint = rewrite_for_file(error.hint, text, name) if error.hint else error.hint
            if isinstance(error, Refused):
                error.options = tuple(rewrite_for_file(option, text, name) for option in error.options)
        return error

    def mask_reason(self, reason: str) -> str:
        """Return the reason that a person typed, without the environment's secrets: it is stored, and many read it.

        Bytes that are no UTF-8 (another terminal's umlauts) become `?`: they stop no command.
        """
        return self.redactor.redact(reason.encode("utf-8", "replace").decode())

    def toolbox(self, config: Config, hooks: Hooks | None = None) -> Toolbox:
        """Return the ports of the chosen environment; notices sent through them are delivered in `end`.

        Raises:
            AuthError, ConfigError, UsageError: see `wiring.toolbox.make_toolbox`.
        """
        from backout.wiring.toolbox import make_toolbox

        tools = make_toolbox(config, hooks)
        self.notifier = tools.notifier
        return tools

    def end(self) -> None:
        """Give notices a few seconds to arrive, and say once which did not."""
        if self.notifier is None:
            return
        with contextlib.suppress(KeyboardInterrupt):  # it is stored, and the next command sends it
            delivery = self.notifier.flush(DELIVER_WITHIN_S)
            self.complain_of(delivery)
            if delivery.waiting and not self._complained:
                self.output.warn(f"not sent yet: {delivery.waiting} wait, and are sent later: backout notify list")

    def complain_of(self, delivery: Delivery) -> None:
        """Say what keeps notices from arriving, each thing once."""
        new = [problem for problem in delivery.problems if problem not in self._complained]
        self._complained.update(new)
        for problem in new:
            self.output.warn(f"not sent: {problem}")

    def _style(self, stream: TextIO) -> Style:
        get = self.environment.get
        color = wants_color(
            self.flags.color,
            is_terminal=stream.isatty(),
            no_color=get("NO_COLOR") is not None,
            force_color=get("FORCE_COLOR") not in {None, "0"},
            term=get("TERM"),
        )
        encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "")
        lines = not stream.isatty() and not get("COLUMNS")
        return Style(color=color, unicode=encoding.startswith("utf"), width=self._width(stream), lines=lines)

    def _width(self, stream: TextIO) -> int:
        given = self.environment.get("COLUMNS") or ""
        if given.isdecimal():
            width = int(given)
        else:
            width = 80
            with contextlib.suppress(OSError):  # no terminal, or none that knows its size
                width = os.get_terminal_size(stream.fileno()).columns
        return min(max(width, _MIN_WIDTH), _MAX_WIDTH)
