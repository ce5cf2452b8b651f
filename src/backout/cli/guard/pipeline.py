"""What a pipeline is told of a watch, however it ends: a page, outputs, the deployment's status.

None of it can change the verdict or the exit code: what cannot be delivered is reported once, as a warning.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from backout.cli.support import errors
from backout.cli.support.pages import append_to_file
from backout.errors import BackoutError
from backout.model.guard.pipeline import PipelineState
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.cli.support.shell import Shell
    from backout.ports import Pipeline

_ENDS = (Exception, KeyboardInterrupt, SystemExit)
_MOST_BYTES = 1_000_000


class Wanted(Value, frozen=True):
    """What was asked for: the files that the page and the outputs are appended to, and the deployment's status."""

    summary: str | None = None
    outputs: str | None = None
    status: bool = False


def run_and_tell(shell: Shell, wanted: Wanted, command: Callable[[], int]) -> int:
    """Run a command that ends with a result line of guard, or an error, and tell the pipeline how it ended."""
    if wanted == Wanted():
        return command()
    teller = _Teller(shell, wanted)
    teller.begin()
    try:
        code = command()
    except _ENDS as error:
        failure = errors.make_failure(error, shell.output.complete_command)
        teller.end(failure, errors.get_exit_code(error))
        raise
    teller.end(None, code)
    return code


class _Teller:
    def __init__(self, shell: Shell, wanted: Wanted) -> None:
        self._shell = shell
        self._wanted = wanted
        self._pipeline: Pipeline | None = None
        self._counts, self._requires_counts = True, False
        self._environment = shell.flags.environment or shell.environment.get("BACKOUT_ENVIRONMENT") or ""

    def begin(self) -> None:
        """Show that the deployment is being watched."""
        ci, url = None, ""
        try:
            config = self._shell.config()
            url = str(config.environment.health.url) if config.environment.health else ""
            self._environment, ci = config.name, config.environment.ci
            self._counts = config.environment.traffic.provider != "none"
            self._requires_counts = config.environment.guard.require_counts
        except BackoutError:
            pass  # the command itself reports that, and its end is still told
        if not self._wanted.status:
            return
        try:
            from backout.wiring.pipelines import make_pipeline

            self._pipeline = make_pipeline(self._shell.environment, ci, self._environment, url)
        except BackoutError as error:
            self._warn("the deployment's status is not shown", error)
        self._show(PipelineState.IN_PROGRESS, "backout watches it")

    def end(self, failure: dict[str, object] | None, code: int) -> None:
        """Tell how it ended; `code` is the exit code."""
        from backout.report.guard import summary

        told, failed = self._mask(self._shell.output.told), self._mask(failure)
        ended = summary.make_ending(
            told,
            failed,
            environment=self._environment,
            exit_code=code,
            counts=self._counts,
            requires_counts=self._requires_counts,
        )
        if self._wanted.outputs:
            append_to_file(self._shell, self._wanted.outputs, summary.format_outputs(ended), stands="the verdict")
        if self._wanted.summary:
            page = summary.format_markdown(ended, self._report(ended.report_path))
            append_to_file(self._shell, self._wanted.summary, page, stands="the verdict")
        self._show(ended.state, summary.describe_ending(ended))

    def _mask(self, payload: Mapping[str, object] | None) -> dict[str, object] | None:
        """Return a payload masked value by value, before a page escapes it, or a status is cut."""
        return None if payload is None else self._shell.redactor.record(payload)

    def _report(self, path: str) -> str:
        if not path:
            return ""
        try:
            with Path(path).open("rb") as file:
                return file.read(_MOST_BYTES).decode(errors="replace")
        except OSError:
            return ""  # its path is still told

    def _show(self, state: PipelineState, text: str) -> None:
        if self._pipeline is None:
            return
        try:
            self._pipeline.show(state, self._shell.redactor.redact(text))
        except BackoutError as error:
            self._pipeline = None  # said once
            self._warn("the deployment's status could not be set", error)

    def _warn(self, what: str, error: BackoutError) -> None:
        hint = f"; {error.hint}" if error.hint else ""
        self._shell.output.warn(f"{what}: {error}{hint} (the verdict stands)")
