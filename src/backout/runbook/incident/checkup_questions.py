"""What `backout doctor` asks through an environment's ports; each question only reads, and analysis judges.

A class holds the questions to one connection: an answer that a later question also needs is asked for once.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from backout.analysis.checkup import deployment, here, platform, service
from backout.analysis.history.stability import describe_recent_failure, find_quarantine, find_stable_mark
from backout.errors import AuthError, BackoutError, ProviderRejected, ProviderUnavailable, Unmeasured
from backout.model.checkup import Level, should
from backout.model.guard.policy import Mode
from backout.model.hint import NO_HINT, Hint, suggest_command
from backout.model.plan import Plan, PlanKind
from backout.model.steps.rollback import ActivateStep
from backout.model.value import Value
from backout.plan.rollback import Request
from backout.runbook.guard.watch_gap import measure_watch_gap_s
from backout.runbook.incident.checkup import Question
from backout.runbook.observe import observe
from backout.runbook.rollback.rollback import prepare, rank_for_next
from backout.runbook.safety.clock import get_correction_s, measure_clock_offset_s
from backout.runbook.safety.hold import find_active_hold
from backout.runbook.safety.token import MARGIN_S

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from backout.model.checkup import Check
    from backout.model.guard.policy import Policy
    from backout.model.guard.signals import HealthReport
    from backout.model.hold import Hold
    from backout.model.identity import Identity
    from backout.model.incident.incident import Run
    from backout.model.situation import Situation
    from backout.model.token import Needed, TokenState
    from backout.ports import Clock, HealthCheck, Identities
    from backout.runbook.incident.checkup import Lane
    from backout.runbook.toolbox import Toolbox


WINDOW_S: Final = 60
"""How much of the counts to ask for: enough to see whether the source answers."""


class _Opened:
    """The ports of one lane: made for the first question, so that anything they lack becomes an answer."""

    def __init__(self, opened: Callable[[], Toolbox], environment: str, policy: Policy) -> None:
        self._opened = opened
        self._environment = environment
        self._policy = policy
        self._acts = policy.guard.mode is Mode.ACT
        self._made: Toolbox | None = None
        self._lacks = ""

    @property
    def _tools(self) -> Toolbox:
        """The ports. Raises BackoutError: why there are none, once; afterwards Unmeasured."""
        if self._made is None:
            self._still_asked()
            try:
                self._made = self._opened()
            except AuthError:
                self._lacks = "there is no token"
                raise
            except BackoutError:
                self._lacks = "the configuration is not complete"
                raise
        return self._made

    def _still_asked(self) -> None:
        """Raise Unmeasured when an earlier question has shown that this one would not be answered."""
        if self._lacks:
            raise Unmeasured(f"not asked: {self._lacks}")


class Here(Value, frozen=True):
    """Questions about this machine, without the platform.

    Args:
        clock: of this machine.
        runs: the journal's, newest first; held: the hold of this host, by its file alone. Both raise BackoutError where
            their file is unusable.
        card: where it is written.
        card_doubt: why what is there is not taken for a card of ours; "" if it is.
        deploy: how a version is deployed from here.
    """

    clock: Clock
    runs: Callable[[], Sequence[Run]]
    held: Callable[[], Hold | None]
    card: Path
    card_doubt: str = ""
    deploy: Hint = NO_HINT


class Facts:
    """What was read on the way, for those who show it beside the checks; None: it was not read."""

    def __init__(self) -> None:
        self.tokens: tuple[TokenState, ...] | None = None
        self.identity: Identity | None = None
        self.clock_offset_s: float | None = None


class Platform(_Opened):
    """Questions to the platform: tokens, identity, clock, what is live, what could be returned to, who watched it.

    Args:
        opened: makes the ports; raises AuthError where there is no token.
        identities: as `wiring.identity.make_identities`.
        needed: the permissions of the tokens.
        places: {role: where its token is kept}.
        required: names of the secrets that the application needs.
        here: the questions about this machine.
    """

    def __init__(
        self,
        opened: Callable[[], Toolbox],
        identities: Callable[[], Identities],
        environment: str,
        policy: Policy,
        *,
        needed: Needed,
        places: Mapping[str, str],
        required: Collection[str],
        here: Here,
    ) -> None:
        super().__init__(opened, environment, policy)
        self._deploys = False
        self._is_empty = False
        self._identities = identities
        self._needed = needed
        self._places = places
        self._required = required
        self._here = here
        self._seen: Situation | None = None
        self.facts = Facts()

    def lane(self, *, deploys: bool = False) -> Lane:
        """Return the questions, in an order in which each helps the next.

        Args:
            deploys: a deployment is to be made, and it has to be possible to leave it again.
        """
        self._deploys = deploys
        again = suggest_command("preflight" if deploys else "doctor", self._environment)
        acts = Level.MUST if self._acts else Level.SHOULD
        return (
            Question("token", Level.MUST, self._check_token, again),
            Question("platform", Level.MUST, self._check_platform, again),
            Question("clock", Level.SHOULD, self._check_clock, again),
            Question("pin", Level.MUST, self._check_pin, suggest_command("config check --online", self._environment)),
            Question(
                "stable_version",
                acts,
                self._check_way_back if self._deploys else self._check_stable,
                suggest_command("rollback --dry-run", self._environment),
            ),
            Question("kept_code", Level.SHOULD, self._check_kept_code, again),
            Question("last_watch", Level.SHOULD, self._check_watch, suggest_command("runs list", self._environment)),
            Question("hold", Level.SHOULD, self._check_hold, again),
            Question("secrets", Level.SHOULD, self._check_secrets, suggest_command("secrets check", self._environment)),
            Question("card", Level.SHOULD, self._check_card, suggest_command("card", self._environment)),
        )

    @contextmanager
    def _answering(self) -> Iterator[Toolbox]:
        """Lend the ports; a platform that did not answer is not asked again: it would take as long each time."""
        tools = self._tools
        self._still_asked()
        try:
            yield tools
        except ProviderUnavailable:
            self._lacks = "the platform does not answer"
            raise

    def _check_token(self) -> Iterator[Check]:
        outlives_s = self._policy.criteria.watch_s + MARGIN_S
        with self._answering() as tools:
            states = tools.safety.token.look() if tools.safety.token is not None else ()
        self.facts.tokens = tuple(states)
        now = tools.clock.now()
        yield from platform.check_tokens(
            states, self._needed, now=now, outlives_s=outlives_s, acts=self._acts, places=self._places
        )

    def _check_platform(self) -> Iterator[Check]:
        try:
            with self._answering() as tools:
                history = tools.deployments.history()
        except ProviderRejected as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            history, refused = (), platform.check_no_application(error.what, self._here.deploy)
        else:
            refused = platform.check_platform(history, self._here.deploy, self._environment)
        self._is_empty = self._deploys and not history
        yield platform.check_first_deployment() if self._is_empty else refused

    def _check_clock(self) -> Iterator[Check]:
        if self._tools.safety.provider_clock is None:  # it runs on this machine's, or on those of its hosts
            return
        self.facts.clock_offset_s = measure_clock_offset_s(self._tools)
        yield platform.check_clock(self.facts.clock_offset_s)

    def _check_pin(self) -> Iterator[Check]:
        with self._answering() as tools:
            self.facts.identity = self._identities().read()
        yield platform.check_identity(tools.safety.pinned, self.facts.identity, self._environment)

    def _check_stable(self) -> Iterator[Check]:
        request = Request(message="", wait=False, accept_unproven=self._policy.guard.accept_unproven)
        with self._answering() as tools:
            self._seen, outcome = prepare(tools, request)
        stable = self._is_stable(self._seen)
        target = outcome.arguments(ActivateStep).version if isinstance(outcome, Plan) else ""
        failed = describe_recent_failure(self._seen, target)
        yield service.check_return(
            outcome, stable=stable, acts=self._acts, environment=self._environment, failed=failed
        )

    def _check_way_back(self) -> Iterator[Check]:
        if self._is_empty:
            yield deployment.check_no_way_back()
            return
        with self._answering() as tools:
            self._seen, ranked = rank_for_next(tools)
        yield deployment.check_way_back(ranked, self._seen.live.main, self._environment)

    def _situation(self) -> Situation:
        if self._seen is None:
            with self._answering() as tools:
                self._seen = observe(tools)
        return self._seen

    def _is_stable(self, situation: Situation) -> bool:
        live = situation.version(situation.live.main)
        bad = find_quarantine(situation, situation.live.main, live.code_hash if live else None)
        return bad is None and find_stable_mark(situation, situation.live.main) is not None

    def _check_kept_code(self) -> Iterator[Check]:
        store, find_obstacle = self._tools.rollback.bundle_store, self._tools.rollback.find_obstacle
        if self._is_empty or (store is None and find_obstacle is None):
            return
        wanted = tuple(share.version for share in self._situation().live.shares if share.percentage > 0)
        if find_obstacle is not None:
            with self._answering():
                obstacles = {str(version): find_obstacle(version) for version in wanted}
            yield service.check_releases(obstacles, self._environment)
        elif store is not None:
            kept = [version for version in wanted if store.has(version)]
            yield service.check_kept_code(kept, wanted, self._environment)

    def _check_watch(self) -> Iterator[Check]:
        """Report this journal's last watch in any case, and, if what is live is known, whether it is about that."""
        runs = self._here.runs()
        newest = next((run for run in runs if run.plan.kind is PlanKind.GUARD), None)
        alone_s, stable = None, None
        try:
            situation = self._situation()
            alone_s = measure_watch_gap_s(situation, runs, self._policy.criteria.watch_s)
            stable = self._is_stable(situation)
        except BackoutError:
            if newest is None:
                raise
        now = self._here.clock.now()
        yield service.check_watch(newest, alone_s, stable=stable, now=now, environment=self._environment)

    def _check_hold(self) -> Iterator[Check]:
        """Report this host's own hold in any case: it needs neither platform nor journal."""
        try:
            with self._answering() as tools:
                found = find_active_hold(tools, () if self._is_empty else tools.deployments.history())
        except BackoutError:
            found = self._here.held()
            if found is None:
                raise
        yield service.check_hold(found, self._environment, blocks=self._deploys)

    def _check_secrets(self) -> Iterator[Check]:
        present = None
        if self._is_empty:
            return
        if self._required:
            with self._answering() as tools:
                present = tools.secrets.names() if tools.secrets is not None else None
        yield service.check_secrets(self._required, present, self._environment)

    def _check_card(self) -> Iterator[Check]:
        path, live_at = self._here.card, None
        if self._here.card_doubt:
            yield should("card").missing(self._here.card_doubt, suggest_command("card --write", self._environment))
            return
        written_at = path.stat().st_mtime if path.is_file() else None
        with suppress(BackoutError):  # the card itself is still checked
            live_at = self._situation().live.created_at - get_correction_s(self._tools)
        now = self._here.clock.now()
        yield here.check_card(str(path), written_at, live_at, now=now, environment=self._environment)


