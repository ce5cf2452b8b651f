"""Proofs: long tests record what they counted, and `make proof` writes it into docs/proofs.md with its 95 % bound."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from canaries import leaks_below, leaks_in

from backout.analysis.beta import upper_bound

from extent import ALL, FILES, PROOF

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from drillbook import Drillbook

    Record = Callable[..., None]

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Proof:
    """One counted claim: `failures` in `trials`, of which `allowed` (a share) were permitted by the claim."""

    claim: str
    trials: int
    failures: int
    allowed: float | None
    note: str

    def row(self) -> str:
        """Return its line in the table."""
        bound = upper_bound(self.failures, self.trials, 0.05)
        allowed = "none" if self.allowed is None else f"at most {self.allowed:.3g}"
        day = datetime.now(UTC).strftime("%Y-%m-%d")
        return f"| {self.claim} | {self.trials:,} | {self.failures:,} | {bound:.3g} | {allowed} | {self.note} | {day} |"


RECORDED = pytest.StashKey[list[Proof]]()
STAGES = pytest.StashKey[list["Drillbook"]]()
"""The stages of drills that stand."""
LEAKED = pytest.StashKey[list[str]]()
"""Where the value of a canary was found: the suite fails for it, whichever test it was."""


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RECORDED] = []
    config.stash[LEAKED] = []
    config.stash[STAGES] = []
    # A shell starts a suite in the background with SIGINT ignored; what the tests start would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def quick_path(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Return a folder in memory where there is one: where processes crash and not machines, fsync proves nothing."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="backout-", dir=memory if memory.is_dir() else None) as directory:
        yield Path(directory)
        request.config.stash[LEAKED] += leaks_below(Path(directory))


LONG = ("drill", "safety", "restore", "twin", "contract", "runbook")
"""Folders of tests on real parts; those of the others take a moment each."""


@pytest.fixture(scope="session")
def open_drillbook(request: pytest.FixtureRequest) -> Iterator[Drillbook]:
    """Return the stage with a good version on it that guard has marked stable; one for all drills of a session."""
    with _stage(request.config) as book:
        yield book


@pytest.fixture(scope="module")
def own_drillbook(request: pytest.FixtureRequest) -> Iterator[Drillbook]:
    """Return a stage of this module's own: for drills after which no other one would find its past."""
    with _stage(request.config) as book:
        yield book


@contextlib.contextmanager
def _stage(config: pytest.Config) -> Iterator[Drillbook]:
    from drillbook import Drillbook  # noqa: PLC0415 most tests need no twin

    with tempfile.TemporaryDirectory(prefix="drill-") as directory:
        book = Drillbook(Path(directory))
        try:
            book.open()
            book.welcome()
            book.prove_good()
            config.stash[STAGES].append(book)
            yield book
        finally:
            book.dismiss()
            book.stage.tear_down()
            config.stash[LEAKED] += leaks_below(Path(directory))


@pytest.fixture(scope="module")
def drillbook(open_drillbook: Drillbook) -> Drillbook:
    """Return the stage; visitors come while tests need them, see `_set_the_stage`."""
    return open_drillbook


@pytest.fixture(autouse=True)
def _set_the_stage(request: pytest.FixtureRequest) -> Iterator[None]:
    """Begin each drill with a provider that tells nothing of the drills before, and a baseline that they left alone.

    A drill has visitors, unless it is marked `calm`; nobody else has.
    """
    book = request.getfixturevalue("drillbook") if "drillbook" in request.fixturenames else None
    calm = book is None or request.node.get_closest_marker("calm") is not None
    for each in request.config.stash[STAGES]:
        if each is not book or calm:
            each.dismiss()
    if book is not None:
        book.forget_remarks()
        if calm:
            book.make_good_live()
        else:
            book.welcome()
            book.await_a_clean_past()
    yield
    if book is not None:
        book.end_started()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, None, None]:
    """Begin with the long files, so that no worker is left with one of them at the end.

    In a file, drills with visitors come one after the other; else the order stays.
    """
    files: dict[Path, Counter[bool]] = {}
    for item in items:
        files.setdefault(item.path, Counter())[item.get_closest_marker("long") is not None] += 1
    config.stash[FILES] = files
    yield
    items.sort(key=lambda item: item.path.parent.name not in LONG)
    places = {path: place for place, path in enumerate(dict.fromkeys(item.path for item in items))}
    items.sort(key=lambda item: (places[item.path], _visited(item)))


def _visited(item: pytest.Item) -> bool:
    return "drillbook" in getattr(item, "fixturenames", ()) and item.get_closest_marker("calm") is None


def pytest_collection_finish() -> None:
    """Have the collector pass over what lives to the end, and collect everything when we say so only, see below."""
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, 1_000_000)


