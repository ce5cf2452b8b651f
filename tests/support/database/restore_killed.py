"""A process that drives a restore and kills itself with -9 at the n-th call of a port, before it or after it."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recovery_lab import Lab
from values import replace

from backout.runbook.recovery.restoring import make_actions

if TYPE_CHECKING:
    from collections.abc import Callable


class Fuse:
    """Counts; at the count that it was given the process is killed."""

    def __init__(self, at: int) -> None:
        self.left = at

    def tick(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Dying:
    """A port whose calls burn the fuse, what they report on the way included."""

    def __init__(self, port: Any, fuse: Fuse) -> None:
        self._port = port
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        return self._wrapped(found) if callable(found) else found

    def _wrapped(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            self._fuse.tick()
            answer = call(*(self._heard(each) if callable(each) else each for each in arguments), **named)
            self._fuse.tick()
            return answer

        return called

    def _heard(self, listener: Callable[..., Any]) -> Callable[..., Any]:
        def heard(*arguments: Any) -> None:
            self._fuse.tick()
            listener(*arguments)

        return heard


def main(root: str, sockets: str, port: str, run: str, at: str) -> None:
    lab = Lab(Path(root), Path(sockets), int(port))
    fuse, tools = Fuse(int(at)), lab.tools()
    rescuer = tools.rescuer
    dying: dict[str, Any] = {
        name: Dying(getattr(tools, name), fuse) for name in ("sides", "beside", "live", "server", "carrier")
    }
    tools = replace(tools, **dying, rescuer=lambda database: Dying(rescuer(database), fuse))
    ended = lab.journal.drive(run, make_actions(tools), actor="test")
    sys.stdout.write(json.dumps({"state": str(ended.state), "calls": int(at) - fuse.left}))


if __name__ == "__main__":
    main(*sys.argv[1:])
