"""Whether the database is protected, as the receiver looks for itself: what is told, and how often."""

from __future__ import annotations

from backout.model.database.backups import Protection
from backout.providers.archive.claim import Claim, ClaimWatch
from backout.providers.archive.receiver_status import ReceiverStatus, carry_over_claim


class Asked:
    """What a watch asks, and what it tells."""

    def __init__(self, *answers: bool | None) -> None:
        self.answers = list(answers)
        self.heard: list[tuple[bool, float, int]] = []
        self.alarms: list[str] = []
        self.alarm = ""

    def judge(self) -> Protection:
        answer = self.answers.pop(0)
        if answer is None:
            raise ValueError("a mistake of ours")
        return Protection(answer, "because", reaches_lsn=77, alarm=self.alarm)

    def alarmed(self, alarm: str) -> None:
        self.alarms.append(alarm)

    def told(self, found: Protection, since: float, lsn: int) -> None:
        self.heard.append((found.protected, since, lsn))


class Ticking:
    """A clock that goes a second further with each look."""

    at = 0.0

    def now(self) -> float:
        self.at += 1
        return self.at

    def sleep(self, _seconds: float) -> None:
        """Nobody sleeps here."""


def test_the_end_of_the_protection_is_told_once_with_the_last_moment_of_it() -> None:
    """One look that finds nobody receiving is a restart; two are a loss, and its end is told, too."""
    asked = Asked(True, True, False, True, False, False, False, True)
    watch = ClaimWatch(Claim(), asked, Ticking())
    for _ in range(8):
        watch.look()
    assert asked.heard == [(False, 3.0, 77), (True, 6.0, 77)]


def test_an_overdue_proof_is_told_once_until_there_is_another_one() -> None:
    """Its words change each day; a receiver that is started again does not tell it anew."""
    asked = Asked(*[True] * 7)
    watch = ClaimWatch(Claim(), asked, Ticking())
    for alarm in ("", "9 days old", "10 days old"):
        asked.alarm = alarm
        watch.look()
    assert asked.alarms == ["9 days old"]
    said = ReceiverStatus(at=9.0, pid=1, started_at=1.0, system_identifier="7", alarm=watch.claim.alarm)
    watch = ClaimWatch(carry_over_claim(said, "7"), asked, Ticking())
    for alarm in ("11 days old", "", "the last one failed"):
        asked.alarm = alarm
        watch.look()
    assert asked.alarms == ["9 days old", "the last one failed"]


def test_a_watch_goes_on_after_a_look_that_failed_and_after_another_cluster_has_taken_its_place() -> None:
    """A look that ends with an error says nothing; and what protected one cluster is told as over by the next."""
    said = ReceiverStatus(at=9.0, pid=1, started_at=1.0, system_identifier="7", protected=True, protected_at=8.0,
                          protected_lsn=55)  # fmt: skip
    assert carry_over_claim(said, "7") == Claim(protected=True, at=8.0, lsn=55)
    assert carry_over_claim(None, "7") == Claim()
    asked = Asked(None, False, None, False)
    watch = ClaimWatch(carry_over_claim(said, "8"), asked, Ticking())
    for _ in range(4):
        watch.look()
    assert asked.heard == [(False, 8.0, 0)]
