"""`backout drill run`: drills on a twin of their own, one after the other."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections import Counter
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from backout.cli.drill.support import (
    choose_drills,
    directory_option,
    drills_option,
    open_history,
    read_config,
    read_drills,
)
from backout.cli.support.options import Command, pass_shell
from backout.cli.twin_env import choose_folder
from backout.errors import BackoutError, Busy, Interrupted, UsageError
from backout.model.drill import DrillPlace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.config.drills import Drill
    from backout.model.drill import DrillRecord, DrillResult
    from backout.ports import Journal
    from backout.wiring.drills.ground import Ground


@click.command(
    "run",
    cls=Command,
    short_help="Run drills on a twin of their own, and measure them.",
    epilog="""
Examples:
  backout drill run throws
  backout drill run throws slow-tail --times 3
  backout drill run --all
  backout drill run --all --dry-run          # which, and what each of them does
  backout drill run --all --resume           # goes on where it was interrupted
""",
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "every", is_flag=True, help="All drills that take place on the twin.")
@click.option("--times", type=click.IntRange(1, 100), default=1, show_default=True, help="Each of them so often.")
@click.option("--resume", is_flag=True, help="Go on where the newest run of drills stopped; its results count.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@drills_option
@directory_option
@pass_shell
def run(
    shell: Shell,
    *,
    names: tuple[str, ...],
    every: bool,
    times: int,
    resume: bool,
    dry_run: bool,
    own: Path | None,
    directory: Path,
) -> int:
    """Run drills: on a twin that is started for them, nothing of yours is touched.

    Each breaks something on purpose while the real program watches, and is measured from the visitors' side. Exit code
    1 when one of them missed what was expected. After Ctrl-C the same command with --resume runs the rest.
    """
    from backout.cli.support.runbook import name_runbook
    from backout.runbook.incident.drills import list_newest_batch
    from backout.wiring.drills.rehearsal import check_there

    config = read_config(shell)
    chosen = choose_drills(read_drills(shell, config, own), names, every=every)
    for each in chosen:
        if each.file.environment is not DrillPlace.TWIN:
            check_there(each, config)
    journal = open_history(shell, config, directory)
    before = list_newest_batch(journal) if resume else ()
    if resume and not before:
        raise UsageError(
            "no run of drills to go on with", where="backout drill run --resume", hint="backout drill list"
        )
    records = [each for each in before if each.result is not None]
    rest = _list_rest(chosen * times, records)
    if dry_run:
        return _show_plan(shell, rest, 1 if resume else times, directory)
    if rest:
        batch = before[0].batch if before else f"drills-{secrets.token_hex(4)}"
        try:
            place = choose_folder(shell, directory)
            for record in _perform_all(shell, config, journal, place, rest, batch):
                records.append(record)  # noqa: PERF402 - what has ended is known after Ctrl-C, too
        except (Interrupted, KeyboardInterrupt) as error:
            shell.output.say(_format_results(shell, records))
            words = " ".join([*(names or ["--all"]), *([f"--times {times}"] if times > 1 else [])])
            what = f"stopped; {len(records)} of {len(chosen) * times} drills have ended"
            raise Interrupted(what, hint=f"backout drill run {words} --resume") from error
    code = _show_results(shell, chosen, records)
    if config is not None:
        name_runbook(shell, config)
    return code


def _list_rest(wanted: Sequence[Drill], ended: Sequence[DrillRecord]) -> tuple[Drill, ...]:
    """Return what is still to be run."""
    done, rest = Counter(each.name for each in ended), []
    for drill in wanted:
        if done[drill.name] > 0:
            done[drill.name] -= 1
        else:
            rest.append(drill)
    return tuple(rest)


def _show_plan(shell: Shell, chosen: Sequence[Drill], times: int, directory: Path) -> int:
    rows, records = [], []
    for drill in {each.name: each for each in chosen}.values():
        file = drill.file
        faults = [fault.kind for fault in file.fault]
        what = [f"deploy {file.deploy.variant}"] if file.procedure == "deployment" else [file.procedure]
        rows.append((drill.name, ", ".join([*what, *faults]), str(file.expect.action), file.title))
        records.append(
            {
                "name": drill.name,
                "environment": file.environment,
                "procedure": file.procedure,
                "variant": file.deploy.variant,
                "faults": faults,
                "expected_scenario": file.expect.scenario,
                "expected_action": file.expect.action,
            }
        )
    human = shell.output.table(("DRILL", "WHAT IS DONE", "EXPECTED", "WHAT HAPPENS"), rows, whole=True)
    shell.output.result("drills", {"dry_run": True, "times": times, "drills": records}, human)
    shell.output.say(f"\nnothing was done (dry run); a twin of their own would be started in {directory}")
    return 0


def _perform_all(
    shell: Shell, config: Config | None, journal: Journal, place: Path, chosen: Sequence[Drill], batch: str
) -> Iterator[DrillRecord]:
    """Perform drills one after the other at one place, and yield what became of each."""
    from backout.wiring.drills.records import make_drill_lock

    lock = make_drill_lock(place)
    if not lock.take():
        raise Busy("another drill is at work there", where=str(place), hint="wait for it, or name another --dir")
    began = time.monotonic()

    def say(text: str) -> None:
        style = shell.output.talk
        shell.output.say(f"{style.dim(f'{time.monotonic() - began:6.1f} s')}  {text}")

    try:
        with contextlib.closing(_Performer(config, place, say)) as performer:
            yield from _perform_each(journal, performer, chosen, batch)
    finally:
        lock.free()


class _Performer:
    """Performs drills; the twin is started for the first one that takes place on it."""

    def __init__(self, config: Config | None, place: Path, say: Callable[[str], None]) -> None:
        self._config = config
        self._place = place
        self.say = say
        self._ground: Ground | None = None

    def perform(self, drill: Drill) -> DrillResult:
        if drill.file.environment is not DrillPlace.TWIN:
            from backout.wiring.drills.rehearsal import perform_there

            return perform_there(self._config, drill, self._place / "elsewhere", self.say)
        from backout.wiring.drills.performing import perform_drill

        return perform_drill(self.open_ground(), drill, self.say)

    def open_ground(self) -> Ground:
        """Return the twin's place, started. Raises BackoutError: it could not be."""
        if self._ground is None:
            from backout.wiring.drills.ground import open_ground
            from backout.wiring.drills.simulation import read_rules

            self.say("starting a twin, and having guard prove the good version")
            self._ground = open_ground(self._place, self.say, read_rules(self._config))
        return self._ground

    def close(self) -> None:
        """Stop the twin."""
        if self._ground is not None:
            self._ground.close()


