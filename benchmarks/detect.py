"""How fast bad deployments are found, and how many healthy ones are rolled back: backout, an oracle and its peers.

All detectors see the same simulated, seeded watches, twice: *exact* (counts of every second) and *production-shaped*
(90 s late, a tenth of the requests, no status codes: of all failures only the half that raised). The oracle knows both
distributions. The ratios are class medians, over scenarios of 5 requests/s and more, of median delay / oracle.
Goals: errors <= 2.0, latency and tail <= 3.0, leak <= 1.6, no healthy deployment rolled back, an outage found in 5 s.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from shared import detect_report as report
from shared import measure as shared
from shared.detect_chart import chart
from shared.detect_runs import measure, plan, plan_alone

DOCS = Path(__file__).parents[1] / "docs"


def main() -> None:
    """Simulate, and print tables or one `backout.benchmark/1`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--quick", action="store_const", const="quick", dest="size", help="few scenarios and runs")
    parser.add_argument("--full", action="store_const", const="full", dest="size", help="10,000 watches of each noise")
    parser.add_argument("--seed", type=int, default=1, help="decides every draw")
    parser.add_argument("--jobs", type=int, default=1, help="processes; they change no figure")
    parser.add_argument("--write-docs", action="store_true", help="write tables and chart into docs/detection.md")
    options = parser.parse_args()
    try:
        size = options.size or "standard"
        figures = measure(plan(size), options.seed, alone=plan_alone(size), jobs=options.jobs)
    except LookupError as error:
        sys.exit(f"detect: {error.args[0]}")
    if options.write_docs:
        (DOCS / "detection.svg").write_text(chart(figures), encoding="utf-8")
        report.write_into(DOCS / "detection.md", figures, size, options.seed)
    if options.json:
        print(shared.as_json(report.record(figures)))
        return
    print(report.text(figures))
    print(f"{sum(os.times()[:4]):.0f} s of CPU")


if __name__ == "__main__":
    main()
