"""The one way out: data to stdout, talk to stderr, every string through the mask.

A reader that went away (a closed pipe) never stops a command in the middle: what is written after that is dropped.
"""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from backout.cli.style import Style, Tone

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.report.redact import Redactor


@dataclass(slots=True)
class Output:
    """Where a command's words go.

    Args:
        stdout, stderr: the streams. redactor: the mask. json: machine or person. quiet: no talk. verbose: 0, 1, 2.
        style: what stdout can show. talk: what stderr can show. answered: whether the one JSON answer was given.
        config, environment: the configuration file and the environment as they were typed. told: the payload of the
            answer, once it was given.
    """

    stdout: TextIO
    stderr: TextIO
    redactor: Redactor
    json: bool = False
    quiet: bool = False
    verbose: int = 0
    style: Style = field(default_factory=Style)
    talk: Style = field(default_factory=Style)
    answered: bool = False
    closed: bool = False
    config: str | None = None
    environment: str | None = None
    told: Mapping[str, object] | None = None

    def result(self, name: str, payload: Mapping[str, object], human: str | None = None) -> None:
        """Give the command's answer, once: the envelope `backout.NAME/1` with `--json`, else the text (None: none)."""
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
        from backout.report import records  # noqa: PLC0415 - msgspec only when JSON is written

        record = self.redactor.record(records.envelope(name, payload))
        self._write(self.stdout, records.encode(record))

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
        """Say what may go wrong; `-q` does not silence it."""
        self._write(self.stderr, self.talk.plain(f"{self.talk.paint(Tone.WARN, 'warning')}: {text}"))

    def complain(self, text: str) -> None:
        """Write an error; `-q` does not silence it."""
        self._write(self.stderr, self.talk.plain(text))

    def next(self, *commands: str) -> None:
        """Say what to type next, undo included; `#` in a command starts its explanation."""
        for number, command in enumerate(commands):
            line, mark, why = self.typed(command).partition("#")
            explained = (
                f"{self.talk.strong(line.rstrip())}  {self.talk.dim(mark + why)}" if mark else self.talk.strong(line)
            )
            self.say(f"{'next: ' if number == 0 else '      '}{explained}")

    def typed(self, command: str) -> str:
        """Return what to type with the `-e` and `--config` that this command was given: it works where it is pasted."""
        from backout.cli.typed import typed_here  # noqa: PLC0415 - only where something is said to type

        return typed_here(command, config=self.config, environment=self.environment)

    def prompt(self, question: str) -> None:
        """Write a question to stderr and stay on its line."""
        self.stderr.write(self.redactor.redact(self.talk.plain(question)))
        self.stderr.flush()

    def table(
        self, headers: Sequence[str], rows: Sequence[Sequence[str]], *, flexible: int = -1, whole: bool = False
    ) -> str:
        """Return columns that fit stdout, see `Style.table`; what is cut to fit is masked before."""
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
        """Send the rest to nowhere, the interpreter's own flush at its end included."""
        self.closed = self.closed or stream is self.stdout
        with contextlib.suppress(OSError, io.UnsupportedOperation):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
