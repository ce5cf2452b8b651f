"""One drill's own backout: a folder with its configuration, journal and reports, and the real program run on it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, BinaryIO, Final

from backout.config import Environment, load
from backout.config.toml_text import format_key, format_literal
from backout.decoding import Undecodable, decode_json
from backout.errors import BackoutError
from backout.model.value import Value
from backout.private import make_private_folder, open_unlinked, write_over
from backout.providers.child_environment import make_bare_environment, make_module_command
from backout.providers.process_group import ProcessGroup
from backout.twin.stage import ENVIRONMENT
from backout.wiring.drills.simulation import merge_rules
from backout.wiring.toolbox import make_toolbox

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from backout.config.schema.drill import WatchPart
    from backout.providers.child_environment import ChildEnvironment
    from backout.runbook.toolbox import Toolbox
    from backout.wiring.drills.homes import Home

LONGEST_S: Final = 300.0
"""No command of a drill takes longer, on a busy machine either."""
_POLL_S: Final = 0.05
_FOLLOW_S: Final = 1.0
_VARIABLES: Final = {"COLUMNS": "100", "LANG": "C.UTF-8"}


class Ended(Value, frozen=True):
    """How a command ended: its exit code, what it wrote, and the last JSON object of it."""

    code: int
    out: str
    err: str

    @property
    def record(self) -> dict[str, object]:
        """The last JSON object on stdout; empty when there is none."""
        for line in reversed(self.out.splitlines()):
            try:
                return decode_json(line, dict[str, object])
            except Undecodable:
                continue
        return {}


class Program:
    """The program at work; what it writes goes to files."""

    def __init__(self, argv: tuple[str, ...], out: Path, err: Path, *, cwd: Path, env: ChildEnvironment) -> None:
        self._out, self._err = out, err
        with _create(out) as stdout, _create(err) as stderr:
            self._process = ProcessGroup(argv, env=env, cwd=cwd, stdout=stdout, stderr=stderr)

    def await_words(self, words: str, *, on_stderr: bool = False, times: int = 1, within_s: float = LONGEST_S) -> None:
        """Return when it has written what matches these words (a regular expression), so many times.

        Raises:
            BackoutError: it ended, or the time is over, without them.
        """
        file, until = (self._err if on_stderr else self._out), time.monotonic() + within_s
        while len(re.findall(words, file.read_text(encoding="utf-8", errors="replace"))) < times:
            if self._process.poll() is not None or time.monotonic() > until:
                said = self._err.read_text(encoding="utf-8", errors="replace").strip()[-500:]
                raise BackoutError(f"guard did not say {words!r}: {said}", where="the drill")
            time.sleep(_POLL_S)

    def follow(self, hear: Callable[[str], None], within_s: float) -> Ended:
        """Return how it ended; each line that it writes to stdout is passed on meanwhile. Raises as `await_end`."""
        until, heard = time.monotonic() + within_s, 0
        while self._process.poll() is None and time.monotonic() < until:
            *lines, _ = self._out.read_text(encoding="utf-8", errors="replace").split("\n")
            for line in lines[heard:]:
                hear(line)
            heard = max(heard, len(lines))
            time.sleep(_FOLLOW_S)
        return self.await_end(max(until - time.monotonic(), _POLL_S))

    def await_end(self, within_s: float = LONGEST_S) -> Ended:
        """Return how it ended.

        Raises:
            BackoutError: it does not end.
        """
        try:
            code = self._process.wait(within_s)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise BackoutError(f"the program did not end within {within_s:g} s", where="the drill") from error
        read = (file.read_text(encoding="utf-8", errors="replace") for file in (self._out, self._err))
        return Ended(code, *read)

    def kill(self) -> None:
        """End it as kill -9 does."""
        self._process.kill()
        self._process.wait()


def _create(file: Path) -> BinaryIO:
    return os.fdopen(open_unlinked(str(file), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb")


class Runner:
    """The real program, run on a configuration.

    Args:
        folder: for what it writes, and where it runs.
        config: the configuration's file.
        environment: its name in there.
        variables: that it gets; None: those that every program needs.
    """

    def __init__(
        self, folder: Path, config: Path, environment: str, *, variables: ChildEnvironment | None = None
    ) -> None:
        self.folder, self.config, self.environment = folder, config, environment
        self._variables = make_bare_environment(_VARIABLES) if variables is None else variables
        self._started = 0
        self._running: list[Program] = []
        self.is_closed = False

    def start(self, *words: str, cwd: Path | None = None, env: ChildEnvironment | None = None) -> Program:
        """Start the program with these words.

        Args:
            cwd: None: its own folder.
            env: None: as this runner was told.

        Raises:
            BackoutError: it was closed.
        """
        if self.is_closed:
            raise BackoutError("it was stopped", where="the drill")
        self._started += 1
        argv = make_module_command("backout", "--config", str(self.config), "-e", self.environment, *words)
        name = f"{self._started}-{words[0]}"
        out, err = self.folder / f"{name}.out", self.folder / f"{name}.err"
        program = Program(argv, out, err, cwd=cwd or self.folder, env=env or self._variables)
        self._running.append(program)
        return program

    def run(self, *words: str, cwd: Path | None = None, env: ChildEnvironment | None = None) -> Ended:
        """Run the program to its end; arguments and errors as of `start` and `await_end`."""
        return self.start(*words, cwd=cwd, env=env).await_end()

    def follow(self, words: Sequence[str], hear: Callable[[str], None], within_s: float) -> Ended:
        """Run the program to its end, however long that is allowed to take; arguments and errors as of `Program`."""
        return self.start(*words).follow(hear, within_s)

    def close(self) -> None:
        """End what is still at work; nothing is started any more."""
        self.is_closed = True
        self.kill_running()

    def kill_running(self) -> None:
        """End what is still at work."""
        for program in self._running:
            program.kill()


class Trial(Runner):
    """The folder of one drill.

    Args:
        folder: made anew.
        home: of the application that it is about, in whose folder the database's URL lies.
        watch: its criteria.
        journal: the journal that it begins with a copy of, None: an empty one.
        more: further tables of its environment, by name.
        rules: of another environment, which hold here as well.
        notify: the channels; None: nobody is told.
    """

    def __init__(
        self,
        folder: Path,
        home: Home,
        watch: WatchPart,
        *,
        journal: Path | None = None,
        more: Mapping[str, object] | None = None,
        rules: Mapping[str, dict[str, object]] | None = None,
        notify: Mapping[str, object] | None = None,
    ) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        make_private_folder(folder)
        super().__init__(folder, folder / "backout.toml", ENVIRONMENT)
        tables = merge_rules({**_make_tables(home, watch), **(more or {})}, rules or {})
        write_over(self.config, _format_config(tables, notify or {}).encode())
        if journal is not None:
            for file in journal.parent.glob(f"{journal.name}*"):
                shutil.copy(file, folder / file.name)

    def tools(self) -> Toolbox:
        """Return the tools of its environment, in this process."""
        found = load(Environment({}), start=self.folder, path=self.config, environment=ENVIRONMENT)
        return make_toolbox(found)

    def find_live(self) -> str:
        """Return the version that the API says is live."""
        return self.tools().deployments.history()[0].main


def _make_tables(home: Home, watch: WatchPart) -> dict[str, object]:
    url = str(home.stage.directory / "database-url")
    return {
        **home.make_tables(),
        "services": {"database": "critical", "storage": "critical", "email": "degradable"},
        "database": {"provider": "postgres", "url_file": url, "migrations": "prisma"},
        "criteria": {
            "error_rate": {"below": watch.error_rate_below, "for": float(watch.error_rate_for)},
            "watch": float(watch.lasts),
            "latency": {"p99_at_most": watch.p99_at_most},
            "old_version_quiet": float(watch.old_version_quiet),
        },
        "guard": {
            "mode": "act",
            "probe_every": "1s",
            "at_most": "1 per 1s",  # the deployments of earlier drills are listed as well
            "baseline": float(watch.baseline),
            "slow_start": float(watch.slow_start),
            "warm_up": float(watch.warm_up),
            "holdback": watch.holdback,
            "confirm": float(watch.confirm),
            "synthetic": {"every": "200ms", "paths": list(watch.checks)},
        },
    }


def _format_config(environment: Mapping[str, object], notify: Mapping[str, object]) -> str:
    lines = ["[app]", 'name = "fm5"', "", f"[environments.{format_key(ENVIRONMENT)}]"]
    lines += [f"{name} = {format_literal(value)}" for name, value in environment.items()]
    lines += ["", "[notify]", *(f"{name} = {format_literal(value)}" for name, value in notify.items())]
    lines += ["", "[journal]", 'path = "journal.sqlite"', "", "[incidents]", 'directory = "incidents"', ""]
    return "\n".join(lines)
