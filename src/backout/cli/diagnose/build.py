"""`backout diagnose build`: why a build failed, from the pipeline, from a log, or run here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support.options import Command, pass_shell
from backout.cli.support.piped import open_piped
from backout.errors import BackoutError, UsageError
from backout.model.setting import describe_setting

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.model.incident.builds import BuildRun
    from backout.model.incident.diagnosis import Diagnosis


@click.command(
    "build",
    cls=Command,
    short_help="Explain why the build failed.",
    context_settings={"ignore_unknown_options": True},
    epilog="""
Examples:
  backout diagnose build -e production         # the newest run of the pipeline
  backout diagnose build -e production --commit 9d3ac17
  backout diagnose build --log build.log
  backout diagnose build -- npm run build      # run it here, and say what failed
""",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--log", "log_file", metavar="FILE", help="A log file, or - for standard input.")
@click.option("--commit", metavar="SHA", help="The pipeline's runs of this commit.")
@pass_shell
def build(shell: Shell, *, command: tuple[str, ...], log_file: str | None, commit: str | None) -> int:
    """Name the build step that failed, and why. A failed build is not live, so nothing is rolled back.

    Without COMMAND and --log, the pipeline is asked (`ci` of backout.toml). Exit codes: 0 it did not fail, 1 it did, 7
    it is still running, or nothing ever ran.
    """
    from backout.analysis.diagnosis.build import diagnose_build
    from backout.analysis.diagnosis.signatures import Classifier
    from backout.wiring.diagnosis import load_catalogue

    if sum((bool(command), log_file is not None, commit is not None)) > 1:
        raise UsageError("COMMAND, --log and --commit exclude each other", hint="backout diagnose build --help")
    known = load_catalogue()
    classifier = Classifier(known)
    if command:
        code, log = _run(shell, command)
        if code == 0:
            return _answer_without_failure(shell, "the build passed")
        return _print_diagnosis(shell, diagnose_build(log, known, classifier, step=_describe_command(command)))
    if log_file is not None:
        return _print_diagnosis(shell, diagnose_build(_read(shell, log_file), known, classifier))
    from backout.model.incident.builds import BuildState
    from backout.wiring.pipelines import make_builds

    config = shell.config()
    builds = make_builds(config)
    if builds is None:
        add = describe_setting("environments", config.name, "ci", provider="github", repository="OWNER/NAME")
        hint = f"{add}; or use --log FILE, or -- COMMAND"
        raise UsageError("no pipeline is set up to ask", where=config.name, hint=hint)
    run = builds.latest(commit or "")
    if run is None or run.state is BuildState.RUNNING:
        shell.output.result(
            "diagnosis", _make_empty_record(), "no run yet" if run is None else f"{run.name} still runs: {run.url}"
        )
        return 7
    job = run.failed_job
    if run.state is BuildState.SUCCESS or job is None:
        return _answer_without_failure(shell, f"{run.name} of {run.commit[:12]}: {run.state}", run)
    found = diagnose_build(
        builds.log(job.id), known, classifier, step=f"{job.name}: {job.failed_step}", environment=config.name
    )
    return _print_diagnosis(shell, found, run)


def _run(shell: Shell, command: tuple[str, ...]) -> tuple[int, str]:
    """Run a command here, show its output as it comes, and return its exit code and all of its output."""
    import subprocess

    from backout.analysis.diagnosis.log_text import strip_colours
    from backout.wiring.diagnosis import build_environment

    try:
        with subprocess.Popen(
            command,
            cwd=shell.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=build_environment(shell.environment.variables),
        ) as process:
            assert process.stdout is not None
            said = bytearray()
            for line in process.stdout:
                said += line
                shell.output.say(strip_colours(line.decode("utf-8", "replace").rstrip("\n")))
        return process.returncode, said.decode("utf-8", "replace")
    except OSError as error:
        raise UsageError(f"cannot be run: {error.strerror}", where=command[0]) from error


def _describe_command(command: tuple[str, ...]) -> str:
    """Return a command as the name of a step: leading programs and scripts without their folders."""
    return " ".join([*(word.rpartition("/")[2] or word for word in command[:2]), *command[2:]])


def _read(shell: Shell, name: str) -> str:
    try:
        with open_piped() if name == "-" else (shell.folder / name).open("rb") as stream:
            data = stream.read()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UsageError("no such file", where=name) from error
    except OSError as error:
        raise BackoutError(f"cannot be read: {error.strerror}", where=name) from error
    return data.decode("utf-8", "replace")


def _print_diagnosis(shell: Shell, found: Diagnosis | None, run: BuildRun | None = None) -> int:
    if found is None:
        return _answer_without_failure(shell, "the log speaks of no failure", run)
    from backout.cli.support.paint import paint_for
    from backout.report.incident import diagnosis as words

    style = shell.output.style
    human = words.format_text(found, width=style.width, paint=paint_for(style))
    if run is not None and run.url:
        human = f"{run.name} of {run.commit[:12]}: {run.url}\n\n{human}"
    shell.output.result("diagnosis", {**words.make_record(found), "url": run.url if run is not None else None}, human)
    shell.output.next(*[step for step in found.next if step.startswith("backout ")])
    return 1


def _answer_without_failure(shell: Shell, text: str, run: BuildRun | None = None) -> int:
    url = run.url if run is not None else None
    shell.output.result("diagnosis", {**_make_empty_record(), "title": text, "url": url}, text)
    return 0


def _make_empty_record() -> dict[str, object]:
    """Return the record of a build that did not fail."""
    from backout.model.incident.diagnosis import UNKNOWN, Diagnosis, RollbackAdvice, Scenario
    from backout.report.incident import diagnosis as words

    return words.make_record(Diagnosis(Scenario.NO_ACTION, UNKNOWN, 0.0, None, RollbackAdvice.NOT_NEEDED, ""))
