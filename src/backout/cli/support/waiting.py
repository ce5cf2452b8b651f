"""A plan that waits for an approval is told to whoever may give it, where no tools of the command tell of failures."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from backout.cli.support.glass import send_notice
from backout.errors import BackoutError, DecisionNeeded
from backout.model.incident.incident import RunState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.cli.support.shell import Shell
    from backout.model.incident.incident import Run
    from backout.ports import Runs


@contextmanager
def telling_who_approves(shell: Shell, runs: Runs, run: str) -> Iterator[None]:
    """Send a notice when the block ends because the run waits for an approval."""
    try:
        yield
    except DecisionNeeded as error:
        with suppress(BackoutError):  # who waits matters more than that nobody can be told
            found = runs.find(run)
            if found is not None and found.state is RunState.WAITING:
                _tell(shell, found, error)
        raise


def _tell(shell: Shell, run: Run, error: DecisionNeeded) -> None:
    from backout.model.incident.notice import Notice, NoticeKind
    from backout.wiring import clock

    environment = run.environment.partition("/")[0]
    notice = Notice(
        kind=NoticeKind.HELD,
        environment=environment,
        at=clock.now(),
        title=f"{environment}: {run.id} waits for an approval",
        text=f"{error.what[:1].upper()}{error.what[1:]}. The plan: {run.plan.why}.",
        key=f"{run.id}:{type(error).__name__}:{error}",
        run=run.id,
        next=(f"backout runs approve {run.id} -m WHY", f"backout runs abort {run.id} -m WHY"),
    )
    send_notice(shell, notice)
