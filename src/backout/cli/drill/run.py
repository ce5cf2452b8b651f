"""`backout drill run`: drills on a twin of their own, one after the other."""

from __future__ import annotations

import contextlib
import functools
import secrets
import time
from collections import deque
from typing import TYPE_CHECKING

import click
from msgspec.structs import replace

from backout.cli.drill.support import (
    choose_drills,
    choose_place,
    directory_option,
    drills_option,
    leave_out,
    list_rest,
    make_teller,
    open_history,
    read_config,
    read_drills,
)
from backout.cli.support.options import Command, pass_shell
from backout.cli.twin_env import choose_folder
from backout.errors import BackoutError, Busy, Interrupted, PartlyDone, UsageError
from backout.model.drill import DrillPlace, DrillRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.config.drills import Drill
    from backout.model.drill import DrillResult
    from backout.ports import Journal
    from backout.wiring.drills.ground import Ground

_OPENING_POLL_S = 0.5


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
  backout drill run --all --home hosts       # on a host behind Caddy in place of Cloudflare
""",
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "every", is_flag=True, help="All drills that take place on the twin.")
@click.option(
    "--side-by-side/--one-by-one",
    "in_pairs",
    default=None,
    help="Two at a time where they do not touch the same; as with --all.",
)
@click.option(
    "--home",
    type=click.Choice(("cloudflare", "hosts")),
    default=None,
    help="Where the application runs; default: as in backout.toml, without one cloudflare.",
)
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
    in_pairs: bool | None,
    home: str | None,
    times: int,
    resume: bool,
    dry_run: bool,
    own: Path | None,
    directory: Path,
) -> int:
    """Run drills: on a twin that is started for them, nothing of yours is touched.

    Each breaks something on purpose while the real program watches, and is measured from the visitors' side. Exit code
    1 when one of them missed what was expected. After Ctrl-C the same command with --resume runs the rest. Side by
    side, each has an application of its own; those that break what both use are run alone. On
    hosts they are run one by one; drills of what only Cloudflare has are left out there, by name.
    """
    from backout.cli.support.runbook import name_runbook
    from backout.runbook.incident.drills import list_newest_batch
    from backout.wiring.drills.rehearsal import check_there

    config = read_config(shell)
    journal = open_history(shell, config, directory)
    before = list_newest_batch(journal) if resume else ()
    place = choose_place(home, config, before)
    chosen = leave_out(shell, choose_drills(read_drills(shell, config, own), names, every=every), place, every=every)
    for each in chosen:
        if each.file.environment is not DrillPlace.TWIN:
            check_there(each, config)
    if resume and not before:
        raise UsageError(
            "no run of drills to go on with", where="backout drill run --resume", hint="backout drill list"
        )
    records = [each for each in before if each.result is not None]
    rest = list_rest(chosen * times, records)
    if dry_run:
        return _show_plan(shell, rest, 1 if resume else times, directory)
    if rest:
        batch = before[0].batch if before else f"drills-{secrets.token_hex(4)}"
        try:
            performer = _Performer(config, choose_folder(shell, directory), make_teller(shell), place)
            pairs = place is DrillPlace.TWIN and (every if in_pairs is None else in_pairs)
            for record in _perform_all(performer, journal, rest, batch, in_pairs=pairs):
                records.append(record)  # noqa: PERF402 - what has ended is known after Ctrl-C, too
        except (Interrupted, KeyboardInterrupt) as error:
            shell.output.say(_format_results(shell, records))
            flags = [] if in_pairs is None else ["--side-by-side" if in_pairs else "--one-by-one"]
            flags += [] if home is None else [f"--home {home}"]
            words = " ".join([*(names or ["--all"]), *([f"--times {times}"] if times > 1 else []), *flags])
            what = f"stopped; {len(records)} of {len(chosen) * times} drills have ended"
            raise Interrupted(what, hint=f"backout drill run {words} --resume") from error
    records.sort(key=lambda record: record.at)
    code = _show_results(shell, chosen, records)
    if config is not None:
        name_runbook(shell, config)
    return code


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
    performer: _Performer, journal: Journal, chosen: Sequence[Drill], batch: str, *, in_pairs: bool
) -> Iterator[DrillRecord]:
    """Perform drills at one place, and yield what became of each as it ends.

    Args:
        in_pairs: first those that can take place side by side, two at a time, then the others.
    """
    from backout.wiring.drills.records import make_drill_lock

    lock, folder = make_drill_lock(performer.folder), str(performer.folder)
    if not lock.take():
        raise Busy("another drill is at work there", where=folder, hint="wait for it, or name another --dir")
    try:
        with contextlib.closing(performer):
            log = _Log(journal, batch, performer.say, len(chosen), performer.place)
            if any(each.file.environment is DrillPlace.TWIN for each in chosen):
                performer.open_ground()
            side = [each for each in chosen if in_pairs and not each.file.needs_twin_alone]
            if side:
                yield from _perform_in_pairs(performer, log, side)
            for drill in chosen:
                if drill not in side:
                    started = log.start(drill)
                    note = functools.partial(log.note_breaking, started)
                    record = log.end(started, functools.partial(performer.perform, drill, note))
                    yield record
                    log.tell(record)
    finally:
        lock.free()


class _Performer:
    """Performs drills; the twin is started for the first one that takes place on it."""

    def __init__(
        self,
        config: Config | None,
        folder: Path,
        say: Callable[[str], None],
        place: DrillPlace = DrillPlace.TWIN,
    ) -> None:
        self._config = config
        self.folder = folder
        self.place = place
        self.say = say
        self._ground: Ground | None = None

    def perform(self, drill: Drill, note: Callable[[str, str, str], None]) -> DrillResult:
        if drill.file.environment is not DrillPlace.TWIN:
            from backout.wiring.drills.rehearsal import perform_there

            return perform_there(self._config, drill, self.folder / "elsewhere", self.say, note)
        from backout.wiring.drills.performing import perform_drill

        return perform_drill(self.open_ground(), drill, self.say)

    def open_ground(self) -> Ground:
        """Return the twin's place, started. Raises BackoutError: it could not be."""
        if self._ground is None:
            from backout.wiring.drills.ground import open_ground
            from backout.wiring.drills.simulation import read_rules

            self.say("starting a twin, and having guard prove the good version")
            self._ground = open_ground(self.folder, self.say, read_rules(self._config), place=self.place)
        return self._ground

    def make_second(self) -> Ground:
        """Return another place on the same twin, not opened yet."""
        from backout.wiring.drills.ground import BESIDE, Ground
        from backout.wiring.drills.simulation import read_rules

        return Ground(self.folder / BESIDE, self.say, read_rules(self._config), beside=self.open_ground())

    def close(self) -> None:
        """Stop the twin."""
        if self._ground is not None:
            self._ground.close()


