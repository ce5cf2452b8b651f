"""A plan that waits for an approval is told to whoever may give it, where no tools of the command tell of failures."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from backout.errors import BackoutError, DecisionNeeded
from backout.model.incident.incident import RunState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.cli.support.shell import Shell
    from backout.ports import Runs


@contextmanager
def telling_who_approves(shell: Shell, runs: Runs, run: str) -> Iterator[None]:
    """Send a notice when the block ends because the run waits for an approval."""
    try:
        yield
    except DecisionNeeded as error:
        found = runs.find(run)
        if found is not None and found.state is RunState.WAITING:
            _tell(shell, found.environment.partition("/")[0], run, found.plan.why, error)
        raise


def _tell(shell: Shell, environment: str, run: str, why: str, error: DecisionNeeded) -> None:
    from backout.model.incident.notice import Notice, NoticeKind
    from backout.wiring import clock
    from backout.wiring.telling import make_notifier

    if shell.notifier is None:
        shell.notifier = make_notifier(shell.config())
    if shell.notifier is None:
        return
    notice = Notice(
        kind=NoticeKind.HELD,
        environment=environment,
        at=clock.now(),
        title=f"{environment}: {run} waits for an approval",
        text=f"{error.what}. The plan: {why}.",
        key=f"{run}:{type(error).__name__}:{error}",
        run=run,
        next=(f"backout runs approve {run} -m WHY", f"backout runs abort {run} -m WHY"),
    )
    try:
        shell.notifier.tell(notice)
    except BackoutError as trouble:
        shell.output.warn(f"no notice could be sent: {trouble.what}")
