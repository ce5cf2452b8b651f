"""The flight recorder's folder beside the application: `backout init` writes it and never overwrites its settings."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from backout.cli.support.style import Tone
from backout.config.init import wrangler
from backout.config.init.bill import PLAN_USD, RATES, estimate_isolates, make_bill
from backout.config.init.recorder import FOLDER, format_wrangler_file, make_recorder
from backout.model.value import Value

if TYPE_CHECKING:
    from pathlib import Path

    from backout.cli.support.shell import Shell
    from backout.config.init.bill import Sink
    from backout.config.init.recorder import Recorder
    from backout.config.init.wrangler import Worker

_OURS = {"object": ("object.js", "recorder.js"), "r2": ("recorder.js",)}
_THEIRS = "wrangler.jsonc"
_PAID = f"the flight recorder needs a paid plan: Tail Workers are part of Workers Paid, ${PLAN_USD:.0f} a month"


class Folder(Value, frozen=True):
    """What is to be in the folder: {file name: text}, and the lines that the application's own files need."""

    path: Path
    recorder: Recorder
    files: dict[str, str]
    consumers: str

    def write(self, *, force: bool) -> tuple[list[str], list[str]]:
        """Write the missing files (if forced, our own code again); return the names written and those left alone."""
        kept = [name for name in self.files if (self.path / name).exists() and (name == _THEIRS or not force)]
        written = [name for name in self.files if name not in kept]
        if written:
            self.path.mkdir(exist_ok=True)
        for name in written:
            (self.path / name).write_text(self.files[name], encoding="utf-8")
        return written, kept

    def as_json(self, written: list[str], kept: list[str]) -> dict[str, object]:
        """Return what the answer says of it."""
        return {
            "folder": self.path,
            "written": written,
            "kept": kept,
            "files": self.files,
            "tail_consumers": self.consumers,
            "traffic": self.recorder.traffic,
            "sink": self.recorder.sink,
        }


def find_folder(folder: Path, source: Path, name: str, workers: tuple[Worker, ...], wanted: Sink = "object") -> Folder:
    """Return the folder for an application whose wrangler file is `source`.

    Args:
        folder, source: the application's folder and wrangler file.
        name, workers: what that says of it.
        wanted: where the counts are to be kept, unless the recorder has settings that say it.
    """
    path = folder / FOLDER
    sink = _find_sink(path / _THEIRS) or wanted
    recorder, toml = make_recorder(name, workers, sink), source.suffix == ".toml"
    catalogue = resources.files("backout") / "catalogue" / "recorder"
    files = {file: (catalogue / file).read_text(encoding="utf-8") for file in _OURS[sink]}
    template = (catalogue / f"wrangler.{sink}.jsonc").read_text(encoding="utf-8")
    files[_THEIRS] = format_wrangler_file(template, recorder, toml=toml)
    return Folder(path, recorder, files, recorder.consumers(toml=toml))


def _find_sink(settings: Path) -> Sink | None:
    """Return where a recorder's own settings have its counts, None where they do not say."""
    text = settings.read_text(encoding="utf-8", errors="replace") if settings.exists() else ""
    if '"r2_buckets"' in text:
        return "r2"
    return "object" if '"durable_objects"' in text else None


def add_recorder(shell: Shell, sink: Sink, *, force: bool, dry_run: bool) -> int:
    """Write only the folder, for a project that has a backout.toml.

    Args:
        shell: the command's surroundings.
        sink: where the counts are to be kept, unless the recorder has settings that say it.
        force: write our own code again.
        dry_run: write nothing.
    """
    source = wrangler.find(shell.folder)
    read = wrangler.read(source)
    found = find_folder(shell.folder, source, read.name, read.workers, sink)
    written, kept = ([], []) if dry_run else found.write(force=force)
    payload = {"written": bool(written), "recorder": found.as_json(written, kept), "bill": _list_bills()}
    shell.output.say(_PAID)
    if dry_run:
        parts = (f"--- {FOLDER}/{name}\n{text}" for name, text in found.files.items())
        shell.output.result("init", payload, "\n".join(parts).rstrip("\n"))
    else:
        shell.output.result("init", payload, shell.output.style.badge(describe_written(written, kept), Tone.GOOD))
    say_lines(shell, found, source)
    if found.recorder.sink != sink:
        has, other = _WORDS[found.recorder.sink], _WORDS[sink]
        shell.output.say(f"{FOLDER}/{_THEIRS} has {has}; for {other}, remove that file and run this again")
    for line in _format_bills():
        shell.output.say(line)
    return 0


_WORDS = {"object": "a Durable Object", "r2": "an R2 bucket"}


def _list_bills() -> list[dict[str, object]]:
    return [
        {
            "requests_per_s": rate,
            "isolates": estimate_isolates(rate),
            "object_usd": round(make_bill("object", rate).total, 2),
            "r2_usd": round(make_bill("r2", rate).total, 2),
        }
        for rate in RATES
    ]


def _format_bills() -> list[str]:
    """Return the bill of both sinks at some rates, one line each."""
    sinks: tuple[Sink, Sink] = ("object", "r2")
    width = len("requests a second")
    head = "".join(f"{rate:>10,}" for rate in RATES)
    return [
        "what it costs a month, the plan included (prices of 2026-12-01; docs/recorder.md says what is assumed):",
        f"  {'requests a second':<{width}}{head}",
        *(
            f"  {_WORDS[sink]:<{width}}" + "".join(f"{f'${make_bill(sink, rate).total:.2f}':>10}" for rate in RATES)
            for sink in sinks
        ),
    ]


def describe_written(written: list[str], kept: list[str]) -> str:
    """Return what was done, in one line."""
    done = f"wrote {FOLDER}/: {', '.join(written)}" if written else f"{FOLDER}/ is as it was"
    return f"{done}; left alone: {', '.join(kept)}" if kept and written else done


def say_lines(shell: Shell, found: Folder, source: Path) -> None:
    """Say which lines a person adds; nothing of the application's own files is edited."""
    shell.output.say(f"for exact counts (on a paid plan), follow {FOLDER}/{_THEIRS}; the lines to add:")
    shell.output.say(f"  {source.name}, at the top and in each env:  {found.consumers}")
    shell.output.say(f"  backout.toml, in each environment:  {found.recorder.traffic}")