class _Log:
    """What is recorded and said of each drill: its beginning before anything is done, its end after it."""

    def __init__(
        self,
        journal: Journal,
        batch: str,
        say: Callable[[str], None],
        number: int,
        place: DrillPlace = DrillPlace.TWIN,
    ) -> None:
        from backout.wiring.drills.records import read_actor

        self._journal = journal
        self._batch = batch
        self._say = say
        self._number = number
        self._place = place
        self._started = 0
        self._actor = read_actor()

    def start(self, drill: Drill) -> DrillRecord:
        from backout.runbook.incident.drills import record_start

        self._started += 1
        run, place = f"drill-{secrets.token_hex(4)}", drill.file.environment
        place = self._place if place is DrillPlace.TWIN else place
        self._say(f"{self._started} of {self._number}: {drill.name}")
        record_start(self._journal, run, drill.name, place, actor=self._actor, batch=self._batch)
        return DrillRecord(run, drill.name, place, time.time(), batch=self._batch)

    def note_breaking(self, record: DrillRecord, environment: str, good: str, bad: str) -> None:
        """Record what has to be live again in an environment of the team's own, before it is broken and after."""
        from backout.runbook.incident.drills import record_breaking, record_broken

        if bad:
            record_broken(self._journal, record.run, record.name, bad, actor=self._actor)
        else:
            record_breaking(self._journal, record.run, record.name, environment, good, actor=self._actor)

    def end(self, record: DrillRecord, find: Callable[[], DrillResult]) -> DrillRecord:
        """Return the record with its result, or why there is none. Raises Interrupted; PartlyDone: staging is bad."""
        from backout.runbook.incident.drills import record_end, record_failure

        try:
            result = find()
        except Interrupted:
            raise
        except BackoutError as error:
            why = f"{error}; {error.hint}" if error.hint else str(error)
            record_failure(self._journal, record.run, record.name, record.environment, why, actor=self._actor)
            if isinstance(error, PartlyDone) and record.environment is DrillPlace.STAGING:
                raise
            return replace(record, why=why)
        record_end(self._journal, record.run, result, actor=self._actor)
        return replace(record, result=result)

    def tell(self, record: DrillRecord, prefix: str = "") -> None:
        """Say how it ended."""
        result = record.result
        self._say(prefix + (f"not performed: {record.why}" if result is None else _describe(result)))


