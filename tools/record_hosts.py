"""Type the recorded blocks of docs/hosts.md into the installed program, in front of a real Caddy, and keep the answers.

Run it as `.venv/bin/python tools/record_hosts.py`; it takes some two minutes. A block after `<!-- file: NAME -->` is
written into that file when the page comes to it. A block after `<!-- recorded -->` keeps its own lines that begin with
`$ `, all typed into one shell, and gets their answers; behind `<!-- recorded: last N -->` the last N lines of each.
Nothing is edited but the path of the folder, which is written as `~/shop`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from backout.twin.hosts.caddy import find_program
from backout.twin.hosts.leftovers import end_releases
from backout.twin.hosts.stage import find_node

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

PAGE = Path(__file__).resolve().parents[1] / "docs" / "hosts.md"
BLOCK = re.compile(
    r"<!-- (?:file: (?P<name>[\w./]+)|recorded(?:: last (?P<last>\d+))?) -->\n```\w*\n(?P<text>.*?)```\n", re.DOTALL
)
COLUMNS = 100
_LOOP = 'while IFS= read -r line <&3; do eval "$line"; echo "=== $?"; done'
_END = re.compile(r"(.*)=== (\d+)\n")


class TypedShell:
    """One bash, into which lines are typed until the block ends; then all that it started is ended."""

    def __init__(self, folder: Path, programs: Path) -> None:
        path = (str(programs), str(Path(sys.executable).parent), os.environ["PATH"])
        reading, self._typing = os.pipe()
        self._bash = subprocess.Popen(
            ["/bin/bash", "-c", _LOOP.replace("<&3", f"<&{reading}")],
            cwd=folder,
            env={"PATH": ":".join(path), "HOME": str(folder), "LANG": "C.UTF-8", "COLUMNS": str(COLUMNS)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=[reading],
        )
        os.close(reading)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.type_line('kill $(jobs -p) 2>/dev/null; wait; echo "ended"')
        os.close(self._typing)
        self._bash.wait()

    def type_line(self, line: str) -> str:
        """Type a line and return what it answered, with its exit code where that is not 0."""
        os.write(self._typing, f"{line}\n".encode())
        said: list[str] = []
        for each in self._bash.stdout or ():
            end = _END.fullmatch(each)
            if end is not None:
                code = int(end[2])
                print(f"[{code}] {line}", flush=True)
                return "".join([*said, end[1]]).rstrip() + (f"\n[exit code {code}]" if code else "")
            said.append(each)
        sys.exit(f"the shell ended at: {line}")


def answer_block(found: re.Match[str], folder: Path, shell: TypedShell) -> str:
    """Return a block with what its lines are answered now; a file's is written, and stays as it is."""
    if found["name"]:
        file = folder / found["name"]
        file.parent.mkdir(exist_ok=True)
        file.write_text(found["text"], encoding="utf-8")
        return found[0]
    shown = []
    for line in (each[2:] for each in found["text"].splitlines() if each.startswith("$ ")):
        said = [each.rstrip() for each in shell.type_line(line).replace(str(folder), "~/shop").splitlines()]
        if found["last"] is not None and len(said) > int(found["last"]):
            said = ["[…]", *said[-int(found["last"]) :]]
        shown.append("\n".join([f"$ {line}", *said]))
    text = "\n\n".join(shown)
    return f"{found[0].partition(chr(10))[0]}\n```console\n{text}\n```\n"


def main() -> None:
    """Record the blocks in their order, in one folder and one shell."""
    with tempfile.TemporaryDirectory(prefix="hosts-") as root:
        folder, programs = Path(root).resolve() / "shop", Path(root).resolve() / "bin"
        for place in (folder, programs):
            place.mkdir()
        (programs / "caddy").symlink_to(find_program())
        (programs / "node").symlink_to(find_node())
        try:
            with TypedShell(folder, programs) as shell:
                text = BLOCK.sub(lambda found: answer_block(found, folder, shell), PAGE.read_text(encoding="utf-8"))
        finally:
            end_releases(folder / "releases")
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
