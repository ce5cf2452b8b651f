"""The site of the documentation: its navigation, the check of its links, and its pages as they are read."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import subprocess
import sys
import threading
from collections import Counter
from html.parser import HTMLParser
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import build_site
import pytest
from browser import PATIENCE_MS, browsing, is_too_wide, needs_chromium
from pages import RENDERER
from pages import Page as RenderedPage

from polling import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

ROOT = Path(__file__).parents[2]
ENTRIES = re.findall(r"^ +- ([^:\n]+): (\S+\.md)$", build_site.CONFIGURATION.read_text(encoding="utf-8"), re.MULTILINE)
"""Titles and pages of the navigation, in its order."""
COMPARED = ("h1", "h2", "h3", "h4", "ul", "ol", "li", "table", "tr", "pre", "img", "strong", "em")


def test_the_navigation_names_each_page_once() -> None:
    """A new page stands in mkdocs.yml, and one that is gone does not."""
    pages = {str(page.relative_to(ROOT)) for page in build_site.list_pages()}
    assert Counter(name for _, name in ENTRIES) == Counter(pages)
    assert ENTRIES[0] == ("backout", "README.md")


def test_the_navigation_names_pages_as_the_readme_does() -> None:
    """A page has one name, also where "Read on" and the navigation group it differently."""
    _, _, read_on = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Read on")
    linked = {page: title for title, page in reversed(re.findall(r"\[([^]]+)\]\(([^)]+\.md)\)", read_on))}
    assert len(linked) > 30
    assert {name: title for title, name in ENTRIES if name in linked} == linked


def test_pages_are_copied_with_what_they_link_to(tmp_path: Path) -> None:
    """Laid out as they are; a folder gets a list of its files, unless it has a page."""
    root = tmp_path / "root"
    for name, text in {
        "README.md": "[a](docs/a.md#x) [outside](https://example.com/no.py)",
        "docs/a.md": "[code](../src/code.py) [all](../src/more) [read](../src/told)",
        "src/code.py": "pass",
        "src/left.py": "pass",
        "src/more/b&c.py": "pass",
        "src/told/README.md": "# Told",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    build_site.copy_pages(tmp_path / "copied", root)
    copied = {str(file.relative_to(tmp_path / "copied")) for file in (tmp_path / "copied").rglob("*") if file.is_file()}
    assert copied == {
        "README.md", "docs/a.md", "src/code.py", "src/more/b&c.py", "src/more/index.html", "src/told/README.md",
    }  # fmt: skip
    assert '<a href="b&amp;c.py">' in (tmp_path / "copied" / "src" / "more" / "index.html").read_text(encoding="utf-8")


GOOD = '<h1 id="top">A</h1><img src="a.svg"><a href="https://example.com/">out</a><a href="b/?x=1#here">b</a>'


def write_site(place: Path, page: str) -> Path:
    (place / "b").mkdir(parents=True)
    (place / "a.svg").write_text("<svg/>", encoding="utf-8")
    (place / "b" / "index.html").write_text('<p id="here"><a href="../a.html#top">a</a>', encoding="utf-8")
    (place / "a.html").write_text(page, encoding="utf-8")
    return place


@pytest.mark.parametrize(
    ("added", "fault"),
    [
        ("", None),
        ('<a href="c.html">', "leads nowhere: c.html"),
        ('<a href="b/#gone">', "leads nowhere: b/#gone"),
        ('<a href="#gone">', "leads nowhere: #gone"),
        ('<a href="../outside.txt">', "leads nowhere: ../outside.txt"),
        ('<img src="gone.png">', "leads nowhere: gone.png"),
        ('<script src="https://cdn.example.com/x.js"></script>', "loads https://cdn.example.com/x.js"),
        ('<link rel="stylesheet" href="//fonts.example.com/x.css">', "loads //fonts.example.com/x.css"),
        ('<pre class="mermaid">', "fetches what shows mermaid"),
    ],
)
def test_a_link_that_leads_nowhere_and_what_comes_from_elsewhere_are_found(
    tmp_path: Path, added: str, fault: str | None
) -> None:
    """In whichever built page; links to other sites, which a reader follows or not, are none of it."""
    (tmp_path / "outside.txt").write_text("not of the site", encoding="utf-8")
    found = build_site.find_faults(write_site(tmp_path / "site", GOOD + added))
    assert found == ([] if fault is None else [f"a.html: {fault}"])


def test_a_style_that_loads_from_elsewhere_is_found(tmp_path: Path) -> None:
    """A font is fetched by a style, not by a page."""
    site = write_site(tmp_path / "site", GOOD)
    (site / "x.css").write_text("a{b:url(data:,x)} @font-face{src:url('https://example.com/f')}", encoding="utf-8")
    assert build_site.find_faults(site) == ["x.css: loads https://example.com/f"]


def test_pins_name_no_registry() -> None:
    """Whoever installs them has one set up; every one has its hashes."""
    for file in sorted((ROOT / "requirements").glob("*.txt")):
        text = file.read_text(encoding="utf-8")
        assert "://" not in text, file.name
        assert text.count("==") <= text.count("--hash=sha256:"), file.name


class Article(HTMLParser):
    """The elements of a page's article, counted."""

    def __init__(self, text: str, *, whole: bool) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self._inside = whole
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = self._inside or tag == "article"
        if self._inside and tag in COMPARED:
            self.counts[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "article":
            self._inside = False


@pytest.fixture(scope="module")
def site() -> Path:
    """Build the site once, and strictly: whatever leads nowhere ends the build."""
    if not build_site.PROGRAM.is_file():
        pytest.skip("no zensical: make site")
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "build_site.py"],
        capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return build_site.BUILT


