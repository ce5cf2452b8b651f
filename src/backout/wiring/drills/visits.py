"""The visitors of a drill: each in a process of their own that ends with us, and every answer they get."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

from backout.decoding import Undecodable, decode_json
from backout.model.drill import Visit
from backout.providers.child import tie_to_parent
from backout.providers.child_environment import make_bare_environment, make_module_command
from backout.twin.stage import VISIT_AT_MOST_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.twin.stage import Stage


class Visitors:
    """Visitors of a kind, from now on.

    Args:
        stage: the application that they visit.
        rate_per_s: how many come.
        kind: see `traffic.VISITORS`.
    """

    def __init__(self, stage: Stage, rate_per_s: float, kind: str = "usual") -> None:
        self._visits: list[Visit] = []
        command = make_module_command(
            *("backout.twin.traffic", "--url", str(stage.twin.ingress_url), "--host", stage.host),
            *("--rate", str(rate_per_s), "--for", str(VISIT_AT_MOST_S), "--visitors", kind),
        )
        self._process = subprocess.Popen(
            tie_to_parent(command, signal.SIGKILL),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=make_bare_environment(),
        )
        self._listener = threading.Thread(target=self._listen, name="visits", daemon=True)
        self._listener.start()

    @property
    def visits(self) -> tuple[Visit, ...]:
        """Every answer so far, in the order in which they came."""
        return tuple(self._visits)

    def forget(self) -> None:
        """Forget the answers so far."""
        self._visits.clear()

    def is_there(self) -> bool:
        """Whether they still come: they go home after an hour."""
        return self._process.poll() is None

    def leave(self) -> None:
        """Have nobody come any more."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(Undecodable):  # the summary
                self._visits.append(decode_json(line, Visit))


@contextlib.contextmanager
def visiting(stage: Stage, rate_per_s: float, kind: str) -> Iterator[Visitors]:
    """Have visitors of a kind come until the block ends."""
    visitors = Visitors(stage, rate_per_s, kind)
    try:
        yield visitors
    finally:
        visitors.leave()
