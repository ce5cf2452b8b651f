"""Proofs: long tests record what they counted; `make proof` writes it into docs/research/proofs.md with bounds."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import shutil
import signal
import tempfile
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from canaries import leaks_below, leaks_in
from cpu_by_file import CpuByFile
from kept import FOLDER
from other_days import pick_of_other_days
from proofs_page import MinutesByFile, write_page
from typed import end_shared_typist, share_second_checks, shared_typist
from values import replace

from backout.analysis.statistics.beta import upper_bound
from backout.twin.home import CLOUDFLARE, HOSTS

from extent import ALL, EVERY, FILES, PROOF

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from drillbook import Drillbook

    Record = Callable[..., None]

ROOT = Path(__file__).resolve().parent.parent


TOO_FEW = "; not shown by so few trials:"


def enough(failures: int, allowed: float) -> str:
    """Return how many trials with no more failures would show the claim, as words."""
    trials = 1
    while upper_bound(failures, trials, 0.05) > allowed:
        trials *= 2
    low, high = trials // 2, trials
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if upper_bound(failures, middle, 0.05) > allowed else (low, middle)
    return f"{high:,} with no more failures would"


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
        allowed = "none" if self.allowed is None else f"at most {self.allowed:.3g}{self.doubt(bound)}"
        day = datetime.now(UTC).strftime("%Y-%m-%d")
        return f"| {self.claim} | {self.trials:,} | {self.failures:,} | {bound:.3g} | {allowed} | {self.note} | {day} |"

    def doubt(self, bound: float) -> str:
        """Return what a bound above what is allowed means: the claim was not refuted, nor shown by so few trials."""
        assert self.allowed is not None
        return f"{TOO_FEW} {enough(self.failures, self.allowed)}" if bound > self.allowed else ""


MEMORY = Path("/dev/shm")
ROOMY_BYTES = 10 << 30
"""As much as all files of the workers take at once, and as much again."""
RECORDED = pytest.StashKey[list[Proof]]()
TOOK = pytest.StashKey[MinutesByFile]()
STAGES = pytest.StashKey[list["Drillbook"]]()
"""The stages of drills that stand."""
LEAKED = pytest.StashKey[list[str]]()
"""Where the value of a canary was found: the suite fails for it, whichever test it was."""


OTHER_DAYS = pytest.StashKey[int]()
"""How many tests were left to other days."""
NAMED = "TESTS_NAMED"
"""Set where the command line names tests."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cpu", action="store_true", help="tell processor seconds by folder, file and test")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return who says which worker runs what, for `--dist loadfile`."""
    from grouping import GroupedScheduling  # noqa: PLC0415 nobody needs it where there is one process

    return GroupedScheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--cpu"):
        config.pluginmanager.register(CpuByFile())
    if not hasattr(config, "workerinput") and (
        config.option.keyword or config.args_source is not pytest.Config.ArgsSource.TESTPATHS
    ):
        os.environ[NAMED] = "yes"
    config.stash[TOOK] = MinutesByFile()
    config.pluginmanager.register(config.stash[TOOK])
    config.stash[RECORDED] = []
    config.stash[LEAKED] = []
    config.stash[STAGES] = []
    _keep_files_in_memory()
    if FOLDER not in os.environ:  # workers, and the runs of pytest that tests start, share ours
        folder = tempfile.TemporaryDirectory(prefix="backout-kept-")
        os.environ[FOLDER] = folder.name
        config.add_cleanup(lambda: os.environ.pop(FOLDER))
        config.add_cleanup(folder.cleanup)
    config.add_cleanup(end_shared_typist)
    # A shell starts a suite in the background with SIGINT ignored; what the tests start would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _keep_files_in_memory() -> None:
    """Have temporary files made in memory where that is roomy: what tests start inherits it.

    ext4 does not hand out the number of a file that was removed within the last minutes: to find another one after
    thousands were removed took a tenth of the suite's processor time.
    """
    if "TMPDIR" in os.environ or not MEMORY.is_dir():
        return
    found = os.statvfs(MEMORY)
    if found.f_bavail * found.f_frsize >= ROOMY_BYTES and not found.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # asked again


@pytest.fixture(autouse=True, scope="session")
def _share_second_checks() -> None:
    """Have second checks forked off the typist, as it has those of the commands that are typed."""
    share_second_checks(lambda: shared_typist().address)


@pytest.fixture
def quick_path(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Return a folder in memory where there is one: where processes crash and not machines, fsync proves nothing."""
    with tempfile.TemporaryDirectory(prefix="backout-", dir=MEMORY if MEMORY.is_dir() else None) as directory:
        yield Path(directory)
        request.config.stash[LEAKED] += leaks_below(Path(directory))


HOSTS_DAYS = 10
"""In so many days each test that runs on both homes comes up on hosts."""
LONG = ("drill", "safety", "restore", "twin", "contract", "runbook")
"""Folders of tests on real parts; those of the others take a moment each."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have a test that is marked `both_homes` run on hosts as well, where tests take turns by day."""
    if metafunc.definition.get_closest_marker("both_homes") is not None:
        on_hosts = pytest.param(HOSTS, marks=(pytest.mark.long, pytest.mark.rotating("rules on hosts", HOSTS_DAYS)))
        metafunc.parametrize("drillbook", [CLOUDFLARE, on_hosts], indirect=True)


@pytest.fixture(scope="session")
def open_drillbook(request: pytest.FixtureRequest) -> Iterator[Drillbook]:
    """Return the stage with a good version on it that guard has marked stable; one for all drills of a session."""
    with _stage(request.config) as book:
        yield book


