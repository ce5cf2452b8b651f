"""Acts on what people ask for on the pages: takes each request once, starts the command for it, records its answer."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final, Protocol

from backout.errors import BackoutError
from backout.model.action_request import EVERY_KIND, Act, ActionRequest, RequestState, name_asker
from backout.runbook.serve.action_requests import FollowedRequests, describe_state, end_request, take_request

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from backout.model.plan import Json
    from backout.ports import Clock, NumberedJournal

LOOK_EVERY_S: Final = 0.5
"""How often a worker looks for requests while somebody looks at the pages: a person waits for it."""
RESTS_S: Final = 2.0
"""How often it does while nobody does: then only a program may ask, or whoever has only just come."""
MOST_AT_ONCE: Final = 8
"""Commands that one worker has at work for requests; the others wait, and expire."""
ENDS_WITHIN_S: Final = 60.0
_POLL_S: Final = 0.1
LONGEST: Final = 128
"""Characters of a target."""


class Answering(Protocol):
    """A command at work for a request, in a process of its own."""

    def wait(self, seconds: float) -> int | None:
        """Return its exit code, or None when it has not ended within that time."""
        ...

    def terminate(self) -> None:
        """Tell it to end (SIGTERM): it stops at the next boundary of a step."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...

    def read_answer(self) -> Mapping[str, Json]:
        """Return what it answered with `--json`, empty where that is nothing of the kind."""
        ...


def make_words(request: ActionRequest) -> tuple[str, ...]:
    """Return the words of the command that does what is asked for, behind `backout -e ENVIRONMENT`; pure.

    () for what needs none: whoever guards the environment is woken, and looks.
    """
    why = f"{request.why} {name_asker(request)}".strip()
    confirmed = ("--confirm", request.environment)
    target = () if not request.target else ("--", request.target)
    return {
        Act.PLAN: ("rollback", "--dry-run", *target),
        Act.DIAGNOSE: ("diagnose",),
        Act.REPORT: ("guard", "report"),
        Act.WATCH: (),
        Act.ROLLBACK: ("rollback", "-m", why, *confirmed, *target),
        Act.HOLD: ("hold", "-m", why, *(("--for", request.target) if request.target else ())),
        Act.UNHOLD: ("unhold", "-m", why),
        Act.RESUME: ("runs", "resume", "-m", why, *target),
        Act.UNDO: ("runs", "undo", "-m", why, *confirmed, *target),
    }[request.act]


class RequestRunner:
    """The requests of one worker; `look` is one thread's.

    A look where nothing was recorded since the last one is a single question, however many environments are guarded.

    Args:
        start: starts the command for a request. Raises BackoutError: it cannot be started.
        tell: is told what becomes of a request: (environment, sentence).
        wake: has whoever guards an environment look at once.
        actor: this worker, by a name that no other has.
    """

    def __init__(
        self,
        journal: NumberedJournal,
        clock: Clock,
        start: Callable[[ActionRequest], Answering],
        tell: Callable[[str, str], None],
        wake: Callable[[str], None] = lambda _environment: None,
        *,
        actor: str,
    ) -> None:
        self._journal, self._clock, self._start, self._tell = journal, clock, start, tell
        self._wake, self._actor = wake, actor
        self._followed: dict[str, FollowedRequests] = {}
        self._after = 0
        self._news: set[str] = set()
        self._at_work: dict[int, threading.Thread] = {}
        self._environments: dict[int, str] = {}

    @property
    def environments(self) -> Collection[str]:
        """Those in which a command is at work for a request."""
        return frozenset(self._environments.values())

    def look(self, held: Iterable[str], stop: threading.Event) -> None:
        """Take what waits in the environments that this worker guards, and begin it.

        Requests that another worker took, and which has lost the environment since, are recorded as lost.

        Raises:
            JournalUnavailable: nothing begins without a record.
        """
        self._at_work = {number: thread for number, thread in self._at_work.items() if thread.is_alive()}
        self._find_news()
        for name in held:
            for request in self._read(name):
                if stop.is_set() or len(self._at_work) >= MOST_AT_ONCE:
                    return
                self._consider(request, stop)

    def _find_news(self) -> None:
        """Have it known in which environments something was recorded of requests since the last look."""
        newest = self._journal.find_newest()
        if newest < self._after:  # the server lost the newest events
            self._followed = {}
        elif newest > self._after and self._followed:
            events = self._journal.events(kind=EVERY_KIND, after=self._after)
            self._news.update(event.environment for event in events)
        self._after = newest

    def _read(self, name: str) -> tuple[ActionRequest, ...]:
        """Return the requests of an environment that are not over."""
        followed = self._followed.get(name)
        if followed is not None and name not in self._news:
            return followed.known
        self._followed[name] = followed = followed or FollowedRequests(self._journal, name)
        found = followed.read()
        self._news.discard(name)
        return found

    def _consider(self, request: ActionRequest, stop: threading.Event) -> None:
        if request.id in self._at_work:
            return
        if request.state is RequestState.TAKEN:
            end_request(self._journal, request, RequestState.LOST, actor=self._actor)
            self._tell(request.environment, f"request {request.id} ({request.act}) was lost with {request.taken_by}")
        elif describe_state(request, self._clock.now()) is RequestState.EXPIRED:
            end_request(self._journal, request, RequestState.EXPIRED, actor=self._actor)
            self._tell(request.environment, f"request {request.id} ({request.act}) came too late, nothing is done")
        elif not take_request(self._journal, request, actor=self._actor):
            return
        elif not make_words(request):
            self._wake(request.environment)
            end_request(self._journal, request, RequestState.DONE, actor=self._actor, exit_code=0)
        else:
            thread = threading.Thread(
                target=self._run, args=(request, stop), name=f"backout-request-{request.id}", daemon=True
            )
            self._at_work[request.id] = thread
            self._environments[request.id] = request.environment
            thread.start()

    def _run(self, request: ActionRequest, stop: threading.Event) -> None:
        what = f"request {request.id} ({request.act}, asked for by {request.by})"
        self._tell(request.environment, f"{what} begins")
        began_at, code, answer = time.monotonic(), -1, dict[str, "Json"]()
        try:
            child = self._start(request)
            code = _await_end(child, stop)
            answer = dict(child.read_answer())
        except BackoutError as error:
            answer = {"error": "not-started", "message": str(error)}
            self._tell(request.environment, f"{what} cannot be started: {error.what}")
        state = RequestState.DONE if has_answered(request.act, code, answer) else RequestState.FAILED
        self._tell(request.environment, f"{what} ended with {code} after {time.monotonic() - began_at:.1f} s")
        self._environments.pop(request.id, None)
        try:
            end_request(self._journal, request, state, actor=self._actor, exit_code=code, answer=answer)
        except BackoutError as error:
            self._tell(request.environment, f"the end of {what} is not recorded: {error.what}")

    def join(self) -> None:
        """Wait until each command has ended, as its worker was told to."""
        for thread in self._at_work.values():
            thread.join()


def has_answered(act: Act, code: int, answer: Mapping[str, Json]) -> bool:
    """Whether a command did what it was asked for: a diagnosis that found something ends with 1, as `status` does."""
    return code == 0 or (act is Act.DIAGNOSE and code == 1 and bool(answer.get("cause")))


def _await_end(child: Answering, stop: threading.Event) -> int:
    """Return a command's exit code, once it has ended; in any case it has ended then."""
    try:
        while (code := child.wait(_POLL_S)) is None:
            if stop.is_set():
                child.terminate()
                code = child.wait(ENDS_WITHIN_S)
                break
    finally:
        child.kill()
    return -1 if code is None else code
