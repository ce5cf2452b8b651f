"""Lines to type instead of backout: the team's own commands, with what they read on their standard input."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from backout.model.incident.card import CardLines
from backout.model.plan import Equivalents
from backout.providers.command.protocol import PROTOCOL
from backout.providers.line_templates import VERSION, make_template

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.providers.command.protocol import Name
    from backout.providers.line_templates import HealthQuestion


class Lines:
    """The lines of one environment; a request without `if_current` is carried out whatever is live.

    Args:
        argv: each command with its arguments, by its name.
        variables: set for them.
        folder: where they run.
        wanted: the names of what else they read, secrets and variables that are passed on: to be filled in by whoever
            types the line.
    """

    def __init__(
        self,
        argv: Mapping[Name, Sequence[str]],
        variables: Mapping[str, str],
        health: HealthQuestion,
        *,
        folder: str = "",
        wanted: Sequence[str] = (),
    ) -> None:
        self._argv = argv
        self._variables = variables
        self._folder = folder
        self._wanted = tuple(wanted)
        self._health = health.write()

    def list_equivalents(self) -> Equivalents:
        """Return the lines of a plan's steps, as templates."""
        return Equivalents(
            activate=self._fill("activate", message="by hand"),
            live=self.write("current"),
            health=self._health,
            prove=f"{self._fill('probe')}\n# ask the health check at its url, or with its headers"
            if self._argv.get("probe")
            else "",
        )

    def list_card_lines(self) -> CardLines:
        """Return the platform's and the health check's lines of a card."""
        return CardLines(
            deploy=(self._fill("activate", message="by hand"),),
            live=(self.write("current"), self.write("history")),
            health=(self._health,) if self._health else (),
        )

    def write(self, name: Name, **said: str) -> str:
        """Return the line that runs a command with a request."""
        request = json.dumps({"protocol": PROTOCOL, "command": name, **said}, separators=(",", ":"))
        before = [f"{key}={value}" for key, value in self._variables.items()]
        words = [*(("env", *before) if before else ()), *self._argv.get(name, ())]
        there = f"cd {shlex.quote(self._folder)} && " if self._folder else ""
        missing = f"  # as backout gives it: {', '.join(self._wanted)}" if self._wanted else ""
        return f"{there}echo {shlex.quote(request)} | {shlex.join(words)}{missing}"

    def _fill(self, name: Name, **said: str) -> str:
        """Return the line as a template with `{version}`."""
        return make_template(self.write(name, version=VERSION, **said))
