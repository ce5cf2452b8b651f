"""Type the recorded blocks of docs/quickstart.md into the installed program, and write its answers into the page.

Run it as `.venv/bin/python tools/record_quickstart.py`; it takes about two minutes. A block after
`<!-- recorded -->` keeps its own lines that begin with `$ `, and gets their answers; behind `<!-- recorded: last N -->`
the last N lines of each. Nothing is edited but the path of the folder, which is written as `~/shop`, and a block's own
lines are the whole list of what is typed.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from recorded_shell import type_line

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "quickstart.md"
BLOCK = re.compile(r"<!-- recorded(?:: last (?P<last>\d+))? -->\n```console\n(?P<text>.*?)```\n", re.DOTALL)
COLUMNS = 80
DOWN = "backout twin down --dir .backout/demo/twin"


def say(line: str, folder: Path) -> str:
    """Type one line, and return what it answered, with its exit code where that is not 0."""
    done = type_line(line, folder, columns=COLUMNS)
    print(f"[{done.returncode}] {line}")
    said = done.stdout.replace(str(folder), "~/shop").rstrip()
    return said if done.returncode == 0 else f"{said}\n[exit code {done.returncode}]"


def answered(found: re.Match[str], folder: Path) -> str:
    """Return a block with what its lines are answered now."""
    shown = []
    for line in (each[2:] for each in found["text"].splitlines() if each.startswith("$ ")):
        said = say(line, folder).splitlines()
        if found["last"] is not None and len(said) > int(found["last"]):
            said = ["[…]", *said[-int(found["last"]) :]]
        shown.append("\n".join([f"$ {line}", *said]))
    mark = found[0].partition("\n")[0]
    text = "\n\n".join(shown)
    return f"{mark}\n```console\n{text}\n```\n"


def main() -> None:
    """Record the blocks in their order, in one folder."""
    text = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="quickstart-") as root:
        folder = Path(root).resolve() / "shop"
        folder.mkdir()
        try:
            text = BLOCK.sub(lambda found: answered(found, folder), text)
        finally:
            say(DOWN, folder)
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
