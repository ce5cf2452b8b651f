"""Ask a target at 0 % of the traffic, and detect a total outage of what has the traffic (safety rule 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.analysis.coverage import has_objects
from backout.analysis.history.proof import Look, Said, explain_wrong_answer, is_clear, is_total_outage, judge
from backout.errors import BackoutError
from backout.model.guard.answers import AnswerClass
from backout.model.guard.policy import SyntheticCheck
from backout.model.value import Value
from backout.runbook.probing.looks import find_usual

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from backout.model.guard.fetched import Fetched
    from backout.model.guard.signals import Counts, HealthReport
    from backout.ports import HealthCheck
    from backout.runbook.toolbox import Toolbox

BUDGET_S, RETRY_S = 5.0, 0.2
"""How long one target is asked at most, and the wait before it is asked again after a bad answer."""
PROPAGATION_S, PAUSE_S = 30.0, 1.0
"""How long another version may answer in the target's place before it counts as not reached, and the wait between."""
GOOD_LOOKS, BAD_LOOKS = 2, 3
"""How many answers in a row decide."""
OUTAGE_S, STALE_S = 15, 30.0
"""Counts of this many seconds show a total outage, from a source that lags less than this."""
OUTAGE_LOOKS = 2
_AT_ITS_OWN: Final = (
    "at its own URL (which proves its code and bindings, not the route and the settings of your domain)"
)


def describe_total_outage(tools: Toolbox, serving: Collection[str], since: float) -> str:
    """Return the evidence that everything which has traffic since then is down now, or ""."""
    rows = _read_recent_counts(tools, serving, since)
    told = None if rows is None else is_total_outage(rows)
    if told is not None:
        return "nearly every answer of the last seconds was an error" if told else ""
    if tools.health is None or not all(tools.health.look().is_down for _ in range(OUTAGE_LOOKS)):
        return ""
    return f"the health endpoint is down in {OUTAGE_LOOKS} looks, and there are no counts"


def _read_recent_counts(tools: Toolbox, serving: Collection[str], since: float) -> list[Counts] | None:
    """Return the counts of the last seconds; None when no source tells them soon enough."""
    traffic, now = tools.traffic, int(tools.clock.now())
    if traffic is None or traffic.traits.lag_s >= STALE_S:
        return None
    try:
        page = traffic.read(max(now - OUTAGE_S - int(traffic.traits.lag_s), int(since)), now + 1)
    except BackoutError:
        return None
    if page.complete_until < now - STALE_S:
        return None
    return [row for row in page.counts if row.version in serving]


class Asked(Value, frozen=True):
    """The result of asking a target.

    Args:
        ok: whether it answers well, None: it could not be measured.
        why: one sentence without a final stop.
        contradicts: it no longer answers a request as it did when it was live.
    """

    ok: bool | None
    why: str
    contradicts: bool = False


def ask(
    tools: Toolbox,
    target: str,
    *,
    leaving: str,
    serving: Collection[str],
    known_as: str | None = None,
    propagation_s: float = PROPAGATION_S,
) -> Asked:
    """Return whether a target answers well; what another version answers in its place says nothing of it.

    Args:
        leaving: the version that it is compared with.
        serving: the versions with traffic.
        known_as: the version under which its code was live, where it was uploaded again as the target.
        propagation_s: how long other versions may answer in its place.
    """
    if tools.health is None:
        return Asked(None, "no health check is set up")
    open_version, was = tools.rollback.open_version, find_usual(tools, known_as or target)
    asker = _Asker(tools, tools.health, target, leaving, serving)
    look, deadline = _ask_until_decided(asker, propagation_s, gives_up=open_version is not None)
    if look.said is Said.GOOD:
        return asker.requests(look.why, was, deadline)
    if look.said is not Said.HIDDEN or open_version is None:
        return Asked(False if look.said is Said.BAD else None, look.why)
    try:
        own = open_version(target)
    except BackoutError as error:
        return Asked(None, f"{look.why}, and it cannot be asked by itself: {error.what}")
    tools.say(f"{look.why}: version {target} is asked {_AT_ITS_OWN}")
    direct = _DirectAsker(tools, tools.health, target, leaving, serving, own)
    look, deadline = _ask_until_decided(direct, 0.0)
    if look.said is Said.GOOD:
        return direct.requests(f"{look.why}, asked {_AT_ITS_OWN}", was, deadline)
    return Asked(False if look.said is Said.BAD else None, f"{look.why}, asked {_AT_ITS_OWN}")


def _ask_until_decided(asker: _Asker, propagation_s: float, *, gives_up: bool = False) -> tuple[Look, float]:
    """Return the last look, and until when (Unix seconds) more may be asked.

    Args:
        gives_up: an answer that hides its version is enough of an end.
    """
    tools, clock = asker.tools, asker.tools.clock
    slow_from = deadline = clock.now() + BUDGET_S
    reached_by = clock.now() + propagation_s
    look, row, is_told = asker.look(), 1, False
    while not _is_decided(look, row, gives_up=gives_up) and clock.now() < (
        reached_by if look.said is Said.ELSEWHERE else deadline
    ):
        is_slow = look.said is Said.ELSEWHERE and clock.now() >= slow_from
        if is_slow and not is_told:
            tools.say(
                f"{look.why}: version {asker.target} is asked until it is reached, for at most {propagation_s:g} s"
            )
            is_told = True
        if look.said is not Said.GOOD:
            clock.sleep(PAUSE_S if is_slow else RETRY_S)
        before, look = look, asker.look()
        if before.said is Said.ELSEWHERE and look.said is not Said.ELSEWHERE:
            deadline = clock.now() + BUDGET_S  # it has just been reached
        row = row + 1 if look.said is before.said else 1
    return look, deadline


