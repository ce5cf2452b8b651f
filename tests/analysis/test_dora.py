"""The arithmetic of the DORA metrics: what is counted, what is not, and that the order of reading changes nothing."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from statistics import median

import pytest
from values import replace

from backout.analysis.history.dora import ENOUGH, History, Reached, Trouble, compute_dora
from backout.report.incident.dora import format_text, format_value, make_record

DAY = 86_400.0
SINCE, UNTIL = 100 * DAY, 130 * DAY


@dataclass
class Truth:
    """A story told event by event, with what the metrics have to say of it."""

    dice: random.Random
    at: float = SINCE
    reached: list[Reached] = field(default_factory=lambda: [Reached(90 * DAY, "v0", "c0", is_final=True)])
    troubles: list[Trouble] = field(default_factory=list)
    committed: dict[str, float] = field(default_factory=dict)
    forward: set[str] = field(default_factory=set)
    deployed: list[str] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    leads: list[float] = field(default_factory=list)
    rework: int = 0
    live: tuple[str, str] = ("v0", "c0")
    good: tuple[str, str] = ("v0", "c0")
    number: int = 0
    drills: int = 0

    def pass_time(self) -> float:
        self.at += self.dice.randrange(60, 20_000)
        return self.at

    def get(self, version: str, code: str, *, is_final: bool = True, is_return: bool = False) -> None:
        self.reached.append(Reached(self.at, version, code, is_final, is_return))

    def deploy(self, *, ramp: bool = False) -> None:
        """New code, at once or by a ramp; half of the commits are known."""
        self.number += 1
        version, code = f"v{self.number}", f"c{self.number}"
        lead = self.dice.randrange(60, 90_000)
        for _ in range(3 if ramp else 0):
            self.pass_time()
            self.get(version, code, is_final=False)
        self.pass_time()
        self.get(version, code)
        if self.dice.random() < 0.5:
            self.committed[version] = self.at - lead
            self.leads.append(lead)
        self.deployed.append(version)
        self.live = (version, code)

    def break_and_roll_back(self, *, by_guard: bool, is_false: bool = False) -> None:
        """The live version fails, and is rolled back; with a false verdict it is guard's failure, not the team's."""
        self.deploy()
        version, _ = self.live
        began = self.pass_time()
        self.get(*self.good, is_return=True)
        self.live = self.good
        ended = self.pass_time()
        trouble = Trouble(began, ended, frozenset({version}), by_guard, not by_guard, is_false, failed=7)
        self.troubles.append(trouble)
        if not is_false:
            self.failed.add(version)

    def fix_forward(self) -> None:
        """A bad version is replaced by a hotfix while its incident is open."""
        self.deploy()
        version, _ = self.live
        began = self.pass_time()
        self.deploy()
        self.forward.add(self.live[0])
        self.rework += 1
        self.failed.add(version)
        self.troubles.append(Trouble(began, self.pass_time(), frozenset({version}), by_hand=True))

    def do_nothing_that_counts(self) -> None:
        """Uploads of the same code, secrets, a ramp that was given up, old code deployed again by hand, drills."""
        self.number += 1
        self.pass_time()
        way = self.dice.randrange(5)
        if way == 0:
            self.get(f"v{self.number}", self.live[1])
        elif way == 1:
            self.get(f"v{self.number}", self.live[1], is_return=True)
        elif way == 2:
            self.get(f"v{self.number}", f"c{self.number}", is_final=False)
            self.get(*self.live, is_return=True)
        elif way == 3:
            self.get("v0", "c0")
            self.live = ("v0", "c0")
        else:
            self.drills += 1

    def history(self) -> History:
        return History(
            "production", SINCE, max(UNTIL, self.at + 1), tuple(self.reached), tuple(self.troubles), self.committed,
            frozenset(self.forward), drills=self.drills,
        )  # fmt: skip


def tell(seed: int) -> Truth:
    dice = random.Random(seed)  # noqa: S311 a seed
    truth = Truth(dice)
    for _ in range(dice.randrange(1, 30)):
        way = dice.randrange(6)
        if way < 2:
            truth.deploy(ramp=way == 1)
        elif way == 2:
            truth.break_and_roll_back(by_guard=dice.random() < 0.5)
        elif way == 3:
            truth.break_and_roll_back(by_guard=True, is_false=True)
        elif way == 4:
            truth.fix_forward()
        else:
            truth.do_nothing_that_counts()
    return truth


@pytest.mark.parametrize("seeds", [range(200), pytest.param(range(200, 2_000), marks=pytest.mark.long)])
def test_each_metric_is_what_the_story_says(seeds: range) -> None:
    """Ramps, rollbacks, hotfixes, drills, false alarms in any order: exact counts, medians, whatever is read first."""
    for seed in seeds:
        truth = tell(seed)
        history = truth.history()
        found = compute_dora(history).metrics
        n = len(truth.deployed)
        assert found["deployment_frequency"].n == n, seed
        assert found["deployment_frequency"].value == pytest.approx(n * DAY / (history.until - history.since))
        assert (found["change_failure_rate"].count, found["change_failure_rate"].n) == (len(truth.failed), n), seed
        assert (found["rework_rate"].count, found["rework_rate"].n) == (truth.rework, n), seed
        assert found["lead_time"].value == (pytest.approx(median(truth.leads)) if truth.leads else None)
        real = [t.ended_at - t.began_at for t in truth.troubles if not t.is_false and t.ended_at is not None]
        assert found["recovery_time"].value == (pytest.approx(median(real)) if real else None)
        acted = [t for t in truth.troubles if t.by_guard]
        right = sum(not t.is_false for t in acted)
        assert (found["guard_precision"].count, found["guard_precision"].n) == (right, len(acted))
        truth.dice.shuffle(truth.reached)
        truth.dice.shuffle(truth.troubles)
        assert compute_dora(truth.history()) == compute_dora(history), seed


def reach(number: int, at: float) -> Reached:
    return Reached(at, f"v{number}", f"c{number}", is_final=True)


def few(n: int, failed: int) -> History:
    """Return n deployments of which so many were rolled back, and one from before that is the oldest known."""
    reached = [reach(0, 90 * DAY), *(reach(number, SINCE + number * 3_600) for number in range(1, n + 1))]
    troubles = [
        Trouble(SINCE + number * 3_600 + 5, SINCE + number * 3_600 + 25, frozenset({f"v{number}"}), by_guard=True)
        for number in range(1, failed + 1)
    ]
    return History("production", SINCE, UNTIL, reached, troubles)


def test_fewer_than_ten_are_no_percentage() -> None:
    """They are "3 of 8"; with ten both are said. Under each figure stand its formula, n and what was left out."""
    rate = compute_dora(few(8, 3)).metrics["change_failure_rate"]
    assert (rate.value, format_value(rate)) == (None, "3 of 8")
    rate = compute_dora(few(ENOUGH, 3)).metrics["change_failure_rate"]
    assert (rate.value, format_value(rate)) == (0.3, "30 % (3 of 10)")
    text = format_text(compute_dora(replace(few(8, 3), drills=2)), width=90)
    assert "Change fail rate: 3 of 8" in text
    assert "n = 3; left out: 2 drills" in " ".join(text.split())
    assert "%" not in text
    assert max(map(len, text.splitlines())) <= 90


def test_open_incidents_are_shown_and_count_in_no_median() -> None:
    """Nobody knows yet how long they take."""
    history = few(3, 2)
    still = Trouble(UNTIL - 60, None, frozenset())
    metric = compute_dora(replace(history, troubles=[*history.troubles, still])).metrics["recovery_time"]
    assert (metric.value, metric.n, metric.excluded) == (20.0, 2, {"open": 1})


def test_guard_saves_against_earlier_rollbacks_by_hand_alone() -> None:
    """A later one says nothing of what was usual; without any there is no figure."""
    by_guard = Trouble(SINCE + 1_000, SINCE + 1_010, frozenset({"v1"}), by_guard=True)
    earlier = [Trouble(SINCE + at, SINCE + at + took, frozenset(), by_hand=True) for at, took in ((1, 100), (200, 300))]
    later = Trouble(SINCE + 5_000, SINCE + 9_000, frozenset(), by_hand=True)
    history = History("production", SINCE, UNTIL, [], [by_guard, *earlier, later])
    assert compute_dora(history).metrics["guard_saved"].value == 190.0
    alone = compute_dora(replace(history, troubles=[by_guard, later])).metrics["guard_saved"]
    assert (alone.value, format_value(alone)) == (None, "not known")


def test_the_json_has_the_contracts_keys() -> None:
    """Each metric has value, n, formula and excluded."""
    record = make_record(compute_dora(few(8, 3)))
    assert record["window"] == {"since": "1970-04-11T00:00:00.000Z", "until": "1970-05-11T00:00:00.000Z"}
    metrics = record["metrics"]
    assert isinstance(metrics, dict)
    assert all({"value", "n", "formula", "excluded"} <= set(each) for each in metrics.values())