class Service:
    """Questions to the application itself: its health endpoint, and which version answers. They need no token.

    Args:
        health: makes the endpoint's port, None where none is set up.
        counted: whether requests are counted, too.
        live: returns the versions that have traffic; raises BackoutError where the platform does not tell them.
        open_version: opens the endpoint at the URL of a version's own; raises BackoutError where it has none.
    """

    def __init__(
        self,
        health: Callable[[], HealthCheck | None],
        live: Callable[[], Collection[str]],
        environment: str,
        policy: Policy,
        *,
        counted: bool,
        open_version: Callable[[str], object],
    ) -> None:
        self._health_check = health
        self._live = live
        self._open_version = open_version
        self._environment = environment
        self._policy = policy
        self._acts = policy.guard.mode is Mode.ACT
        self._counted = counted
        self._report: HealthReport | None = None

    def lane(self) -> Lane:
        """Return the questions; the first one asks, the second one compares with what is live."""
        again = suggest_command("doctor", self._environment)
        return (
            Question("health", Level.MUST, self._health, again),
            Question("health_version", Level.MUST if self._acts else Level.SHOULD, self._version, again),
        )

    def _health(self) -> Iterator[Check]:
        port = self._health_check()
        self._report = port.look() if port is not None else None
        blind = self._acts and not self._counted
        yield service.check_health(self._report, self._policy, self._environment, is_blind=blind)

    def _version(self) -> Iterator[Check]:
        try:
            live: Collection[str] | None = self._live()
        except BackoutError:  # the platform's own check says so
            live = None
        no_url: str | None = None
        if live and self._report is not None and self._report.measured and self._report.version is None:
            try:
                self._open_version(next(iter(live)))
                no_url = ""
            except BackoutError as error:
                no_url = error.what
        yield service.check_health_version(self._report, live, acts=self._acts, no_url=no_url)


class Counted(_Opened):
    """Whether requests are counted."""

    def lane(self, *, is_set_up: bool) -> Lane:
        """Return the question."""
        line = suggest_command("config check --online", self._environment)
        level = Level.MUST if is_set_up else Level.SHOULD
        return (Question("traffic", level, self._traffic if is_set_up else self._without, line),)

    def _without(self) -> Iterator[Check]:
        yield service.check_traffic(None, acts=self._acts, environment=self._environment)

    def _traffic(self) -> Iterator[Check]:
        try:
            tools = self._tools
        except BackoutError:  # the check of the token says why
            self._still_asked()
            raise
        assert tools.traffic is not None
        now = int(tools.clock.now())
        page = tools.traffic.read(now - WINDOW_S, now)
        silence = () if page.counts else tuple(page.unreadable)
        traits = tools.traffic.traits
        yield service.check_traffic(traits, acts=self._acts, environment=self._environment, silence=silence)
