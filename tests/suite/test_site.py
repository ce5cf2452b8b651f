"""The site of the documentation: its navigation, the check of its links, and its pages where the builder is there."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import build_site
import pytest
from pages import RENDERER

from polling import PATIENCE_S

ROOT = Path(__file__).parents[2]
ENTRIES = re.findall(r"^ +- ([^:\n]+): (\S+\.md)$", build_site.CONFIGURATION.read_text(encoding="utf-8"), re.MULTILINE)
"""Titles and pages of the navigation, in its order."""
COMPARED = ("h1", "h2", "h3", "h4", "ul", "ol", "li", "table", "tr", "pre", "img", "strong", "em")


def test_the_navigation_names_each_page_once() -> None:
    """A new page stands in mkdocs.yml, and one that is gone does not."""
    pages = {str(page.relative_to(ROOT)) for page in build_site.list_pages()}
    assert Counter(name for _, name in ENTRIES) == Counter(pages)
    assert ENTRIES[0] == ("backout", "README.md")


def test_the_navigation_follows_the_readme() -> None:
    """What "Read on" links to stands in its order and by its names; what it leaves out may stand between."""
    _, _, read_on = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Read on")
    linked = {page: title for title, page in reversed(re.findall(r"\[([^]]+)\]\(([^)]+\.md)\)", read_on))}
    expected = list(dict.fromkeys(re.findall(r"\]\(([^)]+\.md)\)", read_on)))
    assert len(expected) > 30
    assert [(linked[name], name) for name in expected] == [each for each in ENTRIES if each[1] in linked]


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


if build_site.PROGRAM.is_file():  # after `make site`; skipped tests would say that a machine lacks something

    @pytest.mark.long
    def test_the_built_pages_are_made_of_what_github_shows() -> None:
        """Every link leads somewhere, and each page has the headings, lists, tables and blocks that it has there."""
        done = subprocess.run(
            [sys.executable, ROOT / "tools" / "build_site.py"],
            capture_output=True, text=True, check=False, timeout=PATIENCE_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        differing = {}
        for page in build_site.list_pages():
            built = build_site.BUILT / page.relative_to(ROOT).with_suffix(".html")
            built = built.with_name("index.html") if page.name == "README.md" else built
            here = Article(built.read_text(encoding="utf-8"), whole=False).counts
            there = Article(RENDERER.render(page.read_text(encoding="utf-8")), whole=True).counts
            if here != there:
                differing[str(page.relative_to(ROOT))] = (here - there, there - here)
        assert differing == {}
        assert (build_site.BUILT / "search.json").stat().st_size > 100_000
