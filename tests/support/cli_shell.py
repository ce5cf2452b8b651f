"""The command line in this process, with streams that a test owns; nothing of it is patched."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backout.cli.app import run
from backout.cli.support.output import Output
from backout.cli.support.shell import Shell
from backout.config import Environment
from backout.report.redact import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


class Stream(io.StringIO):
    """A text stream that may claim to be a terminal."""

    def __init__(self, text: str = "", *, terminal: bool = False, encoding: str = "utf-8") -> None:
        super().__init__(text)
        self._terminal = terminal
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self._terminal


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, object]:
        """Return the one line of JSON on stdout."""
        (line,) = self.out.splitlines()
        value = json.loads(line)
        assert isinstance(value, dict)
        return value


def make_shell(
    folder: Path, variables: Mapping[str, str] | None = None, *, typed: str = "", terminal: bool = False
) -> Shell:
    """Return a shell in `folder` where a person at a terminal (if any) types `typed`."""
    redactor = Redactor()
    return Shell(
        environment=Environment(variables or {}, redactor.register, *_mask_of(redactor)),
        output=Output(Stream(terminal=terminal), Stream(terminal=terminal), redactor),
        redactor=redactor,
        stdin=Stream(typed, terminal=terminal),
        folder=folder,
    )


def _mask_of(redactor: Redactor) -> tuple[Callable[[object], object], ...]:
    """Return the mask of values; an earlier source, against which a mend's test is run, has none."""
    return (redactor.values,) if hasattr(redactor, "values") else ()


def backout(
    folder: Path, *arguments: str, variables: Mapping[str, str] | None = None, typed: str = "", terminal: bool = False
) -> Answer:
    """Run one command line in `folder`."""
    shell = make_shell(folder, variables, typed=typed, terminal=terminal)
    code = run(arguments, shell)
    out, err = shell.output.stdout, shell.output.stderr
    assert isinstance(out, Stream)
    assert isinstance(err, Stream)
    return Answer(code, out.getvalue(), err.getvalue())
