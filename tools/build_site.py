"""Build the site of the documentation into site/, and check each of its links; `make site` runs it.

    tools/build_site.py

The pages are README.md and its neighbours, docs/ and the READMEs of examples/. They are copied, with every file that
they link to, into build/pages as they lie in the repository, so that no link has to be rewritten; mkdocs.yml says the
rest, and tools/site.css what looks different from the theme. Fails when a link or an anchor of the built pages leads
nowhere, or when a page would load something from elsewhere.
"""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[1]
CONFIGURATION: Final = ROOT / "mkdocs.yml"
STYLE: Final = ROOT / "tools" / "site.css"
COPIED: Final = ROOT / "build" / "pages"
BUILT: Final = ROOT / "site"
PROGRAM: Final = Path(sys.executable).with_name("zensical")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_ELSEWHERE = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_LOADING = {"src", "srcset", "data", "poster", "action", "formaction"}
"""Attributes with an address that a page loads or sends to; `href` does so in all elements but links to click."""
_ON_DEMAND = {"mermaid", "glightbox", "pyodide"}
"""Classes of elements for which the theme's script would fetch a library from elsewhere."""


def list_pages(root: Path = ROOT) -> list[Path]:
    """Return the pages of Markdown that the navigation has to name."""
    return sorted([*root.glob("*.md"), *(root / "docs").rglob("*.md"), *(root / "examples").glob("*/README.md")])


def copy_pages(place: Path, root: Path = ROOT) -> None:
    """Copy the pages, and the files and folders that they link to, laid out as they are."""
    shutil.rmtree(place, ignore_errors=True)
    for page in list_pages(root):
        _copy(page, place / page.relative_to(root))
        for target in _LINK.findall(page.read_text(encoding="utf-8")):
            name = target.partition("#")[0]
            if not name or _SCHEME.match(name):
                continue
            file = (page.parent / name).resolve()
            if file.is_dir():
                _copy_folder(file, place / file.relative_to(root))
            elif file.is_file():
                _copy(file, place / file.relative_to(root))


def _copy(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, to)


def _copy_folder(folder: Path, to: Path) -> None:
    """Copy a folder's files, with a list of them where no README.md becomes its page."""
    names = [file.name for file in sorted(folder.iterdir()) if file.is_file()]
    for name in names:
        _copy(folder / name, to / name)
    if "README.md" not in names:
        items = "\n".join(f'<li><a href="{html.escape(name)}">{html.escape(name)}</a></li>' for name in names)
        head = f'<!doctype html>\n<meta charset="utf-8">\n<title>{html.escape(folder.name)}</title>'
        (to / "index.html").write_text(f"{head}\n<ul>\n{items}\n</ul>\n", encoding="utf-8")


class Page(HTMLParser):
    """Where a built page links to, what it loads, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.on_demand: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element's addresses and anchors."""
        for name, value in attrs:
            if not value:
                continue
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value)
            elif name == "href":
                (self.links if tag in {"a", "area"} else self.loaded).append(value)
            elif name in _LOADING:
                self.loaded.append(value)
            elif name == "class":
                self.on_demand |= _ON_DEMAND & set(value.split())


def find_faults(site: Path) -> list[str]:
    """Return the links and anchors of built pages that lead nowhere, and what a page would load from elsewhere."""
    site = site.resolve()
    pages = {file: Page(file.read_text(encoding="utf-8")) for file in sorted(site.rglob("*.html"))}
    faults = []
    for file, page in pages.items():
        where = file.relative_to(site)
        faults += [f"{where}: loads {each}" for each in page.loaded if _ELSEWHERE.match(each)]
        faults += [f"{where}: fetches what shows {each}" for each in sorted(page.on_demand)]
        faults += [f"{where}: leads nowhere: {each}" for each in _find_lost(file, page, pages, site)]
    for style in sorted(site.rglob("*.css")):
        found = re.findall(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)", style.read_text(encoding="utf-8"))
        faults += [f"{style.relative_to(site)}: loads {each}" for each in found]
    return faults


def _find_lost(file: Path, page: Page, pages: dict[Path, Page], site: Path) -> Iterator[str]:
    for link in dict.fromkeys(page.links + page.loaded):
        if _SCHEME.match(link) or _ELSEWHERE.match(link):
            continue
        name, _, anchor = link.partition("#")
        name = unquote(name.partition("?")[0])
        target = (file.parent / name).resolve() if name else file
        if target.is_dir():
            target /= "index.html"
        known = pages.get(target)
        lost = not target.is_file() or not target.is_relative_to(site)
        if lost or (anchor and known is not None and unquote(anchor) not in known.anchors):
            yield link


def build_site() -> list[str]:
    """Build the site anew, and return what is wrong with it."""
    copy_pages(COPIED)
    _copy(STYLE, COPIED / STYLE.name)
    shutil.rmtree(BUILT, ignore_errors=True)
    done = subprocess.run(
        [PROGRAM, "build", "--clean", "--strict", "--config-file", CONFIGURATION],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return [(done.stdout + done.stderr).strip() or f"{PROGRAM.name} ended with {done.returncode}"]
    # Its links begin at the root of a server, and this site may lie anywhere.
    (BUILT / "404.html").unlink(missing_ok=True)
    return find_faults(BUILT)


def main() -> int:
    """Build, say what is wrong, and return the exit code."""
    if not PROGRAM.is_file():
        print("zensical is not installed here: type `make site`", file=sys.stderr)
        return 2
    faults = build_site()
    for fault in faults:
        print(fault, file=sys.stderr)
    if not faults:
        count = len(list(BUILT.rglob("*.html")))
        print(f"{BUILT.relative_to(ROOT)}/index.html: {count} pages, every link leads somewhere")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