def _perform_each(
    journal: Journal, performer: _Performer, chosen: Sequence[Drill], batch: str
) -> Iterator[DrillRecord]:
    """Yield what became of each drill; its beginning is recorded before anything is done, its end after it."""
    from backout.model.drill import DrillRecord
    from backout.runbook.incident.drills import record_end, record_failure, record_start
    from backout.wiring.drills.records import read_actor

    actor, say = read_actor(), performer.say
    if any(each.file.environment is DrillPlace.TWIN for each in chosen):
        performer.open_ground()
    for number, drill in enumerate(chosen, 1):
        run, place = f"drill-{secrets.token_hex(4)}", drill.file.environment
        say(f"{number} of {len(chosen)}: {drill.name}")
        record_start(journal, run, drill.name, place, actor=actor, batch=batch)
        record = DrillRecord(run, drill.name, place, time.time(), batch=batch)
        try:
            result = performer.perform(drill)
        except Interrupted:
            raise
        except BackoutError as error:
            record_failure(journal, run, drill.name, place, str(error), actor=actor)
            say(f"not performed: {error}")
            yield replace(record, why=str(error))
            continue
        record_end(journal, run, result, actor=actor)
        say(_describe(result))
        yield replace(record, result=result)


def _describe(result: DrillResult) -> str:
    measured = result.measured
    back = "" if measured.rto_s is None else f", {measured.bad_requests} bad requests in {measured.rto_s:.1f} s"
    return f"{'passed' if result.passed else 'MISSED'}: {measured.action}{back}"


def _format_results(shell: Shell, records: Sequence[DrillRecord]) -> str:
    """Return a table of what became of each drill, what was missed, and how many passed."""
    from backout.cli.support.style import Tone
    from backout.report import drills as report

    style, rows = shell.output.style, []
    for record in records:
        cells = (record.name, *"-" * 6, "not performed") if record.result is None else report.format_row(record.result)
        rows.append((*cells[:-1], style.badge(cells[-1], Tone.GOOD if cells[-1] == "passed" else Tone.BAD)))
    missed = [f"{each.name}: {why}" for each in records for why in report.describe_missed(each)]
    passed = f"{sum(_has_passed(each) for each in records)} of {len(records)} passed"
    return "\n".join([shell.output.table(report.HEADERS, rows, whole=True), *missed, passed])


def _has_passed(record: DrillRecord) -> bool:
    return record.result is not None and record.result.passed


def _show_results(shell: Shell, chosen: Sequence[Drill], records: Sequence[DrillRecord]) -> int:
    from backout.report import drills as report

    expected = {drill.name: drill.expected for drill in chosen}
    results = [record.result for record in records if record.result is not None]
    told = [
        report.make_failure_record(record, expected.get(record.name))
        if record.result is None
        else report.make_result_record(record.result)
        for record in records
    ]
    passed = sum(map(_has_passed, records))
    payload = {
        "drills": told,
        "passed": passed,
        "median_rto_s": report.make_medians(results),
        "wrong_rollbacks": report.count_wrong_rollbacks(results),
    }
    shell.output.result("drills", payload, _format_results(shell, records))
    shell.output.next("backout drill report", "backout drill history")
    return 0 if passed == len(told) else 1
