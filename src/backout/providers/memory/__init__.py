"""The World: every outside port of one application in one in-memory object, with a clock that tests move.

It refuses what Cloudflare refuses, records every call and every effect, and can fail or "crash" before and after each
call. Public: for tests of procedures, and for trying a policy without any provider.

>>> world = World()
>>> good = world.deploy(world.upload("good"))
>>> world.clock.sleep(60)
>>> bad = world.deploy(world.upload("bad"))
>>> world.deployments.activate(good.main, message="back").main == good.main
True
>>> [deployment.message for deployment in world.activations]
['back']
"""

from __future__ import annotations

from backout.providers.memory.clock import WorldClock
from backout.providers.memory.rules import make_answering, make_health, make_steady, quiet
from backout.providers.memory.state import START, Build
from backout.providers.memory.world import World

__all__ = ["START", "Build", "World", "WorldClock", "make_answering", "make_health", "make_steady", "quiet"]
