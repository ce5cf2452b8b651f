"""What acts on requests of the pages, from a configuration: each is this program, started once more, as if typed."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace as replace_values

from backout.config.overlay import REQUEST_ENV, REQUESTER_ENV
from backout.errors import UsageError
from backout.model.action_request import Act
from backout.providers.child_environment import make_module_command
from backout.providers.clock import SystemClock
from backout.runbook.serve.overviews import find_run
from backout.runbook.worker.request_runner import LONGEST, RequestRunner, make_words
from backout.wiring.records import find_actor
from backout.wiring.worker_child import WorkerChild

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.config import Config
    from backout.model.action_request import ActionRequest
    from backout.ports import Runs
    from backout.wiring.worker import WorkerJournal

_TARGET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
_LONGEST_LINE: Final = 2000


def make_request_runner(
    config: Config,
    journal: WorkerJournal,
    tell: Callable[[str, str], None],
    wake: Callable[[str], None],
    *,
    options: tuple[str, ...] = (),
) -> RequestRunner:
    """Return what acts on the requests in the environments of a worker.

    Args:
        tell: is told what becomes of a request: (environment, sentence).
        wake: has whoever guards an environment look at once.
        options: further global options of each command.
    """
    first = replace(config, chosen=next(iter(config.settings.environments)))
    book = journal.open_beside(first)  # for notes of whichever environment

    def start(request: ActionRequest) -> WorkerChild:
        check_target(book, request)
        masked = replace_values(request, why=config.variables.mask_text(request.why))  # it becomes a word of a command
        file = config.path.absolute()
        argv = make_module_command(
            "backout", "--config", str(file), "-e", request.environment, "--no-input", "--json", *options,
            *make_words(masked),
        )  # fmt: skip

        def hear(line: str) -> None:
            tell(request.environment, config.variables.mask_text(line)[:_LONGEST_LINE])

        # Who asked for it asked for the plan that it makes, and is who acts.
        given = {REQUEST_ENV: str(request.id), REQUESTER_ENV: request.by}
        return WorkerChild(argv, str(file.parent), hear, str(request.id), answers=True, given=given)

    return RequestRunner(book, SystemClock(), start, tell, wake, actor=f"{find_actor()} {journal.name}")


def check_target(runs: Runs, request: ActionRequest) -> None:
    """Raise UsageError where the target is none that such a request may have: a run is one of its environment.

    The command itself goes by the run alone, wherever that is.
    """
    check_target_text(request.act, request.target)
    if request.act in (Act.RESUME, Act.UNDO) and find_run(runs, request.environment, request.target) is None:
        raise UsageError(f"there is no run {request.target!r}", where=request.environment)


def check_target_text(act: Act, target: str) -> None:
    """Raise UsageError where a text is no version, run or duration, or a run is missing."""
    if target and (len(target) > LONGEST or not _TARGET.fullmatch(target)):
        raise UsageError("that is no version, run or duration", where="target")
    if act in (Act.RESUME, Act.UNDO) and not target:
        raise UsageError("it names no run", where="target")
