"""Whatever a source or the platform raises, an armed guard goes on: source lost, no answer; and it still rolls back."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.config import Environment, load
from backout.errors import ProviderUnavailable, Refused
from backout.model.guard.answers import AnswerClass
from backout.model.guard.signals import (
    Counts,
    CountsPage,
    HealthReport,
    Reach,
    RouteCounts,
    ServiceState,
    TriggerCounts,
)
from backout.model.incident.incident import RunState
from backout.model.incident.notice import NoticeKind
from backout.providers.memory import make_health
from backout.runbook.toolbox import Late, Parts, RollbackTools
from backout.wiring.boundary import ADAPTERS, Boundary, add_boundaries
from backout.wiring.toolbox import make_toolbox

from line import SERVICES, Story, equip, watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backout.runbook.toolbox import Toolbox

ERRORS: tuple[Exception, ...] = (
    RecursionError("maximum recursion depth exceeded"),
    OverflowError("cannot convert float infinity to integer"),
    ValueError("Exceeds the limit (4300 digits) for integer string conversion"),
    KeyError("result"),
    MemoryError(),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
)
SOURCES = ("traffic", "logs", "connections", "triggers", "notifier", "bundle_store", "bundles")
PLATFORM = ("deployments.history", "versions.recent", "versions.detail", "secrets.names")


@pytest.fixture
def story(quick_path: Path) -> Story:
    """A World in which the bad version was just deployed."""
    return Story(quick_path / "journal.sqlite")


class Raiser:
    """Raises one error after the other in the calls whose names begin with one of the words, so many times.

    Args:
        after: so many of these calls pass first.
    """

    def __init__(self, *words: str, times: float = float("inf"), after: int = 0) -> None:
        self.words = words
        self.after = after
        self.left = times
        self.raised = 0

    def __call__(self, name: str) -> None:
        if not name.startswith(self.words):
            return
        self.after -= 1
        if self.after < 0 < self.left:
            self.left -= 1
            self.raised += 1
            raise ERRORS[self.raised % len(ERRORS)]


def armed(story: Story, said: list[str]) -> Toolbox:
    return add_boundaries(equip(story.tools(), connections=story.world.connections, say=said.append))


def down_with(version: str) -> Callable[[float, str], HealthReport]:
    """Return the rule of a database that is down with one version."""
    states = dict.fromkeys(SERVICES, ServiceState.OK)
    return lambda at, live: make_health(
        at, states | ({"database": ServiceState.DOWN} if live == version else {}), version=live
    )


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_that_raises_whatever_disarms_nobody(story: Story, source: str) -> None:
    """Each source by itself, all the time: the others show that the version is bad, and it is rolled back."""
    said: list[str] = []
    if source == "traffic":  # then the health endpoint has to show it
        story.world.health_rule = down_with(story.bad.id)
    story.world.before_call = raiser = Raiser(f"{source}.", after=2 if source == "traffic" else 0)
    run = watch(armed(story, said))
    assert (run.state, story.world.live.sole) == (RunState.DONE, story.good.id), said
    assert raiser.raised
    mistakes = [text for text in said if "a mistake in backout itself" in text]
    assert mistakes or source in ("bundles", "bundle_store", "notifier")
    assert len(mistakes) == len(set(mistakes))


def test_a_health_endpoint_that_raises_whatever_is_not_measured(story: Story) -> None:
    """The counts show that the version is bad; what cannot be proven is not gone back to, and that is said."""
    said: list[str] = []
    story.world.before_call = Raiser("health.")
    tools = armed(story, said)
    with pytest.raises(Refused, match="cannot be proved before the switch"):
        watch(tools)
    report = tools.health.look()  # type: ignore[union-attr]
    assert (report.reach, report.measured) == (Reach.UNREADABLE, False)
    assert any("the health endpoint raised" in text for text in said)


def test_a_platform_that_raises_for_a_while_disarms_nobody(story: Story) -> None:
    """Each of its calls by itself, twenty times: the guard that watches asks again."""
    said: list[str] = []
    tools, raiser = armed(story, said), Raiser(*PLATFORM, times=40)

    def once_armed(call: str) -> None:
        if any(run.state is RunState.RUNNING for run in tools.runs.runs("production")):
            raiser(call)

    story.world.before_call = once_armed
    run = watch(tools)
    assert (run.state, story.world.live.sole) == (RunState.DONE, story.good.id), said
    assert raiser.left == 0


def test_lost_counts_are_told_with_their_reason(story: Story) -> None:
    """Thirty seconds without counts: source lost, with what the source did, and no rollback on them."""
    story.world.before_call = Raiser("traffic.")
    watch(armed(story, []), for_s=60)
    told = [notice for notice in story.world.notices if notice.kind is NoticeKind.SOURCE_LOST]
    assert len(told) == 1
    assert "returned something that backout cannot handle" in told[0].text
    assert story.world.live.sole == story.bad.id


class Odd:
    """Port Traffic that answers the same page always."""

    traits = "odd"

    def __init__(self, page: CountsPage) -> None:
        self.page = page

    def read(self, _since: int, _until: int) -> CountsPage:
        return self.page


@pytest.mark.parametrize(
    "row",
    [
        Counts("v", 10**30, 1, 0),
        Counts("v", 1, -1, 0),
        Counts("v", 1, 10**40, 10**40),
        Counts("v", 1, 5, 6),
        Counts("v", 1, 5, 5, canceled=10**30),
        Counts("v", 1, 5, 5, latency={10**9: 1}),
        Counts("v", 1, 5, 5, latency={1: -1}),
        Counts("v", 1, 5, 5, routes={"/": RouteCounts(10**30, 0)}),
        Counts("v", 1, 5, 3, classes={AnswerClass.DENIED: 3}),
        Counts("v", 1, 5, 0, canceled=1, left={"/": {300: 1}}),
        Counts("v", 1, 5, 0, canceled=1, left={"/": {3: 2}}),
        Counts("v", 1, 5, 0, classes={AnswerClass.DENIED: -1}),
        Counts("v", 1, 0, 0, started=-1),
        Counts("v", 1, 5, 0, routes={"/": RouteCounts(5, 0, sizes={3: 10**30})}),
        Counts("v", 1, 0, 0, triggers={"cron * * * * *": TriggerCounts(1, 2)}),
    ],
)
def test_counts_that_cannot_be_are_no_counts(story: Story, row: Counts) -> None:
    """They would end the detector, or the journal."""
    tools = add_boundaries(replace(story.tools(), traffic=Odd(CountsPage((row,), 2))))  # type: ignore[arg-type]
    assert tools.traffic is not None
    assert tools.traffic.traits == "odd"
    with pytest.raises(ProviderUnavailable, match="the source of counts returned something"):
        tools.traffic.read(0, 1)


def test_every_adapter_has_a_boundary(story: Story) -> None:
    """No field of the toolbox that leads outside is forgotten."""
    own = {
        "environment", "policy", "actor", "clock", "journal", "runs", "marks", "counts", "checkpoints", "pushing",
        "provider_marks", "seal", "confirm", "pace", "say",
        "guard.dice", "guard.in_background", "guard.watching", "guard.consent", "guard.declared",
        "rollback.places_targets",
        "rollback.app_checks_head", "rollback.deploy_command", "rollback.hear", "rollback.equivalents",
        "rollback.open_version",  # what it opens has a boundary
        "rollback.find_obstacle",  # preflight asks it, and has a boundary around each of its questions
        "recovery.restoring", "recovery.fence", "recovery.protection", "recovery.proof_alarm", "recovery.keeps_objects",
        "recovery.check_objects",
        "incident.reports", "incident.catalogue", "incident.redact", "incident.card_lines", "incident.lines_for_npx",
            "incident.helps", "incident.commit_url",
        "safety.pinned", "safety.holds", "safety.doubt",
    }  # fmt: skip
    tools = story.tools()
    parts = {name.partition(".")[0] for name in own | ADAPTERS.keys() if "." in name}
    found = {name for name in type(tools).__struct_fields__ if name != "parts"}
    found |= {f"{part}.{name}" for part in parts for name in type(getattr(tools, part)).__struct_fields__}
    assert found == own | ADAPTERS.keys()
    assert parts == set(Parts.__struct_fields__)


def test_a_part_is_made_once_by_whoever_uses_it_first(story: Story) -> None:
    """No command pays for what it does not use; copies of a toolbox and its boundaries share what was made."""
    made: list[RollbackTools] = []

    def make() -> RollbackTools:
        made.append(RollbackTools(schema=story.world.schema))
        return made[-1]

    raw = story.tools()
    tools = add_boundaries(replace(raw, parts=replace(raw.parts, rollback=Late(make))))
    copy = replace(tools, say=print)
    assert not made
    assert isinstance(copy.rollback.schema, Boundary)
    assert tools.rollback is copy.rollback
    with ThreadPoolExecutor(4) as threads:
        assert len({id(each) for each in threads.map(lambda _: tools.rollback, range(20))}) == 1
    assert len(made) == 1


def test_nothing_keeps_an_adapter_that_nobody_uses_any_more(story: Story) -> None:
    """So that its connections are closed with the last use, and not when circles happen to be looked for."""
    tools = add_boundaries(story.tools())
    tools.versions.recent()
    left = weakref.ref(tools.versions)
    gc.disable()
    try:
        del tools
        assert left() is None
    finally:
        gc.enable()


def test_the_tools_of_every_command_have_boundaries(tmp_path: Path) -> None:
    """However an environment is set up, what its configuration makes stands behind one."""
    tmp_path.joinpath("backout.toml").write_text(
        """
[app]
name = "fm5"
[environments.production]
platform = { provider = "cloudflare", account_id = "0123456789abcdef0123456789abcdef", script = "fm5" }
health = { url = "https://fm5.example.com/health" }
""",
        encoding="utf-8",
    )
    variables = Environment({"CLOUDFLARE_API_TOKEN": "a-token-of-nobody"})
    tools = make_toolbox(load(variables, start=tmp_path, environment="production"))
    made = {name: found for name in ADAPTERS if (found := attrgetter(name)(tools)) is not None}
    made |= {name: made[name].raw for name in ("deployments", "versions")}  # before them stands who reads the marks
    assert {"deployments", "versions", "secrets", "health"} <= made.keys()
    assert [name for name, adapter in made.items() if not isinstance(adapter, Boundary)] == []
