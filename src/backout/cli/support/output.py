"""The one way out: data to stdout, talk to stderr, every string through the mask.

A reader that goes away (a closed pipe) never stops a command in the middle: later output is dropped.
"""

from __future__ import annotations

import contextlib
import io
import os
from typing import TYPE_CHECKING, TextIO

from backout.cli.support.style import Style, Tone
from backout.escaping import escape_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.report.redact import Redactor


class Output:
    """Where a command's words go.

    Args:
        stdout, stderr: the streams.
        redactor: the mask.
        json: machine or person.
        verbose: 0, 1, 2.
        style: what stdout can show.
        talk: what stderr can show.

    Attributes:
        quiet: no talk.
        answered: whether the one JSON answer was given.
        config, environment: the configuration file and the environment, as typed.
        told: the payload of the answer, once it was given.
    """

    def __init__(
        self,
        stdout: TextIO,
        stderr: TextIO,
        redactor: Redactor,
        *,
        json: bool = False,
        verbose: int = 0,
        style: Style | None = None,
        talk: Style | None = None,
    ) -> None:
        self.stdout = stdout
        self.stderr = stderr
        self.redactor = redactor
        self.json = json
        self.quiet = False
        self.verbose = verbose
        self.style = style or Style()
        self.talk = talk or Style()
        self.answered = False
        self.closed = False
        self.config: str | None = None
        self.environment: str | None = None
        self.told: Mapping[str, object] | None = None

    def result(self, name: str, payload: Mapping[str, object], human: str | None = None) -> None:
        """Give the command's answer, once: the envelope `backout.NAME/1` with `--json`, else the text (None: none).

        Raises:
            RuntimeError: with `--json`, it was given before.
        """
        if self.json:
            if self.answered:
                raise RuntimeError("a second JSON answer")
            self.line(name, payload)
        elif human:
            self._write(self.stdout, self.style.plain(human))
        self.answered = True
        self.told = payload

    def line(self, name: str, payload: Mapping[str, object]) -> None:
        """Write one line of a JSON stream, in both modes; commands call it only where a stream is wanted."""
        from backout.report import records

        record = self.redactor.record(records.make_envelope(name, payload))
        text = records.encode(record)
        self._write(self.stdout, escape_json(text) if self.stdout.isatty() else text)

    def text(self, text: str) -> None:
        """Write data for a person to stdout; nothing with `--json`."""
        if not self.json:
            self._write(self.stdout, self.style.plain(text))

    def raw(self, text: str) -> None:
        """Write data as it is to stdout, in both modes (a script, a file's content)."""
        self._write(self.stdout, text)

    def say(self, text: str = "") -> None:
        """Talk to the person on stderr; silent with `-q`."""
        if not self.quiet:
            self._write(self.stderr, self.talk.plain(text))

    def detail(self, text: str) -> None:
        """Talk that only `-v` wants."""
        if self.verbose:
            self.say(self.talk.dim(text))

    def warn(self, text: str) -> None:
        """Write a warning; `-q` does not silence it."""
        self._write(self.stderr, self.talk.plain(f"{self.talk.paint(Tone.WARN, 'warning')}: {text}"))

    def complain(self, text: str) -> None:
        """Write an error; `-q` does not silence it."""
        self._write(self.stderr, self.talk.plain(text))

    def next(self, *commands: str) -> None:
        """Say what to type next, undo included; `#` in a command starts its explanation."""
        for number, command in enumerate(commands):
            line, mark, why = self.complete_command(command).partition("#")
            explained = (
                f"{self.talk.strong(line.rstrip())}  {self.talk.dim(mark + why)}" if mark else self.talk.strong(line)
            )
            self.say(f"{'next: ' if number == 0 else '      '}{explained}")

    def complete_command(self, command: str) -> str:
        """Return what to type with the `-e` and `--config` that this command was given: it works where it is pasted."""
        from backout.cli.support.typed import add_given_options

        return add_given_options(command, config=self.config, environment=self.environment)

    def prompt(self, question: str) -> None:
        """Write a question to stderr and stay on its line."""
        self.stderr.write(self.redactor.redact(self.talk.plain(question)))
        self.stderr.flush()

    def table(
        self, headers: Sequence[str], rows: Sequence[Sequence[str]], *, flexible: int = -1, whole: bool = False
    ) -> str:
        """Return columns that fit stdout, see `Style.table`; texts are masked before they are cut to fit."""
        masked = [[self.redactor.redact(cell) for cell in row] for row in rows]
        return self.style.table(headers, masked, flexible=flexible, whole=whole)

    def _write(self, stream: TextIO, text: str) -> None:
        if self.closed and stream is self.stdout:
            return
        masked = self.redactor.redact(text)
        try:
            stream.write(masked + "\n")
            stream.flush()
        except BrokenPipeError:
            self._close(stream)
        except UnicodeEncodeError:
            stream.write(masked.encode("ascii", "backslashreplace").decode() + "\n")
            stream.flush()

    def _close(self, stream: TextIO) -> None:
        """Discard the rest, including the interpreter's own flush at its end."""
        self.closed = self.closed or stream is self.stdout
        with contextlib.suppress(OSError, io.UnsupportedOperation):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
