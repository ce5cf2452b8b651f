"""The kill switch: until when automatic actions are forbidden, and why (safety rule 10)."""

from __future__ import annotations

import re

from msgspec.structs import replace

from backout.model.value import Value

LONGEST_S = 7 * 86_400.0
"""A hold ends after a week, whatever it says: a guard that was forgotten in a hold guards nothing."""
UNSIGNED_S, UNSIGNED_A_DAY = 2 * 3_600.0, 2
"""Where marks are signed: the longest unsigned hold, and how many of them count in a day."""


class Hold(Value, frozen=True):
    """A hold on every automatic action of an environment.

    Args:
        until: Unix seconds; 0.0 lifts an earlier hold.
        at: when it was set.
        by: user@host.
        where: "this host" or the deployment that carries it.
        incident: the run that began the incident in which it was set, "" for none; it does not end while that is open.
        unsigned: it lacks the signature that marks carry here.
    """

    until: float
    why: str
    by: str
    at: float
    where: str = ""
    incident: str = ""
    unsigned: bool = False

    def is_on(self, now: float) -> bool:
        """Whether it holds at that time."""
        return now < self.until

    def limit(self, longest_s: float = LONGEST_S) -> Hold:
        """Return the same hold, ending at the latest this many seconds after it was set.

        >>> Hold(until=9e9, why="", by="", at=1000.0).limit(60.0).until
        1060.0
        """
        return replace(self, until=min(self.until, self.at + longest_s))

    def as_told(self) -> Hold:
        """Return a hold of the provider's list with who set it: as its text names them, else by whose token it was.

        >>> told = Hold(until=9e9, why="by ann@desk: migrating", by="team@example.com", at=1000.0).as_told()
        >>> (told.by, told.why)
        ('ann@desk, with the token of team@example.com', 'migrating')
        """
        found = _BY.match(self.why)
        owner = f"the token of {self.by}" if self.by else ""
        if found is None:
            return replace(self, by=f"whoever has {owner}" if owner else "")
        return replace(self, by=f"{found['who']}, with {owner}" if owner else found["who"], why=self.why[found.end() :])


_BY = re.compile(r"by (?P<who>[^\s:@]{1,64}@[^\s:@]{1,64}): ")


def format_hold(hold: Hold) -> str:
    """Return the text of a hold at the provider, which knows the owner of the token and not who typed it.

    >>> format_hold(Hold(until=9e9, why="migrating", by="ann@desk", at=1000.0))
    'by ann@desk: migrating'
    """
    who = f"by {hold.by}: "
    return who + hold.why if _BY.match(who) else hold.why
