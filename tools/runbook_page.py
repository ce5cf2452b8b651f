"""Write docs/runbook.md from docs/runbook.toml: each line of the runbook, and what backout does instead.

    .venv/bin/python tools/runbook_page.py            writes the page
    .venv/bin/python tools/runbook_page.py --check    exit 1 where it is not current

The content of the rows is checked by tests/tools/test_runbook_page.py.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
SOURCE: Final = ROOT / "docs" / "runbook.toml"
PAGE: Final = ROOT / "docs" / "runbook.md"
HEAD: Final = """\
<!-- Written by tools/runbook_page.py from docs/runbook.toml; edit that file. -->
# The runbook, line by line
"""
_COLUMNS: Final = "| the runbook | backout | state | carried out by | shown by |\n|---|---|---|---|---|\n"


def read(source: Path = SOURCE) -> dict[str, object]:
    """Return the document of the rows."""
    return tomllib.loads(source.read_text(encoding="utf-8"))


def file_of(module: str) -> Path | None:
    """Return the file of a dotted module, or the folder of data that bears its name; None where there is neither."""
    place = ROOT / "src" / Path(*module.split("."))
    for found in (place.with_suffix(".py"), place / "__init__.py", place):
        if found.exists():
            return found
    return None


def page(document: dict[str, object]) -> str:
    """Return the page as Markdown."""
    blocks = [HEAD, document["page"]["text"].strip("\n") + "\n"]  # type: ignore[index]
    for section in document["section"]:  # type: ignore[attr-defined]
        blocks.append(f"{'#' * section.get('level', 2)} {section['title']}\n")
        if text := section.get("text", "").strip("\n"):
            blocks.append(f"{text}\n")
        if rows := section.get("row"):
            blocks.append(_COLUMNS + "".join(f"| {' | '.join(map(_cell, _row(row)))} |\n" for row in rows))
        if text := section.get("after", "").strip("\n"):
            blocks.append(f"{text}\n")
    return "\n".join(blocks)


def _row(row: dict[str, object]) -> tuple[str, ...]:
    commands = ", ".join(f"`{command}`" for command in row.get("commands", ()))  # type: ignore[attr-defined]
    words = "" if row["backout"] == "-" else str(row["backout"])
    state = str(row["state"]) if row["state"] == "runs" else f"**{row['state']}**"
    return (
        str(row["line"]),
        ": ".join(part for part in (commands, words) if part),
        ": ".join(part for part in (state, str(row.get("lacks", ""))) if part),
        ", ".join(_module(each) for each in row.get("modules", ())),  # type: ignore[attr-defined]
        ", ".join(_test(each) for each in row.get("tests", ())),  # type: ignore[attr-defined]
    )


def _module(module: str) -> str:
    found = file_of(module)
    if found is None:
        raise SystemExit(f"{SOURCE.name}: there is no module {module}")
    return f"[{module.removeprefix('backout.')}](../{found.relative_to(ROOT)})"


def _test(test: str) -> str:
    file, _, name = test.partition("::")
    return f"[{name.removeprefix('test_').replace('_', ' ')}](../{file})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: list[str]) -> int:
    """Write the page, or say whether it is current."""
    written = page(read())
    if "--check" not in arguments:
        PAGE.write_text(written, encoding="utf-8")
        print(f"wrote {PAGE.relative_to(ROOT)}")
        return 0
    is_current = PAGE.read_text(encoding="utf-8") == written
    print("it is current" if is_current else "it is not current: .venv/bin/python tools/runbook_page.py")
    return 0 if is_current else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
