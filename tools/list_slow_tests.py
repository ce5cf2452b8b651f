#!/usr/bin/env python3
"""Renew tests/support/slow.txt, the tests that take turns in `make test`, from what a run of it took.

make test PYTEST=--junitxml=FILE, on a machine that does nothing else, then tools/list_slow_tests.py FILE.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

SLOW = Path(__file__).resolve().parents[1] / "tests" / "support" / "slow.txt"
LIMIT_S = 2.0


def main(report: Path) -> None:
    """Write the list anew: what took the limit or more, and of what is listed what did not run in that time."""
    took = read_times(report)
    listed = filter(is_there, SLOW.read_text(encoding="utf-8").split())
    kept = [name for name in listed if took.get(name, LIMIT_S) >= LIMIT_S]
    found = {name for name, seconds in took.items() if seconds >= LIMIT_S}
    SLOW.write_text("".join(f"{name}\n" for name in sorted({*kept, *found})), encoding="utf-8")


def is_there(name: str) -> bool:
    """Whether a listed test still has its file and its function."""
    file, _, function = name.partition("::")
    path = SLOW.parents[1] / file
    return path.is_file() and f"def {function.rpartition('::')[2]}(" in path.read_text(encoding="utf-8")


def read_times(report: Path) -> dict[str, float]:
    """Return the seconds of each test function, those of its slowest case: {"contract/test_s3.py::test_a": 2.5}."""
    found: dict[str, float] = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 pytest's own report
        _, *places = case.get("classname", "").split(".")  # "tests.contract.test_s3", and perhaps a class
        names = [part for part in places if not part.startswith("Test")]
        name = "::".join(
            [
                "/".join(names) + ".py",
                *places[len(names) :],
                case.get("name", "").partition("[")[0],
            ]
        )
        found[name] = max(found.get(name, 0.0), float(case.get("time", 0)))
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
