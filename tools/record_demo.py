"""Record a real `backout demo` as docs/demo.svg: its coloured output, drawn; only the middle of the report is cut.

Run it as `.venv/bin/python tools/record_demo.py`; with `--from FILE` it draws a saved output.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "demo.svg"
FOLDER = ".backout/recording"
KEPT = ROOT / FOLDER / "demo.ansi"
COLUMNS = 104
REPORT_HEAD = 8
"""The number of lines shown of the incident report; a line in brackets says how many follow."""
_REPORT = re.compile(r"^# Incident Report.*?^<!-- backout run \S+ -->\n", re.DOTALL | re.MULTILINE)

# Dark on purpose: the picture carries its own background, so it reads the same on a light and on a dark page.
THEME = TerminalTheme(
    (13, 17, 23),
    (230, 237, 243),
    [(72, 79, 88), (255, 123, 114), (86, 211, 100), (227, 179, 65), (121, 192, 255), (210, 168, 255), (86, 212, 221),
     (177, 186, 196)],
    [(110, 118, 129), (255, 161, 152), (126, 231, 135), (242, 204, 96), (165, 214, 255), (226, 197, 255),
     (179, 240, 255), (255, 255, 255)],
)  # fmt: skip

# rich's own format asks a font server; this one makes no request.
FORMAT = """\
<svg class="terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<title>A recording of backout demo: a bad deployment is detected, rolled back, verified and reported</title>
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; white-space: pre }}
.{unique_id}-title {{ font-size: 16px; font-family: system-ui, sans-serif }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def record() -> str:
    """Run the demo and return what a terminal would have got, stdout and stderr together."""
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "backout", "demo", "--color", "always", "--dir", FOLDER]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    )
    KEPT.write_text(done.stdout, encoding="utf-8")
    return done.stdout


def shortened(output: str) -> str:
    """Return the output with the middle of its report cut out, and a line that says so."""

    def cut(found: re.Match[str]) -> str:
        lines = found[0].splitlines()
        left = len(lines) - REPORT_HEAD
        return "\n".join([*lines[:REPORT_HEAD], f"\x1b[2m[{left} more lines of the report]\x1b[0m", ""])

    text, count = _REPORT.subn(cut, output)
    if count != 1:
        sys.exit("the output has no incident report: the demo did not go as expected")
    return text.replace(FOLDER, ".backout/demo")


def drawn(output: str) -> str:
    """Return the SVG."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(Text.from_ansi(f"\x1b[1m$ make demo\x1b[0m\n{output.rstrip()}"), end="")
        svg = console.export_svg(title="backout demo", theme=THEME, code_format=FORMAT, unique_id="demo")
    return re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE)


def main() -> None:
    """Record or read, shorten, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="kept", type=Path, help="an output that was kept before")
    kept = parser.parse_args().kept
    output = kept.read_text(encoding="utf-8") if kept else record()
    PICTURE.write_text(drawn(shortened(output)), encoding="utf-8")


if __name__ == "__main__":
    main()