def _is_decided(look: Look, row: int, *, gives_up: bool) -> bool:
    enough = {Said.GOOD: GOOD_LOOKS, Said.BAD: BAD_LOOKS} | ({Said.HIDDEN: GOOD_LOOKS} if gives_up else {})
    return row >= enough.get(look.said, row + 1)


class _Asker:
    """Asks one target; the current version is asked only when an answer is not good by itself."""

    def __init__(
        self, tools: Toolbox, health: HealthCheck, target: str, leaving: str, serving: Collection[str]
    ) -> None:
        self.tools = tools
        self.target = target
        self._policy = tools.policy
        self._health = health
        self._leaving = leaving
        self._serving = serving
        self._current: HealthReport | None = None
        self._answered: Fetched | None = None  # what the target answered last

    def look(self) -> Look:
        """Return one answer, judged."""
        report = self._health.look(self.target)
        if is_clear(report, self.target, self._policy):
            return Look(Said.GOOD, "it answers, and nothing critical is down")
        if self._current is None:
            self._current = self._health.look(self._leaving)
        return judge(report, self.target, self._serving, self._current, self._policy)

    def requests(self, why: str, was: Mapping[str, str], deadline: float) -> Asked:
        """Send the declared requests, and compare; a bad one is sent once more.

        Args:
            was: {name: media type} of the requests that it answered well when it was live.
            deadline: from then on (Unix seconds) only `guard.prove` is still sent.
        """
        guard = self._policy.guard
        wanted = {check.name: check for check in (*map(SyntheticCheck, guard.prove), *guard.asked)}
        wanted = wanted or {HOME.name: HOME}
        asked: list[str] = []
        alike: list[str] = []
        for name, check in wanted.items():
            if name not in guard.prove and self.tools.clock.now() >= deadline:
                break
            if not self._may_ask(check):
                continue
            try:
                wrong = self._wrong(check, was) and self._wrong(check, was)
            except BackoutError as error:
                if name not in guard.prove:
                    continue  # not required as a proof, so no failure when it cannot be sent
                return Asked(None, f"{name} cannot be asked: {error.what}")
            if wrong:
                on_both = self._fails_on_both(check)
                if not (on_both and self._shares_objects()):
                    return Asked(False, f"{name} {wrong}", contradicts=name in was and not on_both)
                alike.append(name)
            else:
                asked.append(name)
        if alike:
            why += f"; {', '.join(alike)} as on the current version, whose code Durable Objects run until the switch"
        told = [name for name in asked if name != HOME.name or name in guard.prove or guard.asked]
        return Asked(True, f"{why}; {', '.join(told)} {'answers' if len(told) == 1 else 'answer'} too" if told else why)

    def _may_ask(self, check: SyntheticCheck) -> bool:
        del check
        return True

    def _fetch(self, check: SyntheticCheck) -> Fetched:
        return self._health.fetch(check.path, self.target, check=check)

    def _shares_objects(self) -> bool:
        """Whether both versions are answered by Durable Objects, which run the current one's code until the switch."""
        try:
            return all(has_objects(self.tools.versions.detail(each)) for each in (self.target, self._leaving))
        except BackoutError:
            return False

    def _wrong(self, check: SyntheticCheck, was: Mapping[str, str]) -> str:
        answer = self._answered = self._fetch(check)
        is_denied = bool(check.credentials) and answer.kind is AnswerClass.DENIED  # they may have run out
        needs_current = not answer.is_good and answer.status is not None and (check.name not in was or is_denied)
        current = self._health.fetch(check.path, self._leaving, check=check) if needs_current else None
        return explain_wrong_answer(check, answer, current, was.get(check.name))

    def _fails_on_both(self, check: SyntheticCheck) -> bool:
        """Whether the current version now fails like the target: in the same class, and neither is good.

        The cause may then be outside of both (a database, an identity provider), and does not contradict how the target
        answered when it was live; it still gets no traffic.
        """
        answered = self._answered
        if answered is None or answered.is_good or answered.status is None:
            return False
        return self._health.fetch(check.path, self._leaving, check=check).kind is answered.kind


class _DirectAsker(_Asker):
    """Asks one target at the URL of its own, which says itself who answers.

    Not every application answers well under another name, so that an answer which says nothing of the version is none.
    """

    def __init__(
        self,
        tools: Toolbox,
        health: HealthCheck,
        target: str,
        leaving: str,
        serving: Collection[str],
        own: HealthCheck,
    ) -> None:
        super().__init__(tools, health, target, leaving, serving)
        self._own = own

    def look(self) -> Look:
        """Return one answer, judged."""
        report = self._own.look()
        if not report.measured and not report.is_down:
            return Look(Said.HIDDEN, report.why_unmeasured)
        named = report.version if report.version in self._serving else self.target
        report = replace(report, version=named)
        if is_clear(report, self.target, self._policy):
            return Look(Said.GOOD, "it answers, and nothing critical is down")
        if self._current is None:
            self._current = self._health.look(self._leaving)
        return judge(report, self.target, self._serving, self._current, self._policy)

    def _may_ask(self, check: SyntheticCheck) -> bool:
        return not check.credentials  # which were given for another host

    def _fetch(self, check: SyntheticCheck) -> Fetched:
        return self._own.fetch(check.path, check=check)


HOME = SyntheticCheck("/")
"""Requested where nothing is declared: not much, but a version that answers 404 to it is not one to return to."""
