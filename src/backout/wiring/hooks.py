"""The callbacks and questions of a command while its tools work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.journal.stop import StopRequest
    from backout.journal.stored import StoredJournal
    from backout.model.plan import Plan

HURRIED_S: Final = 2.0
"""How long a command in a hurry waits for the journal, and for the database."""


class Hooks(Value, frozen=True):
    """The callbacks of a command, see `Toolbox`.

    Args:
        within_s: no wait is longer than this from now on; None: as patient as the configuration says.
        spools: a person acts, in need: while the journal's server is away it is recorded in a file, and merged later.
        hurried: wait only briefly for a journal locked by another process, as with `within_s`.
        hear: receives the output of the team's own command.
        journal: in place of the one that the configuration names: a worker's.
    """

    stop: StopRequest | None = None
    watching: Callable[[object], None] | None = None
    confirm: Callable[[Plan], bool] | None = None
    say: Callable[[str], None] = lambda _text: None
    within_s: float | None = None
    hear: Callable[[str], None] = lambda _line: None
    hurried: bool = False
    spools: bool = False
    consent: Callable[[str, str], bool | None] | None = None
    journal: StoredJournal | None = None