def _perform_in_pairs(performer: _Performer, log: _Log, chosen: Sequence[Drill]) -> Iterator[DrillRecord]:
    """Perform drills at two places on one twin, and yield what became of each as it ends."""
    from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

    from backout.wiring.drills.performing import perform_drill

    first = performer.open_ground()
    second = performer.make_second() if len(chosen) > 1 else None
    free, waiting = [first], deque(chosen)
    running: dict[Future[DrillResult], tuple[DrillRecord, Ground]] = {}

    def perform(ground: Ground, drill: Drill) -> DrillResult:
        return perform_drill(ground, drill, lambda text: performer.say(f"{drill.name}: {text}"))

    with contextlib.ExitStack() as ends:
        if second is not None:
            ends.callback(second.close)  # once the other threads have ended
        pool = ends.enter_context(ThreadPoolExecutor(2))
        opening: Future[None] | None = None if second is None else pool.submit(second.open)
        try:
            while waiting or running:
                if second is not None and opening is not None and opening.done():
                    if (error := opening.exception()) is None:
                        free.append(second)
                    else:  # of whatever kind: the first place will do
                        performer.say(f"one at a time, as there is no second place: {_describe_error(error)}")
                    opening = None
                while waiting and free:
                    drill, ground = waiting.popleft(), free.pop()
                    record = log.start(drill)
                    running[pool.submit(perform, ground, drill)] = record, ground
                opening_s = None if opening is None else _OPENING_POLL_S
                for done in wait(running, opening_s, return_when=FIRST_COMPLETED).done:
                    record, ground = running.pop(done)
                    free.append(ground)
                    ended = log.end(record, done.result)
                    yield ended
                    log.tell(ended, f"{ended.name}: ")
        finally:
            is_cut_short = bool(running or waiting)  # Ctrl-C: what is under way counts as interrupted
            if is_cut_short:
                first.stop()
            if second is not None and (is_cut_short or opening is not None):
                second.stop()


def _describe_error(error: BaseException) -> str:
    return str(error) if isinstance(error, BackoutError) else f"{type(error).__name__}: {error}"


def _describe(result: DrillResult) -> str:
    measured = result.measured
    back = "" if measured.rto_s is None else f", {measured.bad_requests} bad requests in {measured.rto_s:.1f} s"
    seen = f"; {measured.detail}" if measured.detail and result.environment is not DrillPlace.TWIN else ""
    return f"{'passed' if result.passed else 'MISSED'}: {measured.action}{back}{seen}"


def _format_results(shell: Shell, records: Sequence[DrillRecord]) -> str:
    """Return a table of what became of each drill, what was lost or missed, and how many passed."""
    from backout.cli.drill.support import mark_ends
    from backout.report.drill_tables import HEADERS, make_row

    mark = mark_ends(shell)
    table = shell.output.table(HEADERS, [make_row(record, mark) for record in records], whole=True)
    passed = f"{sum(_has_passed(each) for each in records)} of {len(records)} passed"
    return f"{table}\n{passed}"


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
