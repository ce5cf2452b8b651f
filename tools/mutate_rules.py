"""Remove each safety rule, and each mechanism of docs/research/security.md, from the code once, and see a test fail.

Writes docs/research/rules.md.

Works on a copy of the repository with an interpreter of its own, so that the program that the tests start is the
mutated one, too. Each mutation of tests/safety/mutations.toml names a rule, a file, the text to find there (exactly
once), its replacement, and the test that must fail. Without a mutation the named tests must pass first.

    .venv/bin/python tools/mutate_rules.py [RULE ... | --new]

All of them, those of some rules, or those that the page does not have yet. A line keeps its day until it is made again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from working_copy import ROOT, WorkingCopy

MUTATIONS = ROOT / "tests" / "safety" / "mutations.toml"
PAGE = ROOT / "docs" / "research" / "rules.md"
_FAILED = 1
"""What pytest exits with when tests ran and some failed; anything else is no proof of anything."""


@dataclass(frozen=True)
class Mutation:
    """One rule taken out."""

    rule: str
    out: str
    file: str
    find: str
    put: str
    test: str


@dataclass(frozen=True)
class Outcome:
    """The test's result."""

    mutation: Mutation
    caught: bool
    said: str


class MutatedCopy(WorkingCopy):
    """A copy of the repository that may be broken."""

    def judge(self, mutation: Mutation) -> Outcome:
        """Take the rule out, run its test, put the rule back."""
        file = self.folder / mutation.file
        text = file.read_text(encoding="utf-8")
        if text.count(mutation.find) != 1:
            sys.exit(f"rule {mutation.rule}: {text.count(mutation.find)} places in {mutation.file}: {mutation.find!r}")
        file.write_text(text.replace(mutation.find, mutation.put), encoding="utf-8")
        try:
            done = self.run_tests("-x", mutation.test)
        finally:
            file.write_text(text, encoding="utf-8")
        failed = any(line.startswith("FAILED") for line in done.stdout.splitlines())  # an error proves nothing
        return Outcome(mutation, failed and done.returncode == _FAILED, _said(done.stdout))


def _said(output: str) -> str:
    """Return the sentence in which pytest says what failed."""
    failures = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failures[0] if failures else output.strip().splitlines()[-1] if output.strip() else "nothing"


def main() -> None:
    """Judge all mutations, those of the rules that are named, or the new ones; write their lines into the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--new", action="store_true", help="those that the page does not have yet")
    parser.add_argument("rules", nargs="*", metavar="RULE", help="as tests/safety/mutations.toml names them")
    given = parser.parse_args()
    mutations = [Mutation(**entry) for entry in tomllib.loads(MUTATIONS.read_text(encoding="utf-8"))["mutation"]]
    rows = _rows(PAGE.read_text(encoding="utf-8"))
    chosen = [mutation for mutation in mutations if not given.rules or mutation.rule in given.rules]
    chosen = [mutation for mutation in chosen if not given.new or _key(mutation) not in rows]
    missed = 0
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        copy = MutatedCopy(Path(folder))
        whole = copy.run_tests("-x", *dict.fromkeys(mutation.test for mutation in chosen), timeout_s=3600.0)
        if whole.returncode != 0:
            sys.exit(f"the tests fail without any mutation: {_said(whole.stdout)}\n{whole.stdout[-3000:]}")
        print(f"{len(chosen)} mutations; their tests pass without them")
        for mutation in chosen:
            outcome = copy.judge(mutation)
            missed += not outcome.caught
            print(f"rule {mutation.rule}: {'caught' if outcome.caught else 'MISSED'}: {outcome.said}", flush=True)
            rows[_key(mutation)] = _row(outcome)
            PAGE.write_text(_page([rows[key] for key in map(_key, mutations) if key in rows]), encoding="utf-8")
    sys.exit(f"{missed} of {len(chosen)} mutations were missed" if missed else 0)


def _key(mutation: Mutation) -> str:
    return f"| {mutation.rule} | {mutation.out} |"


def _rows(page: str) -> dict[str, str]:
    """Return the page's rows by their first two columns."""
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| rule ")]
    return {" | ".join(row.split(" | ")[:2]) + " |": row for row in rows}


def _row(outcome: Outcome) -> str:
    test = outcome.mutation.test.partition("::")[2] or outcome.mutation.test
    said = CAUGHT if outcome.caught else "**passes: not held**"
    return f"{_key(outcome.mutation)} `{test}` | {said} | {datetime.now(UTC):%Y-%m-%d} |"


def _page(rows: list[str]) -> str:
    caught = sum(f" | {CAUGHT} | " in row for row in rows)
    return HEAD.format(caught=caught, total=len(rows)) + "\n".join(rows) + "\n"


CAUGHT = "fails"
HEAD = """\
# Rules and the tests that hold them

For reviewers of the safety rules: evidence that a test fails if a rule is taken out of the code. Made by
`tools/mutate_rules.py`; do not edit. For each line, one safety rule (or half of one), or one
mechanism that closes a hole, was taken out of the code and the test beside it was run: {caught} of {total} then fail.
Without the mutations they pass. The mutations are in `tests/safety/mutations.toml`, the rules in
[safety.md](../safety.md), the mechanisms in [security.md](security.md).

| rule | taken out | test | without the rule it | day |
|---|---|---|---|---|
"""


if __name__ == "__main__":
    main()
