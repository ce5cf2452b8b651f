"""What a platform may be able to do, on the World: queues, caches, and the maintenance version."""

from __future__ import annotations

import pytest

from backout.errors import ProviderRejected, Refused
from backout.model.platform import CacheState, QueueState
from backout.model.remark import Remark, RemarkKind
from backout.providers.memory import World


def test_a_paused_queue_delivers_nothing_until_it_is_resumed() -> None:
    """Pausing twice is pausing once, and a queue that is not there is an error."""
    world = World()
    world.queues = {"mail": QueueState("mail", delivers=True, backlog=3), "jobs": QueueState("jobs", delivers=True)}
    queues = world.platform_queues
    queues.pause("mail")
    queues.pause("mail")
    assert [(each.name, each.delivers) for each in queues.list_consumed()] == [("jobs", True), ("mail", False)]
    queues.resume("mail")
    assert all(each.delivers for each in queues.list_consumed())
    with pytest.raises(ProviderRejected) as raised:
        queues.pause("other")
    assert raised.value.status == 404


def test_a_cache_is_restored_with_its_own_durations() -> None:
    """A platform forgets them while a cache is off, so whoever turns it off keeps its state."""
    world = World()
    before = CacheState("c1", "fm5-db", is_on=True, max_age_s=30.0, stale_s=5.0)
    world.caches = {"c1": before}
    world.read_caches.turn_off("c1")
    assert world.read_caches.read() == (CacheState("c1", "fm5-db", is_on=False),)
    world.read_caches.restore(before)
    assert world.read_caches.read() == (before,)


def test_a_maintenance_version_keeps_secrets_and_bindings_and_is_known_by_its_tag() -> None:
    """The version before it is none."""
    world = World()
    good = world.upload("good", secrets={"JWT_SECRET": "x"}, buckets=("files",), bindings=("kv_namespace:SESSIONS",))
    world.deploy(good)
    message = str(Remark(RemarkKind.MAINTENANCE, "recover-1a2b3c4d", text="recovery"))
    shown = world.maintenance.show(message)
    version = world.versions.detail(shown.main)
    assert (shown.sole, shown.message, version.message) == (version.id, message, message)
    assert version.is_maintenance
    assert not world.versions.detail(good.id).is_maintenance
    assert (version.secret_names, version.bindings) == (good.secret_names, good.bindings)


def test_where_none_can_be_made_that_is_said_and_refused() -> None:
    """Nothing is uploaded then."""
    world = World()
    world.deploy(world.upload("good"))
    world.maintenance_obstacle = "it runs workflows"
    assert world.maintenance.find_obstacle() == "it runs workflows"
    with pytest.raises(Refused):
        world.maintenance.show("")
    assert len(world.builds) == 1