@pytest.fixture(scope="module", autouse=True)
def _answer_for_its_own_leaks() -> Iterator[None]:
    """Find here what a module left open; else it fails whichever test the collector happens to run in.

    A full collection finalises the youngest objects first: a socket before the older client that closes it in its
    `__del__`, and that is a warning, so an error. A collection of the young before it makes all of them old.
    """
    yield
    gc.collect(1)
    gc.collect()


@pytest.fixture
def proof(request: pytest.FixtureRequest) -> Iterator[Record]:
    """Return the recorder of a counted claim: what was claimed, how many trials, how many failed."""
    found = request.config.stash[RECORDED]

    def record(claim: str, *, trials: int, failures: int, allowed: float | None = None, note: str = "") -> None:
        found.append(Proof(claim, trials, failures, allowed, note))

    return record


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker has proven."""
    node.config.stash[LEAKED] += node.workeroutput.get("leaks", ())
    node.config.stash[RECORDED] += [Proof(**proven) for proven in node.workeroutput.get("proofs", ())]


@pytest.fixture(scope="session", autouse=True)
def _look_for_canaries(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Look for canaries in all files that the tests have left, once they are done."""
    yield
    request.config.stash[LEAKED] += leaks_below(tmp_path_factory.getbasetemp())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Look for canaries in all that a test has printed and logged."""
    report = yield
    printed = "\n".join(text for _, text in report.sections)
    item.config.stash[LEAKED] += leaks_in(printed, f"the output of {item.nodeid}")
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    leaks = session.config.stash[LEAKED]
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["leaks"] = leaks
        session.config.workeroutput["proofs"] = [asdict(proven) for proven in session.config.stash[RECORDED]]
    elif leaks or (_nothing_may_be_skipped() and _skipped(session.config)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _nothing_may_be_skipped() -> bool:
    return ALL and bool(os.environ.get("CI"))


def _skipped(config: pytest.Config) -> Counter[str]:
    """Return how many tests were skipped, by the reason they gave: each names the package that is not installed."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reports = [] if reporter is None else reporter.stats.get("skipped", [])
    return Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in reports)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    skipped = _skipped(config)
    if skipped:
        terminalreporter.section(f"NOT TESTED ON THIS MACHINE: {skipped.total()} tests were skipped", yellow=True)
        for reason, count in sorted(skipped.items()):
            terminalreporter.write_line(f"{count} x {reason}", yellow=True)
        terminalreporter.write_line("`.ci/run`, as root on Debian, installs all of it and skips nothing.", yellow=True)
        if _nothing_may_be_skipped():
            terminalreporter.write_line("With CI set, `make test-all` fails for it.", red=True)
    leaks = sorted(set(config.stash[LEAKED]))
    if leaks:
        terminalreporter.section("LEAKED: a secret's value (tests/canaries.py)", red=True)
        for leak in leaks:
            terminalreporter.write_line(leak, red=True)
    recorded = _summed(config.stash[RECORDED])
    if not recorded:
        return
    terminalreporter.section("proofs")
    for each in recorded:
        terminalreporter.write_line(f"{each.claim}: {each.failures} of {each.trials} failed")
    if PROOF:
        page = ROOT / "docs" / "proofs.md"
        rows = {each.claim: each.row() for each in recorded}
        if config.args != config.getini("testpaths"):  # a part of the proofs: the others stand as they are
            rows = {**_rows(page), **rows}
        page.write_text(HEAD + "\n".join(rows[claim] for claim in sorted(rows)) + "\n", encoding="utf-8")


def _rows(page: Path) -> dict[str, str]:
    """Return the rows of the page by claim."""
    lines = page.read_text(encoding="utf-8").splitlines() if page.is_file() else []
    table = [line for line in lines if line.startswith("| ") and not line.startswith("| claim ")]
    return {line.split(" | ")[0].removeprefix("| "): line for line in table}


def _summed(recorded: list[Proof]) -> list[Proof]:
    """Return one proof for each claim, its trials and failures added up over the cases of a parametrised test."""
    found: dict[str, Proof] = {}
    for each in recorded:
        known = found.get(each.claim)
        if known is not None:
            each = replace(each, trials=each.trials + known.trials, failures=each.failures + known.failures)  # noqa: PLW2901
        found[each.claim] = each
    return [found[claim] for claim in sorted(found)]


HEAD = """\
# Proofs

Made by `make proof`; do not edit. Each line is a long test with its full counts on its day (`make test` runs the same
tests with small seeded counts; `make proof PYTEST=tests/journal` renews the lines of those tests alone). *Upper bound*
is the one-sided 95 % Clopper-Pearson bound of the share of failures.
What each safety rule's own test sees when the rule is taken out stands in [rules.md](rules.md).

| claim | trials | failures | upper bound (95 %) | allowed | how | day |
|---|---|---|---|---|---|---|
"""