@pytest.fixture(scope="session")
def open_hosts_drillbook(request: pytest.FixtureRequest) -> Iterator[Drillbook]:
    """Return the stage of the same kind on plain hosts."""
    with _stage(request.config, HOSTS) as book:
        yield book


@pytest.fixture(scope="module")
def own_drillbook(request: pytest.FixtureRequest) -> Iterator[Drillbook]:
    """Return a stage of this module's own: for drills after which no other one would find its past."""
    with _stage(request.config) as book:
        yield book


@pytest.fixture
def fresh_drillbook(request: pytest.FixtureRequest) -> Iterator[Drillbook]:
    """Return a stage of this test's own: for drills that change the secrets of the newest version."""
    with _stage(request.config) as book:
        yield book


@contextlib.contextmanager
def _stage(config: pytest.Config, home: str = CLOUDFLARE) -> Iterator[Drillbook]:
    from hosts_drillbook import HostsDrillbook  # noqa: PLC0415 same

    from drillbook import Drillbook  # noqa: PLC0415 most tests need no twin

    with tempfile.TemporaryDirectory(prefix="drill-") as directory:
        book = (HostsDrillbook if home == HOSTS else Drillbook)(Path(directory))
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
def drillbook(request: pytest.FixtureRequest) -> Drillbook:
    """Return the stage; visitors come while tests need them, see `_set_the_stage`."""
    is_on_hosts = getattr(request, "param", CLOUDFLARE) == HOSTS
    book: Drillbook = request.getfixturevalue("open_hosts_drillbook" if is_on_hosts else "open_drillbook")
    return book


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
    _leave_to_other_days(config, items)
    yield
    items.sort(key=lambda item: item.path.parent.name not in LONG)
    places = {path: place for place, path in enumerate(dict.fromkeys(item.path for item in items))}
    items.sort(key=lambda item: (places[item.path], _visited(item)))


def _leave_to_other_days(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out what does not run on this day; what somebody named runs."""
    if EVERY or NAMED in os.environ:
        return
    left = pick_of_other_days(items, Path(__file__).parent)
    config.hook.pytest_deselected(items=left)
    config.stash[OTHER_DAYS] = len(left)
    gone = set(left)
    items[:] = [item for item in items if item not in gone]


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
    `__del__`, and that is a warning, so an error. A collection of the young before it makes all of them old. What
    outlives a module, the trees of all sources for one, is not looked at again: that was a quarter of a worker's time.
    """
    yield
    gc.collect(1)
    gc.collect()
    gc.freeze()


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
    output = getattr(node, "workeroutput", {})  # a worker that died has none; its test has failed
    node.config.stash[LEAKED] += output.get("leaks", ())
    node.config.stash[OTHER_DAYS] = output.get("other_days", 0)  # the same for each
    node.config.stash[RECORDED] += [Proof(**proven) for proven in output.get("proofs", ())]


@pytest.fixture(scope="module", autouse=True)
def _leave_no_files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Look for canaries in all files that a module has left, and remove them; those of one with a failure are kept.

    The clusters of the whole suite would fill a disk of 70 GB. What serves a session keeps its files elsewhere.
    """
    failed_before = request.session.testsfailed
    yield
    folder = tmp_path_factory.getbasetemp()
    request.config.stash[LEAKED] += leaks_below(folder)
    if request.session.testsfailed == failed_before:
        clear(folder)


def clear(folder: Path) -> None:
    """Remove all that lies in a folder but its lock: without it another run of pytest takes it for one that is over."""
    for left in folder.iterdir():
        if left.name != ".lock":
            left.unlink() if left.is_symlink() or left.is_file() else shutil.rmtree(left, ignore_errors=True)


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
        session.config.workeroutput["other_days"] = session.config.stash.get(OTHER_DAYS, 0)
        session.config.workeroutput["proofs"] = [
            dataclasses.asdict(proven) for proven in session.config.stash[RECORDED]
        ]
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
    if left := config.stash.get(OTHER_DAYS, 0):
        every = "make test-all EXTENT=every" if ALL else "make test-all"
        text = f"{left} tests run on other days: `{every}` runs those of all days"
        terminalreporter.write_line(text, yellow=True)
    leaks = sorted(set(config.stash[LEAKED]))
    if leaks:
        terminalreporter.section("LEAKED: a secret's value (tests/support/canaries.py)", red=True)
        for leak in leaks:
            terminalreporter.write_line(leak, red=True)
    recorded = _summed(config.stash[RECORDED])
    if not recorded:
        return
    terminalreporter.section("proofs")
    for each in recorded:
        terminalreporter.write_line(f"{each.claim}: {each.failures} of {each.trials} failed")
    if PROOF:
        write_page(
            ROOT / "docs" / "research" / "proofs.md",
            {each.claim: each.row() for each in recorded},
            config.stash[TOOK].make_rows(),
            whole=config.args == config.getini("testpaths"),
        )


def _summed(recorded: list[Proof]) -> list[Proof]:
    """Return one proof for each claim, its trials and failures added up over the cases of a parametrised test."""
    found: dict[str, Proof] = {}
    for each in recorded:
        known = found.get(each.claim)
        if known is not None:
            each = replace(each, trials=each.trials + known.trials, failures=each.failures + known.failures)  # noqa: PLW2901
        found[each.claim] = each
    return [found[claim] for claim in sorted(found)]
