"""The flight recorder's folder beside the application: `backout init` writes it and never overwrites its settings."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from backout.cli.support.style import Tone
from backout.config.init import wrangler
from backout.config.init.recorder import FOLDER, format_wrangler_file, make_recorder
from backout.model.value import Value

if TYPE_CHECKING:
    from pathlib import Path

    from backout.cli.support.shell import Shell
    from backout.config.init.recorder import Recorder
    from backout.config.init.wrangler import Worker

_OURS = "recorder.js"
_THEIRS = "wrangler.jsonc"


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
        }


def find_folder(folder: Path, source: Path, name: str, workers: tuple[Worker, ...]) -> Folder:
    """Return the folder for an application whose wrangler file is `source`."""
    recorder, toml = make_recorder(name, workers), source.suffix == ".toml"
    catalogue = resources.files("backout") / "catalogue" / "recorder"
    code, template = ((catalogue / file).read_text(encoding="utf-8") for file in (_OURS, _THEIRS))
    files = {_OURS: code, _THEIRS: format_wrangler_file(template, recorder, toml=toml)}
    return Folder(folder / FOLDER, recorder, files, recorder.consumers(toml=toml))


def add_recorder(shell: Shell, *, force: bool, dry_run: bool) -> int:
    """Write only the folder, for a project that has a backout.toml."""
    source = wrangler.find(shell.folder)
    read = wrangler.read(source)
    found = find_folder(shell.folder, source, read.name, read.workers)
    written, kept = ([], []) if dry_run else found.write(force=force)
    payload = {"written": bool(written), "recorder": found.as_json(written, kept)}
    if dry_run:
        parts = (f"--- {FOLDER}/{name}\n{text}" for name, text in found.files.items())
        shell.output.result("init", payload, "\n".join(parts).rstrip("\n"))
    else:
        shell.output.result("init", payload, shell.output.style.badge(describe_written(written, kept), Tone.GOOD))
    say_lines(shell, found, source)
    return 0


def describe_written(written: list[str], kept: list[str]) -> str:
    """Return what was done, in one line."""
    done = f"wrote {FOLDER}/: {', '.join(written)}" if written else f"{FOLDER}/ is as it was"
    return f"{done}; left alone: {', '.join(kept)}" if kept and written else done


def say_lines(shell: Shell, found: Folder, source: Path) -> None:
    """Say which lines a person adds; nothing of the application's own files is edited."""
    shell.output.say(f"for exact counts, follow {FOLDER}/{_THEIRS}; the lines to add:")
    shell.output.say(f"  {source.name}, at the top and in each env:  {found.consumers}")
    shell.output.say(f"  backout.toml, in each environment:  {found.recorder.traffic}")