def find_built(page: Path) -> str:
    """Return the address, below the site, of what a page of Markdown has become."""
    built = page.relative_to(ROOT).with_suffix(".html")
    return str(built.with_name("index.html") if page.name == "README.md" else built)


@pytest.mark.long
def test_the_built_pages_are_made_of_what_github_shows(site: Path) -> None:
    """Each page has the headings, lists, tables and blocks that it has there."""
    differing = {}
    for page in build_site.list_pages():
        here = Article((site / find_built(page)).read_text(encoding="utf-8"), whole=False).counts
        there = Article(RENDERER.render(page.read_text(encoding="utf-8")), whole=True).counts
        if here != there:
            differing[str(page.relative_to(ROOT))] = (here - there, there - here)
    assert differing == {}


@pytest.mark.long
def test_the_search_knows_the_headings_and_words_of_each_page(site: Path) -> None:
    """The longest word of each page's text, code left out, is in what the search reads of that page."""
    items = json.loads((site / "search.json").read_text(encoding="utf-8"))["items"]
    known: dict[str, str] = {}
    for item in items:
        address = item["location"].partition("#")[0]
        known[address] = f"{known.get(address, '')} {item['title']} {item['text']}"
    pages = build_site.list_pages()
    assert set(known) >= {find_built(page) for page in pages}
    for page in pages:
        words = re.findall(r"[A-Za-z]{4,}", RenderedPage(page.read_text(encoding="utf-8")).plain)
        assert max(words, key=len) in known[find_built(page)], page


@contextlib.contextmanager
def lending(folder: Path) -> Iterator[str]:
    """Serve a folder's files on a free port, as any web server does, until the block ends."""
    handler = functools.partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files, and writes nothing of it on the standard error stream."""

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def reading(site: Path, **how: Any) -> Iterator[tuple[Page, str]]:
    """Open a browser on the site; whatever asks another host, or fails in a script, fails the test.

    Args:
        how: options of Playwright's contexts.
    """
    with lending(site) as address, browsing() as browser:
        context = browser.new_context(**how)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        said: list[str] = []
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on(
            "request", lambda request: None if request.url.startswith((*OWN, address)) else said.append(request.url)
        )
        page.on("response", lambda answer: said.append(answer.url) if answer.status >= HTTPStatus.BAD_REQUEST else None)
        yield page, address
        assert said == []
        context.close()


OWN = ("data:", "blob:")
"""What a page makes itself is asked of no host."""


@needs_chromium
@pytest.mark.long
@pytest.mark.rotating("site", 3)
def test_every_page_fits_a_telephone(site: Path) -> None:
    """At 360 px no page is moved sideways to be read; a wider table moves in its own frame, its keys whole."""
    with reading(site, viewport={"width": 360, "height": 800}) as (page, address):
        too_wide, broken = [], []
        for each in build_site.list_pages():
            page.goto(address + find_built(each), wait_until="domcontentloaded")
            page.locator("article").wait_for()
            if is_too_wide(page):
                too_wide.append(each.name)
            broken += [f"{each.name}: {key}" for key in page.evaluate(BROKEN_KEYS)]
    assert too_wide == []
    assert broken == []


BROKEN_KEYS = """
[...document.querySelectorAll("article td:first-child code")]
  .filter((each) => !/[\\s\\-\\/?]/.test(each.textContent) && each.getClientRects().length > 1)
  .map((each) => each.textContent)
"""
"""Code that begins a row and stands on more than one line, unless it has a place to break."""


@needs_chromium
@pytest.mark.long
@pytest.mark.rotating("site", 3)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_reader_searches_copies_and_chooses_the_colours(site: Path, scheme: Literal["light", "dark"]) -> None:
    """The colours are the system's until one is chosen; a printed run is copied without prompts and answers."""
    allowed = ["clipboard-read", "clipboard-write"]
    wide = {"width": 1440, "height": 900}
    with reading(site, viewport=wide, color_scheme=scheme, permissions=allowed) as (page, address):
        page.goto(address + "docs/quickstart.html")
        named = {"light": "default", "dark": "slate"}
        page.locator(f"body[data-md-color-scheme={named[scheme]}]").wait_for()
        page.get_by_title("Always light").click()
        page.locator("body[data-md-color-scheme=default]").wait_for()
        page.get_by_title("Always dark").click()
        page.locator("body[data-md-color-scheme=slate]").wait_for()

        run = page.locator("div.highlight", has=page.locator(".go")).first
        typed = [line[2:].rstrip() for line in run.locator("code").inner_text().splitlines() if line.startswith("$ ")]
        run.hover()
        run.get_by_title("Copy to clipboard").click()
        page.wait_for_function("async () => (await navigator.clipboard.readText()) !== ''")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert typed
        assert [line.rstrip() for line in copied.splitlines() if line.strip()] == typed

        page.keyboard.press("Control+k")
        page.get_by_role("textbox").or_(page.get_by_role("combobox")).first.fill("quarantine")
        page.get_by_text(re.compile(r"^[0-9]+ results$")).wait_for()
