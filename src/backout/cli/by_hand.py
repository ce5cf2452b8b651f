"""What to type by hand when backout cannot do it: `panic` and `card` say it whatever happens, as far as it is known."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backout.cli.in_need import say as say_known
from backout.errors import BackoutError

if TYPE_CHECKING:
    from pathlib import Path

    from backout.cli.shell import Shell
    from backout.config import Config
    from backout.runbook.toolbox import Toolbox

UNKNOWN = (
    "npx wrangler deployments list --name WORKER",
    "npx wrangler rollback VERSION --name WORKER --message 'by hand'",
)
"""When nothing is known, not even the Worker's name."""


@dataclass(slots=True)
class ByHand:
    """The lines of one command; it is told what is known as soon as it is, and nothing of it raises.

    Args:
        is_done: whether the command has acted already, so that nothing is left to be typed.
    """

    shell: Shell
    config: Config | None = None
    tools: Toolbox | None = None
    has_said: bool = False
    is_done: bool = False

    def lines(self) -> tuple[str, ...]:
        """Return what to type, by the best that is known here without asking anybody."""
        from backout.runbook.panic import lines_of, lines_without_provider  # noqa: PLC0415 - only then

        with contextlib.suppress(Exception):
            if self.tools is not None:
                return lines_without_provider(self.tools)
        with contextlib.suppress(Exception):
            if self.config is not None:
                from backout import wiring  # noqa: PLC0415 - same

                marks = wiring.journal(self.config, hurried=True)
                return lines_of(wiring.equivalents(self.config), lambda: marks.marks(self.config.name))  # type: ignore[union-attr]
        return UNKNOWN

    def card(self) -> Path | None:
        """Return where the card is that was written when all was well, or None."""
        with contextlib.suppress(Exception):
            if self.config is not None:
                return self.config.card_path.absolute() if self.config.card_path.is_file() else None
        with contextlib.suppress(Exception):
            name = self.shell.flags.environment or "*"
            return next(iter(sorted((self.shell.folder / ".backout").glob(f"card-{name}.md"))), None)
        return None

    def say(self, lines: tuple[str, ...]) -> None:
        """Say the lines, and what is known without asking the provider, once."""
        if self.has_said:
            return
        self.has_said, out, path = True, self.shell.output, self.card()
        if lines:
            shown = (f"  {line}" if line.startswith("#") else f"  $ {line}" for line in lines)
            out.complain("\n".join(["by hand:", *shown]))
        if path is not None:
            out.complain(f"the card, written when all was well: {path}")
        say_known(out, self.config)

    def add_to(self, error: Exception) -> None:
        """Say them beside an error, and make the first one what the error says to type next."""
        lines = self.lines()
        self.say(lines)
        if isinstance(error, BackoutError) and lines:
            error.hint = lines[0]
