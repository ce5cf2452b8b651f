"""The safety rules of docs/safety.md, by the names that refusals and `--json` use."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class SafetyRule(StrEnum):
    """A rule that a refusal names: its number if it has one, its name, and what it requires.

    >>> SafetyRule.QUARANTINED, SafetyRule.QUARANTINED.number, SafetyRule.QUARANTINED.title
    (<SafetyRule.QUARANTINED: '5 quarantined'>, 5, 'quarantined')
    """

    sentence: str

    def __new__(cls, value: str, sentence: str) -> Self:
        """Return the member of a value."""
        rule = str.__new__(cls, value)
        rule._value_ = value
        rule.sentence = sentence
        return rule

    IDENTITY = "1 identity", "what is changed is the environment that was pinned"
    TOKEN = "2 token", "the token is valid for the watch and a day more"
    CLOCK = "3 clock", "times are the provider's"
    SCHEMA = "4 schema", "old code goes back only onto a schema that it fits"
    TARGET = "5 target", "a target can still be deployed"
    UNPROVEN = "5 unproven", "a watch of the target ended healthy"
    QUESTIONED = "5 questioned", "nothing has spoken against the target since"
    QUARANTINED = "5 quarantined", "the target, or its code, was not found bad"
    MINIMUM = "5 minimum", "the target is not older than guard.minimum_version"
    SAME_CODE = "5 same code", "the target is other code than what is left"
    PROOF = "6 proof", "the target answers well before it gets traffic"
    SECRETS = "7 secrets", "which values of secrets are live is decided by a person"
    ONCE = "9 once", "at most one automatic action per `guard.at_most`"
    HOLD = "10 hold", "nothing is done automatically while a hold is on"
    DATA = "11 data", "a robot moves code and secrets, never data"
    SAME_CAUSE = "12 same cause", "an outage elsewhere is not a reason to roll back"
    SOURCES = "13 sources", "an action rests on counts that are fresh and exact"
    AFTER_ROLLBACK = "17 hold after rollback", "what was quarantined is not called stable before it is released"
    CONFORMANCE = "conformance", "the platform's commands passed `backout conformance`"
    OBSERVE = "observe", "guard only observes"
    SHIFT = "shift in answers", "a person says whether other answers are intended"
    PANIC_ONCE = "panic once", "panic does not roll back twice in a row"
    SIGNED_BACKUPS = "signed backups", "what is restored was signed by this repository's key"
    PREFLIGHT = "preflight", "what a restore needs is there before anything is touched"

    @property
    def number(self) -> int | None:
        """Its number in docs/safety.md, None if it has none."""
        first, _, rest = self.value.partition(" ")
        return int(first) if rest and first.isdecimal() else None

    @property
    def title(self) -> str:  # type: ignore[override]
        """Its name without the number."""
        return self.value if self.number is None else self.value.partition(" ")[2]
