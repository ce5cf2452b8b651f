"""A restore that is spread over processes: one that drives it, and workers; also the script of both.

As a script: `spread_lab.py work FOLDER` takes ranges until it gets SIGTERM, and says what it does in lines;
`spread_lab.py drive FOLDER TO CHUNK HOW` restores, or goes on, in ranges of so many objects, and prints one JSON line.
HOW is `spread`, `alone`, or `undo`, which gives an unfinished restore up and takes it back, alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from msgspec import structs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.config import Config

URL = "BACKOUT_JOURNAL_URL"
JOURNAL = f'\n[journal]\nurl_env = "{URL}"\n'


def load_config(folder: Path, environment: str | None = None) -> Config:
    """Return the configuration of a folder, with this process's variables."""
    from backout import config  # noqa: PLC0415 - the script loads what it needs

    return config.load(config.Environment.read(), start=folder, environment=environment)


class Spread:
    """A folder with the journal on a server, and the processes of a restore.

    Args:
        folder: its backout.toml names a bucket.
        url: of the journal's database.
        chunk: how many objects a range has.
    """

    def __init__(self, folder: Path, url: str, chunk: int) -> None:
        self.folder, self.url, self.chunk = folder, url, chunk
        with (folder / "backout.toml").open("a", encoding="utf-8") as file:
            file.write(JOURNAL)

    def _start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, __file__, *words],
            env={**os.environ, URL: self.url, "HISTORY_KEY": "k" * 40},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @contextmanager
    def working(self, number: int) -> Iterator[list[subprocess.Popen[str]]]:
        """Run workers that take ranges, each once it says that it does; they are ended, and have said nothing else."""
        from streamed import await_line  # noqa: PLC0415 - this file is the script of a worker, too

        workers = [self._start("work", str(self.folder)) for _ in range(number)]
        try:
            for each in workers:
                await_line(each, "taking ranges")
            yield workers
        finally:
            for each in workers:
                each.send_signal(signal.SIGCONT)
                each.terminate()
            for each in workers:
                try:
                    each.wait(60)
                except subprocess.TimeoutExpired:
                    each.kill()
                each.communicate()

    def drive(self, to: str, how: str = "spread") -> subprocess.Popen[str]:
        """Begin to restore to a moment, or go on."""
        return self._start("drive", str(self.folder), to, str(self.chunk), how)

    def ask(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Return what the journal's database says."""
        with psycopg.connect(self.url, autocommit=True, options="-c search_path=backout_tasks") as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def list_taken(self) -> dict[int, tuple[int, int]]:
        """Return the ranges that somebody has now, by their first place: the pid of who, and how many are done."""
        try:
            rows = self.ask("SELECT first, worker, done FROM backout_tasks.range WHERE worker <> ''")
        except psycopg.errors.UndefinedTable:
            return {}
        return {first: (int(worker.split()[1]), done) for first, worker, done in rows}


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for who drives a restore, and return what it says."""
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, (process.returncode, out, err)
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def work(folder: Path) -> None:
    """Take ranges until SIGTERM."""
    from backout.wiring.tasks import run_tasks  # noqa: PLC0415

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    thread = threading.Thread(target=run_tasks, args=(load_config(folder), stop, tell))
    thread.start()
    while thread.is_alive():
        thread.join(0.2)


def drive(folder: Path, to: str, chunk: int, how: str) -> None:
    """Restore, or go on with what was interrupted, or take it back."""
    from backout.model.steps.objects import CompareObjectsStep, RestoreObjectsStep  # noqa: PLC0415
    from backout.ports import find_result  # noqa: PLC0415
    from backout.runbook.objects.restore import ObjectActions, prepare  # noqa: PLC0415
    from backout.runbook.objects.undo import prepare_undo  # noqa: PLC0415
    from backout.wiring.objects import make_object_tools  # noqa: PLC0415

    config = load_config(folder, "staging")
    tools = make_object_tools(config, None, is_spread=how == "spread", say=lambda text: sys.stderr.write(f"{text}\n"))
    tools = structs.replace(tools, chunk=chunk)
    unfinished = [each for each in tools.runs.runs("staging/objects")[:1] if not each.state.is_over]
    if how == "undo":
        plan = prepare_undo(tools, None)
        for each in unfinished:
            tools.runs.ask(each.id, "abort", actor="t", reason="taken back")
        run = tools.journal.submit(plan, actor="t", reason="t")
    elif unfinished:
        run = unfinished[0].id
    else:
        run = tools.journal.submit(prepare(tools, to, None, ""), actor="t", reason="t")
    tools.journal.drive(run, ObjectActions(tools), actor="t")
    restored = find_result(tools.runs, run, RestoreObjectsStep)
    compared = find_result(tools.runs, run, CompareObjectsStep)
    assert restored is not None
    assert compared is not None
    tell(json.dumps({"run": run, "restored": restored.to_json(), "compared": compared.compared.to_json()}))


def tell(text: str) -> None:
    """Write a line for the test."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1] == "work":
        work(Path(sys.argv[2]))
    else:
        drive(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5])
