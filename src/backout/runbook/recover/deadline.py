"""The deadline of an outage: people are told when it is over, and nothing opens by itself."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.decoding import decode_values
from backout.errors import BackoutError
from backout.model.incident.notice import NoticeKind
from backout.model.value import Value
from backout.report.times import format_time
from backout.runbook.incident.tell import tell
from backout.runbook.recover.tools import BEGAN, LIFTED, OPENED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backout.model.plan import Json
    from backout.ports import Journal
    from backout.runbook.recover.tools import RecoverTools
    from backout.runbook.toolbox import Toolbox

LOOKED_AFTER_S: Final = 5.0
"""How often a running recovery looks whether its deadline has passed."""


def find_outage(tools: Toolbox) -> dict[str, Json] | None:
    """Return the note of an outage that goes on: {run, actor, at, deadline}; None: there is none by this journal."""
    return find_noted_outage(tools.journal, tools.environment)


def find_noted_outage(journal: Journal, environment: str) -> dict[str, Json] | None:
    """Return what `find_outage` does, of an environment of which only the journal is there."""
    over = {
        str(note.data["run"])
        for kind in (OPENED, LIFTED)
        for note in journal.events(environment=environment, kind=kind)
    }
    begun = [
        dict(note.data) for note in journal.events(environment=environment, kind=BEGAN) if note.data["run"] not in over
    ]
    return begun[-1] if begun else None


class Outage(Value, frozen=True):
    """A recovery that has closed the application.

    Args:
        actor: who closed it.
        since, deadline: Unix seconds.
        fence: whether the fence stands in the database, None: not known, or there is none to ask.
    """

    run: str
    actor: str
    since: float
    deadline: float
    fence: bool | None = None


def read_outage(tools: Toolbox, *, shows_page: bool) -> Outage | None:
    """Return the outage that goes on, by this journal or by the fence itself; None: there is none.

    Args:
        shows_page: whether a maintenance page is live, whoever showed it.
    """
    noted = find_outage(tools)
    if noted is None and not shows_page and tools.platform.maintenance is not None:
        return None  # where a page would tell, the database is not asked each time
    mark, is_known = None, False
    if tools.recovery.fence is not None:
        with suppress(BackoutError):
            mark, is_known = tools.recovery.fence().read(), True
    stands = mark is not None if is_known else None
    if mark is not None:
        return Outage(mark.run, mark.actor, mark.raised_at, mark.deadline, stands)
    if noted is None:
        return None
    return replace(make_outage(noted), fence=stands)


@contextmanager
def keep_deadline(tools: RecoverTools, run: str, every_s: float = LOOKED_AFTER_S) -> Iterator[None]:
    """Tell people while the block runs, once the deadline of a run's outage has passed: a step may take longer."""
    over = Event()

    def look() -> None:
        while not over.wait(every_s):
            with suppress(BackoutError):  # a journal that is busy is asked again
                tell_overdue(tools, run)

    looking = Thread(target=look, name="backout-deadline", daemon=True)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()


def tell_overdue(tools: RecoverTools, run: str) -> None:
    """Tell people, once, that the deadline of a run's outage has passed."""
    noted = find_outage(tools.tools)
    if noted is not None and noted["run"] == run:
        tell_late(tools.tools, make_outage(noted))


def make_outage(noted: Mapping[str, Json]) -> Outage:
    """Return the outage of a note."""
    at, deadline = (decode_values(noted[name], float) for name in ("at", "deadline"))
    return Outage(str(noted["run"]), str(noted["actor"]), at, deadline)


def tell_late(tools: Toolbox, outage: Outage) -> None:
    """Tell people, once, if the deadline of an outage has passed."""
    run, environment = outage.run, tools.environment
    if tools.clock.now() < outage.deadline:
        return
    title = f"{environment} is still closed for its recovery: the deadline was {format_time(outage.deadline)}"
    text = (
        f"{outage.actor} closed it at {format_time(outage.since)}. Nothing opens by itself: resume the run, take it "
        "back, or take the fence away."
    )
    ways = (
        f"backout runs resume {run}",
        f"backout recover --undo -e {environment}",
        f"backout unfence -e {environment}",
    )
    tell(tools, NoticeKind.FAILED, title, text, key=f"overdue {run}", run=run, next=ways)
