"""What to type by hand when backout cannot act: `panic` and `card` always say it, as far as it is known."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backout.cli.support.in_need import find_out
from backout.cli.support.in_need import say as say_known
from backout.errors import BackoutError, ProviderUnavailable, Untrusted, UsageError

if TYPE_CHECKING:
    from backout.analysis.history.going_back import WayBack
    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.runbook.incident.in_need import InNeed
    from backout.runbook.toolbox import Toolbox

UNKNOWN = (
    "npx wrangler deployments list --name WORKER",
    "npx wrangler rollback VERSION --name WORKER --message 'by hand'",
)
"""When nothing is known, not even the Worker's name."""


@dataclass(slots=True)
class ByHand:
    """The lines of one command; it is given facts as soon as they are known, and none of its methods raise.

    Args:
        is_done: whether the command has acted already, so that nothing is left to be typed.
    """

    shell: Shell
    config: Config | None = None
    tools: Toolbox | None = None
    has_said: bool = False
    is_done: bool = False
    ways: tuple[WayBack, ...] | None = None
    """Where to go back to, if that was chosen with what the platform tells; None: from what is known without it."""
    _found: InNeed | None = None
    _doubted: set[str] = field(default_factory=set)

    def lines(self, *, without_api: bool = False) -> tuple[str, ...]:
        """Return what to type, from the best that is known here without the platform; `#` begins a comment.

        Args:
            without_api: the API does not answer, so the lines say what to do until it does.
        """
        with contextlib.suppress(Exception):
            from backout.runbook.rollback.panic import list_dashboard_lines, list_lines_in_need
            from backout.wiring.lines import make_equivalents

            found = self._look_once()
            if found is not None and self.config is not None:
                lines = make_equivalents(self.config)
                return (*list_lines_in_need(lines, found), *(list_dashboard_lines(lines, found) if without_api else ()))
        return UNKNOWN

    def _look_once(self) -> InNeed | None:
        """Return what can be found out without the platform. It is looked up once, so that lines and words agree."""
        if self._found is None and self.config is not None:
            with contextlib.suppress(Exception):
                self._found = find_out(self.config)
        if self._found is None or self.ways is None:
            return self._found
        return replace(self._found, ways=self.ways, no_way="")

    def card(self) -> Path | None:
        """Return the path of the card that was written when all was well, or None; why one is not used is said."""
        from backout.config.places import check_around, list_cards

        with contextlib.suppress(Exception):
            try:
                if self.config is not None:
                    path = self.config.places.card.absolute()
                    return path if path.is_file() else None
                folder, name = self.shell.folder, self.shell.flags.environment or "*"
                return next((check_around(folder, path, "the card") for path in list_cards(folder, name)), None)
            except Untrusted as doubt:
                self._say_doubt(doubt)
        return None

    def _say_doubt(self, doubt: Untrusted) -> None:
        if doubt.what not in self._doubted:
            self._doubted.add(doubt.what)
            why = "; ".join(doubt.mistakes)
            self.shell.output.warn(f"{doubt.what} ({why}); it is not used. Look at it: {doubt.hint}")

    def say(self, lines: tuple[str, ...]) -> None:
        """Say the lines, and what is known without asking the provider, once."""
        if self.has_said:
            return
        self.has_said, out, path = True, self.shell.output, self.card()
        if any(line.lstrip("# ").startswith("npx ") for line in lines):
            from backout.wiring.node import list_npx_lines

            lines = (*list_npx_lines(self.shell.environment.variables), *lines)
        if lines:
            shown = (f"  {line}" if line.startswith("#") else f"  $ {line}" for line in lines)
            out.complain("\n".join(["by hand:", *shown]))
        if path is not None:
            out.complain(f"the card, written when all was well: {path}")
        say_known(out, self.config, self._look_once())

    def add_to(self, error: Exception) -> None:
        """Say them with an error, and make the first one the error's next command.

        Not for a typing mistake when the file can be read: the same command, typed right, does it all.
        """
        if isinstance(error, UsageError) and self.config is None and Path(error.where or "").is_file():
            return
        lines = self.lines(without_api=isinstance(error, ProviderUnavailable))
        self.say(lines)
        if isinstance(error, BackoutError):
            found = self._look_once()
            nowhere = found is not None and (bool(found.no_way) or _is_there(found))
            waits = nowhere and isinstance(error, ProviderUnavailable)
            error.hint = (error.hint if waits else find_typed_line(lines)) or find_typed_line(lines)


def _is_there(found: InNeed) -> bool:
    """Whether the best way back leads to what is live already, as far as that is known."""
    return bool(found.ways) and found.live is not None and found.ways[0].version == found.live.version


def find_typed_line(lines: tuple[str, ...]) -> str:
    """Return the first line that is a command by itself, "" where there is none."""
    return next((line for line in lines if not line.startswith(("#", "export ", "npx()"))), "")
