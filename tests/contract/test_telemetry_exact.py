"""The telemetry may act where every invocation is kept and read, and where it was measured to be soon enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scripted_telemetry import MODEL, PROBE, PROBE_ID, TelemetryApi, invoked

from backout.model.guard.signals import sum_counts
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.telemetry import TelemetryTraffic
from backout.providers.health.sent import SentProbes
from backout.providers.memory import WorldClock
from backout.providers.retry import Retry

from twin_harness import ACCOUNT, TOKEN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scripted_server import ScriptedServer

BEGIN = 10_000
VISITS = ("v1", "ok", 200, "fetch", "GET /", 5)


class Guarding:
    """A watch of a Worker with five visits a second, whose health endpoint is asked every few seconds."""

    def __init__(self, server: ScriptedServer, cloud: TelemetryApi) -> None:
        self.clock = WorldClock(float(BEGIN))
        self.sent = SentProbes()
        self.cloud = cloud
        client = ApiClient(server.url, lambda: TOKEN, retry=Retry(attempts=1))
        self.source = TelemetryTraffic(client, ACCOUNT, "fm5", clock=self.clock, sent=self.sent)
        self.reaches, self.told, self.sampled, self.oldest_s = BEGIN, 0, False, 0.0

    def pass_s(self, seconds: int, *, late_s: float, every_s: int = 3) -> None:
        """Let seconds pass, with what is told only so late."""
        self.cloud.hides = lambda at, _known: at > self.clock.now() - late_s
        for _ in range(seconds):
            now = int(self.clock.now())
            self.cloud.invocations += invoked(now, VISITS)
            if now % every_s == 0:
                probe = {"probe": "1", "probe_id": self.sent.id, "model": "stateless"}
                self.cloud.invocations += invoked(now, (*VISITS[:-1], 1), **probe)
                self.sent.note(now + 0.2)
            self.clock.sleep(1)
            page = self.source.read(self.reaches, now + 2)
            self.told += sum_counts(page.counts)[0]
            self.sampled = self.sampled or page.sampled
            self.reaches = max(self.reaches, page.complete_until)
            self.oldest_s = max(self.oldest_s, self.clock.now() - self.reaches)


@pytest.fixture
def guarding(server: ScriptedServer, cloud: TelemetryApi) -> Guarding:
    return Guarding(server, cloud)


@pytest.mark.parametrize("late_s", [5, 20])
def test_what_is_exact_and_soon_enough_may_act(guarding: Guarding, late_s: int) -> None:
    """After less than half a minute of probes; nothing of what was counted is missing, or too old to act on."""
    assert not guarding.source.traits.may_act
    guarding.pass_s(90, late_s=late_s)
    traits = guarding.source.traits
    assert (traits.sampled, traits.has_known_lag, guarding.sampled) == (False, True, False)
    assert late_s <= traits.lag_s <= late_s + 4
    assert traits.may_act
    guarding.oldest_s = 0.0
    guarding.pass_s(120, late_s=late_s)
    assert guarding.oldest_s <= 30
    assert guarding.told == 5 * (guarding.reaches - BEGIN)


def test_what_is_a_minute_late_is_advice(guarding: Guarding) -> None:
    """Exact, and too late: the sentence says which of the two is missing."""
    guarding.pass_s(200, late_s=60)
    traits = guarding.source.traits
    assert (traits.may_act, traits.sampled) == (False, False)
    (why,) = traits.list_shortfalls()
    assert why.startswith("it comes 6")
    assert guarding.told == 5 * (guarding.reaches - BEGIN)


def test_without_probes_nobody_knows_how_late_it_is(guarding: Guarding) -> None:
    """Probes that are never told, as of a health endpoint that another Worker answers, measure nothing good."""
    guarding.pass_s(60, late_s=5, every_s=7919)
    assert guarding.source.traits.list_shortfalls() == ("how late it comes was not measured yet",)
    for at in range(5):
        guarding.sent.note(guarding.clock.now() - 100 + at)
    guarding.pass_s(60, late_s=5, every_s=7919)
    assert not guarding.source.traits.may_act


def test_what_was_told_as_complete_and_was_not_is_no_basis(guarding: Guarding) -> None:
    """The telemetry falls behind after a while: what was counted lacks something, so the watch is advice."""
    guarding.pass_s(90, late_s=5)
    assert guarding.source.traits.may_act
    guarding.pass_s(30, late_s=25)
    assert guarding.sampled
    assert guarding.source.traits.sampled
    guarding.pass_s(400, late_s=5)
    assert guarding.source.traits.may_act  # for the next watch


SAMPLED: list[tuple[str, Mapping[str, object]]] = [
    ("one in ten was read", {"every": 10}),
    ("adaptive bit rate", {"level": 2}),
    ("half of all are kept", {"observability": {"enabled": True, "head_sampling_rate": 0.5}}),
    ("half of the logs", {"observability": {"enabled": True, "logs": {"enabled": True, "head_sampling_rate": 0.5}}}),
    ("no invocation logs", {"observability": {"enabled": True, "logs": {"enabled": True, "invocation_logs": False}}}),
    ("off", {"observability": {"enabled": False}}),
    ("the settings say nothing", {"observability": {}}),
]


@pytest.mark.parametrize("fields", [fields for _, fields in SAMPLED], ids=[name for name, _ in SAMPLED])
def test_what_is_not_proved_to_be_exact_is_advice(
    guarding: Guarding, cloud: TelemetryApi, fields: Mapping[str, object]
) -> None:
    """Each answer says whether every invocation was read, and the Worker's settings whether every one is kept."""
    for name, value in fields.items():
        setattr(cloud, name, value)
    guarding.pass_s(90, late_s=5)
    assert guarding.sampled
    assert guarding.source.traits.list_shortfalls() == ("it samples",)


@pytest.mark.parametrize("level", [None, 1])
def test_no_level_is_the_first_one(guarding: Guarding, cloud: TelemetryApi, level: float | None) -> None:
    """If empty the level of adaptive bit rate is 1."""
    cloud.level = level
    guarding.pass_s(60, late_s=5)
    assert not guarding.sampled


@pytest.mark.parametrize(
    "odd", [{}, {"drops": frozenset({"neq", "is_null"})}, {"refuses": frozenset({"neq", "is_null"})}]
)
def test_a_filter_is_believed_once_it_was_seen_to_work(
    server: ScriptedServer, guarding: Guarding, cloud: TelemetryApi, odd: Mapping[str, object]
) -> None:
    """It saves most queries; an API whose filters do something else is asked for what is to be taken off."""
    for name, value in odd.items():
        setattr(cloud, name, value)
    objects = [
        each for at in range(BEGIN, BEGIN + 240) for each in invoked(at, (*VISITS[:-1], 7), model="durableObject")
    ]
    cloud.invocations += objects
    guarding.pass_s(60, late_s=5)
    server.asked.clear()
    guarding.pass_s(120, late_s=5)
    assert guarding.told == 5 * (guarding.reaches - BEGIN)
    assert not guarding.sampled
    assert {MODEL, PROBE, PROBE_ID} <= guarding.source._queries.known
    per_minute = len(server.asked) / 2
    assert per_minute < (80 if not odd else 100)
