"""The port TriggerSettings: the same answers from the World and from the Cloudflare adapter on the twin's API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from backout.errors import AuthError, ProviderRejected
from backout.model.triggers import TriggerKind, Triggers
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.triggers import CloudflareTriggers

from platform_sides import MemorySide, TwinSide
from scripted_server import answer, scripted_server
from twin_harness import ACCOUNT, TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backout.ports import TriggerSettings

    from platform_sides import Side
    from scripted_server import ScriptedServer, Step


@dataclass
class Settings:
    """The port, and how custom domains are set from outside."""

    port: TriggerSettings
    set_domains: Callable[[tuple[str, ...]], object]
    disappear: Callable[[], object]


@pytest.fixture
def settings(side: Side) -> Settings:
    """The triggers of an application with one version."""
    side.upload("one")
    if isinstance(side, MemorySide):
        world = side.world
        return Settings(world.triggers, lambda domains: world.start_by(domains=domains), side.disappear)
    assert isinstance(side, TwinSide)
    api, script = side.api, side.script

    def set_domains(domains: tuple[str, ...]) -> None:
        body = {"origins": [{"hostname": domain} for domain in domains]}
        assert api.call("PUT", f"{script}/domains/records", body).status == 200

    client = ApiClient(f"{api.url}/client/v4", lambda: TOKEN)
    return Settings(CloudflareTriggers(client, ACCOUNT, script), set_domains, side.disappear)


def test_an_application_that_nothing_starts(settings: Settings) -> None:
    """Empty is a fact, not "unknown"."""
    assert settings.port.read(tuple(TriggerKind)) == Triggers((), (), (), ())


def test_only_what_is_asked_for(settings: Settings) -> None:
    """The rest is not known."""
    assert settings.port.read((TriggerKind.SCHEDULES,)) == Triggers(schedules=())
    assert settings.port.read(()) == Triggers()


def test_schedules_are_replaced(settings: Settings) -> None:
    """Sorted when read; setting fewer removes the others; setting them again changes nothing."""
    for wanted in (("0 3 * * *", "*/5 * * * *"), ("0 3 * * *",), ("0 3 * * *",), ()):
        settings.port.set_schedules(wanted)
        assert settings.port.read((TriggerKind.SCHEDULES,)).schedules == tuple(sorted(wanted))


def test_domains(settings: Settings) -> None:
    """Sorted host names."""
    settings.set_domains(("b.example.com", "a.example.com"))
    assert settings.port.read((TriggerKind.DOMAINS,)).domains == ("a.example.com", "b.example.com")


def test_an_application_that_does_not_exist(settings: Settings) -> None:
    """Its schedules cannot be set."""
    settings.disappear()
    with pytest.raises(ProviderRejected):
        settings.port.set_schedules(("0 3 * * *",))


# --- the adapter's own: answers as the documentation shows them ---


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server that answers what it is told to."""
    with scripted_server() as running:
        yield running


def adapter(server: ScriptedServer) -> CloudflareTriggers:
    """Return the adapter on a scripted server."""
    return CloudflareTriggers(ApiClient(f"{server.url}/client/v4", lambda: TOKEN), ACCOUNT, "fm5")


def result(value: object) -> Step:
    """Answer in the API's envelope."""
    return answer({"success": True, "errors": [], "messages": [], "result": value})


def says_no(status: int) -> Step:
    """Answer that the token may not."""
    return answer({"success": False, "errors": [{"code": 10000, "message": "Authentication error"}]}, status)


def test_routes_and_queues_of_this_worker_alone(server: ScriptedServer) -> None:
    """The account's queues are listed with all consumers; the service's routes with their zones."""
    routes = [{"id": "r1", "pattern": "fm5.example.com/*", "zone_name": "example.com", "script": "fm5"}]
    queues = [
        {"queue_name": "mail", "consumers": [{"script": "fm5", "type": "worker"}]},
        {"queue_name": "other", "consumers": [{"script": "another"}, {"type": "http_pull"}]},
        {"queue_name": "jobs", "consumers": [{"script_name": "fm5"}]},
        {"queue_name": "idle", "consumers": None},
    ]
    domains = [{"hostname": "fm5.example.com", "service": "fm5"}, {"hostname": "x.example.com", "service": "x"}]
    server.will(result(routes), result(domains), result(queues))
    found = adapter(server).read((TriggerKind.ROUTES, TriggerKind.DOMAINS, TriggerKind.QUEUES))
    assert found == Triggers(None, ("fm5.example.com/*",), ("fm5.example.com",), ("jobs", "mail"))


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_the_token_may_not_read_is_unknown(server: ScriptedServer, status: int) -> None:
    """One kind alone: the others are read all the same."""
    server.will(says_no(status), result({"schedules": [{"cron": "0 3 * * *"}]}))
    found = adapter(server).read((TriggerKind.QUEUES, TriggerKind.SCHEDULES))
    assert found == Triggers(schedules=("0 3 * * *",))


def test_a_list_of_routes_in_another_shape_is_unknown(server: ScriptedServer) -> None:
    """No documentation promises it."""
    server.will(result({"routes": []}))
    assert adapter(server).read((TriggerKind.ROUTES,)) == Triggers()


def test_a_token_that_may_not_write(server: ScriptedServer) -> None:
    """The error names the permission."""
    server.will(says_no(403))
    with pytest.raises(AuthError, match="Workers Scripts Write"):
        adapter(server).set_schedules(("0 3 * * *",))
