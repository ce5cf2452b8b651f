"""Turns: which declared request both versions are sent next, and how soon after the last one.

Which of them is asked is known before it is answered, so each pair in which one version is worse is the toss of a coin
still, while both are alike: asking where it matters makes the evidence come sooner, and no less exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.analysis.shifts.pairs import Pairs
from backout.analysis.shifts.strata import get_stratum
from backout.model.guard.routes import make_template

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from backout.model.guard.policy import SyntheticCheck
    from backout.model.guard.probes import PairedAnswer

EVERY_S: Final = 0.5
QUICK: Final = 24
"""How many pairs follow each other at once while answers differ: 17 of 17 decide, and no site notices so few."""
_FIRST: Final = 2


class Turns:
    """The turns of one period of asking.

    A request that the new version answers worse is asked again until its pairs decide, or speak against that. Else
    every second turn is of what is suspected, as far as a declared request is about it.

    Args:
        checks: what may be asked, one at least.
        shuffle: puts a list into a random order.
    """

    def __init__(self, checks: Sequence[SyntheticCheck], shuffle: Callable[[list[SyntheticCheck]], None]) -> None:
        self._checks = tuple(checks)
        self._shuffle = shuffle
        self._rounds: dict[bool, list[SyntheticCheck]] = {True: [], False: []}
        self._pairs: dict[str, Pairs] = {}
        self._made = 0
        self.suspected: Collection[str] = ()
        """Names of what is answered otherwise: strata, or requests of guard's own."""

    def take(self) -> SyntheticCheck:
        """Return what both are asked next."""
        leading = self._leading()
        if leading is not None:
            return leading
        about = [check for check in self._checks if is_about(check, self.suspected)]
        is_about_it = bool(about) and self._made % 2 == 0
        left = [check for check in self._rounds[is_about_it] if not is_about_it or check in about]
        if not left:
            left = list(about if is_about_it else self._checks)
            self._shuffle(left)
        check, *self._rounds[is_about_it] = left
        return check

    def note(self, check: SyntheticCheck, pair: PairedAnswer | None) -> None:
        """Take note of what both answered, None where it is not known who did."""
        self._made += 1
        if pair is not None:
            self._pairs.setdefault(check.name, Pairs()).add((pair,))

    def _leading(self) -> SyntheticCheck | None:
        """Return the request that the new version answers worse, the plainest one; None for none."""
        worse = [check for check in self._checks if check.name in self._pairs and self._log_e(check) > 0]
        return max(worse, key=self._log_e, default=None)

    def _log_e(self, check: SyntheticCheck) -> float:
        return self._pairs[check.name].log_e()

    @property
    def pace_s(self) -> float:
        """Seconds from the end of a pair until the next one."""
        is_quick = self._made < QUICK and (self._made < _FIRST or self._leading() is not None)
        return 0.0 if is_quick else EVERY_S


def is_about(check: SyntheticCheck, suspected: Collection[str]) -> bool:
    """Whether a declared request is of what one of these names says, with the method or without.

    >>> from backout.model.guard.policy import SyntheticCheck
    >>> is_about(SyntheticCheck("/users/7?tab=a"), {"GET /users/{id}"}), is_about(SyntheticCheck("/"), {"/", "/app"})
    (True, True)
    """
    name = get_stratum(make_template(check.sent, check.path))
    return any(each in suspected for each in (name, name.partition(" ")[2], check.name, f"GET {check.name}"))
