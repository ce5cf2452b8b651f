"""`backout drill run`: drills on a twin of their own, one after the other."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import click

from backout.cli.drill.performer import Performer, perform_all
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
from backout.errors import BackoutError, Interrupted, UsageError
from backout.journal.stop import InterruptLatch
from backout.model.drill import DrillPlace, DrillRecord

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from backout.cli.support.shell import Shell
    from backout.config.drills import Drill


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
        interrupts = InterruptLatch()
        try:
            performer = Performer(config, choose_folder(shell, directory), make_teller(shell), place)
            pairs = place is DrillPlace.TWIN and (every if in_pairs is None else in_pairs)
            with interrupts:
                for record in perform_all(performer, journal, rest, batch, interrupts, in_pairs=pairs):
                    records.append(record)  # what has ended is known after Ctrl-C, too
                    interrupts.check()
        except (Exception, KeyboardInterrupt) as error:
            if not is_interrupt(error, interrupts):
                raise
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


def is_interrupt(error: BaseException, interrupts: InterruptLatch) -> bool:
    """Return whether drills ended by Ctrl-C; an error of backout's own, such as a bad staging, is told as itself."""
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return True
    return interrupts.requested and not isinstance(error, BackoutError)


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
