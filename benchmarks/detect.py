"""How fast bad deployments are found, and how many healthy ones are rolled back: backout, an oracle and other tools.

All detectors see the same simulated, seeded watches, twice: *exact* (counts of every second) and *production-shaped*
(90 s late, a tenth of the requests, no status codes: of all failures only the half that raised). The oracle knows both
distributions. The ratios are class medians, over scenarios of 5 requests/s and more, of median delay / oracle.
Goals: errors <= 2.0, latency and tail <= 3.0, leak <= 1.6, no healthy deployment rolled back, an outage found in 5 s.
Latency is judged from the first second on (`slow_start = 0`, as in a replay without a configuration), but for the two
noises that a slow start is forgiven for: cold starts that were not declared, and a busy host.

`--answers` measures shifts in what is answered instead (404, 401, redirects, and what only looks like them), by the
live detector. Goals: whole-site shifts in splits and extinctions <= 2.5, one route <= 3.5; of healthy deployments at
most 4 of 10,000 rolled back for each noise, and at 5 requests/s and more 90 % end healthy.

`--noise NAME` measures healthy watches of a noise alone, by backout alone, with the default `slow_start`. Goal: at most
4 of 10,000 rolled back for each noise.

`--blips` measures failures of two seconds that heal, which are no reason to roll back, and failures that go on.

With `--against COMMIT` the detector of that commit judges the same watches of bad deployments beside today's;
`new_over_old` is the mean delay. Goal: at most 1.03.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from shared import answers_report, answers_runs, blips, detect_against, versions
from shared import detect_report as report
from shared import measure as shared
from shared.detect_chart import chart
from shared.detect_runs import measure, plan, plan_alone, plan_noise
from shared.detect_scenarios import Noise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.answers_report import Results
    from shared.answers_scenarios import Scenario

    Plan = Sequence[tuple[Scenario, int]]

DOCS = Path(__file__).parents[1] / "docs"


def main() -> None:
    """Simulate, and print tables or one `backout.benchmark/1`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--quick", action="store_const", const="quick", dest="size", help="few scenarios and runs")
    parser.add_argument("--full", action="store_const", const="full", dest="size", help="10,000 watches of each noise")
    parser.add_argument("--seed", type=int, default=1, help="decides every draw")
    parser.add_argument("--jobs", type=int, default=1, help="processes; they change no figure")
    parser.add_argument(
        "--write-docs", action="store_true", help="write tables and chart into docs/research/detection.md"
    )
    parser.add_argument("--answers", action="store_true", help="measure shifts in what is answered")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="go on from what was measured before")
    parser.add_argument("--for-minutes", type=float, default=float("inf"), help="of --answers: stop then, with --keep")
    parser.add_argument(
        "--noise",
        action="append",
        type=Noise,
        metavar="NAME",
        help=f"measure healthy watches of this noise alone; may be repeated: {', '.join(Noise)}",
    )
    parser.add_argument("--blips", action="store_true", help="measure failures that heal after two seconds")
    parser.add_argument("--against", metavar="COMMIT", default="", help="measure beside backout at a commit")
    options = parser.parse_args()
    if options.for_minutes < float("inf") and not (options.answers and options.keep):
        parser.error("--for-minutes goes with --answers and --keep FILE")
    size = options.size or "standard"
    if options.against:
        _against(options, size)
        return
    if options.answers:
        _answers(options, size)
        return
    if options.noise:
        _noise(options, size)
        return
    if options.blips:
        _blips(options, size)
        return
    try:
        figures = measure(plan(size), options.seed, alone=plan_alone(size), jobs=options.jobs, keep=options.keep)
    except LookupError as error:
        sys.exit(f"detect: {error.args[0]}")
    if options.write_docs:
        (DOCS / "research" / "detection.svg").write_text(chart(figures), encoding="utf-8")
    text = report.text(figures)
    _tell(options, text, report.record(figures), "", f"{size} counts", page=f"{report.PICTURE}\n\n{text}")


def _against(options: argparse.Namespace, size: str) -> None:
    with tempfile.TemporaryDirectory(prefix="backout-bench-") as folder:
        old = detect_against.delays_at(options.against, size, options.seed, Path(folder))
    found = detect_against.compared(detect_against.delays(size, options.seed), old, size)
    print(shared.as_json(found) if options.json else f"detect beside {options.against}\n{versions.table(found)}")


def _answers(options: argparse.Namespace, size: str) -> None:
    chosen = answers_runs.plan(size)
    found = answers_runs.measure(
        chosen, options.seed, jobs=options.jobs, keep=options.keep, within_s=60 * options.for_minutes
    )
    record = report.answers_record(answers_report.samples(found))
    _tell(options, answers_report.text(found), record, "answers", _describe_counts(size, chosen, found))


def _noise(options: argparse.Namespace, size: str) -> None:
    figures = measure([], options.seed, alone=plan_noise(options.noise, size), jobs=options.jobs, keep=options.keep)
    _tell(options, report.noise_text(figures), report.noise_record(figures), "noise", f"{size} counts")


def _blips(options: argparse.Namespace, size: str) -> None:
    found = blips.measure(blips.plan(size), options.seed, options.jobs)
    _tell(options, blips.text(found), blips.record(found), "blips", f"{size} counts")


def _tell(
    options: argparse.Namespace, text: str, record: dict[str, object], part: str, counts: str, *, page: str = ""
) -> None:
    """Print what was measured, and with `--write-docs` put it into its part of the page.

    Args:
        part: the name of the part.
        counts: how much was measured, in words.
        page: what the page gets, where that is not the text.
    """
    if options.write_docs:
        where = DOCS / "research" / "detection.md"
        report.write_into(where, page or text, part, f"{counts}, seed {options.seed}")
    if options.json:
        print(shared.as_json(record))
        return
    print(text)
    print(f"{sum(os.times()[:4]):.0f} s of CPU")


def _describe_counts(size: str, chosen: Plan, found: Results) -> str:
    measured, whole = sum(len(each.ends) for each in found.values()), sum(n for _, n in chosen)
    return f"{size} counts" + ("" if measured == whole else f", {measured:,} of {whole:,} watches so far")


if __name__ == "__main__":
    main()
