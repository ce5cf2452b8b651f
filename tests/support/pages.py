"""Pages of Markdown, rendered: which elements they are built of, and whether anything in their text comes alive."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from markdown_it import MarkdownIt

RENDERER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
LIVE = re.compile(r"https?://|\bwww\.|(?<![\w`])@\w|\w@\w|#\d|\bGH-\d", re.IGNORECASE)
"""What pages make links and mentions of where it stands as plain text."""


class Page(HTMLParser):
    """The elements of a page in their order, code left out, and its text outside of code."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.plain = ""
        self.all = ""
        self._code = 0
        self.feed(RENDERER.render(text))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._code += tag in ("code", "pre")
        if tag != "code":
            self.elements.append(f"{tag} {sorted(name for name, _ in attrs)}")

    def handle_endtag(self, tag: str) -> None:
        self._code -= tag in ("code", "pre")
        if tag != "code":
            self.elements.append(f"/{tag}")

    def handle_comment(self, data: str) -> None:
        self.elements.append("comment")

    def handle_data(self, data: str) -> None:
        self.all += data
        self.plain += "" if self._code else data


def check(made: str, plain: str) -> None:
    """Fail when a page is built otherwise than the same page with a plain word, or when something comes alive."""
    page = Page(made)
    assert page.elements == Page(plain).elements
    assert not LIVE.search(page.plain), page.plain
