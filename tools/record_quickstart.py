"""Type the recorded blocks of docs/quickstart.md into the installed program, and write its answers into the page.

Run it as `.venv/bin/python tools/record_quickstart.py`; it takes about four minutes. A block after
`<!-- recorded -->` keeps its own lines that begin with `$ `, and gets their answers; behind `<!-- recorded: last N -->`
the last N lines of each. `<!-- recorded: examples/NAME, visitors at PATH -->` types them into one shell in a copy of
that folder, and has visitors while the last one runs. With the argument `applications` only these are recorded. Nothing
is edited but the path of the folder, which is written as `~/shop`, and a block's own lines are all that is typed.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

from recorded_shell import type_line, type_lines

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "quickstart.md"
BLOCK = re.compile(r"<!-- recorded(?:: last (?P<last>\d+))? -->\n```console\n(?P<text>.*?)```\n", re.DOTALL)
APPLICATION = re.compile(
    r"<!-- recorded: examples/(?P<name>\w+), visitors at (?P<path>\S+) -->\n```console\n(?P<text>.*?)```\n", re.DOTALL
)
MADE = (".backout", ".wrangler", "dist", "node_modules", "backout.toml", "backout-recorder", "visits")
COLUMNS, MOST_LINES = 80, 5
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


def answered_application(found: re.Match[str]) -> str:
    """Return a block with what its lines are answered in a copy of the application."""
    name, lines = found["name"], [each[2:] for each in found["text"].splitlines() if each.startswith("$ ")]
    with tempfile.TemporaryDirectory(prefix="quickstart-") as root:
        folder = Path(root).resolve() / name
        shutil.copytree(ROOT / "examples" / name, folder, ignore=shutil.ignore_patterns(*MADE))
        (folder / "node_modules").symlink_to(ROOT / "node_modules")
        url = f"$TWIN_INGRESS_URL{found['path']}?visit=[1-100000]"
        visitors = f'curl -s -o visits --rate 50/s -H "Host: {name}.localhost" "{url}"'
        try:
            answers = type_lines(lines, folder, columns=COLUMNS, beside=visitors)
        finally:
            type_line("backout twin down", folder, columns=COLUMNS)
    shown = []
    for line, (code, answer) in zip(lines, answers, strict=True):
        print(f"[{code}] {line}")
        said = [each.rstrip() for each in answer.replace(str(folder), f"~/{name}").strip().splitlines()]
        cut = ["[…]", *said[-MOST_LINES:]] if len(said) > MOST_LINES + 1 else said
        shown.append("\n".join([f"$ {line}", *cut, *([f"[exit code {code}]"] if code else [])]))
    mark, text = found[0].partition("\n")[0], "\n".join(shown)
    return f"{mark}\n```console\n{text}\n```\n"


def main() -> None:
    """Record the blocks in their order, those of the demo in one folder."""
    text = PAGE.read_text(encoding="utf-8")
    text = APPLICATION.sub(answered_application, text)
    if sys.argv[1:] == ["applications"]:
        PAGE.write_text(text, encoding="utf-8")
        return
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
