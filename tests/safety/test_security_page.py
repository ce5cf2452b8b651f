"""SECURITY.md promises only what a test holds: each line of it names its tests, and they are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from source_trees import nodes_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT.joinpath("SECURITY.md").read_text(encoding="utf-8")
PROMISES = re.findall(r"^- .+?(?=\n- |\n\n|\Z)", PAGE, re.MULTILINE | re.DOTALL)
_TEST = re.compile(r"\[(test_\w+)\]\((tests/[\w/]+\.py)\)")


def test_each_promise_names_a_test_that_exists() -> None:
    """A test that was renamed or taken out takes its promise with it."""
    assert len(PROMISES) > 20
    for promise in PROMISES:
        named = _TEST.findall(promise)
        assert named, promise
        for name, file in named:
            assert name in {node.name for node in nodes_of(ROOT / file) if isinstance(node, ast.FunctionDef)}, (
                file,
                name,
            )


_ADDRESS = re.compile(r"https?://([\w.-]+)")
_OF_EXAMPLES = re.compile(r"(example(\.\w+)*|localhost|invalid|host|tail|127\.0\.0\.1(\.example)?)$")
_OF_PROVIDERS = {
    "api.cloudflare.com",
    "dash.cloudflare.com",  # told to a person while the API does not answer, asked by nobody
    "www.cloudflarestatus.com",
    "api.github.com",
    "token.actions.githubusercontent.com",  # whose keys a server of pages reads that jobs may use
    "console.neon.tech",
    "api.xata.tech",
    "s3.amazonaws.com",  # the name of an XML namespace,
    "www.w3.org",  # the name of another one: SVG
    "events.eu.pagerduty.com",
    "events.pagerduty.com",
}


def test_no_address_is_known_but_those_of_the_providers() -> None:
    """Nothing is fetched, counted or looked for by itself: whatever is asked is a provider that somebody set up."""
    files = ROOT.joinpath("src").rglob("*.py")
    found = {host for file in files for host in _ADDRESS.findall(file.read_text(encoding="utf-8"))}
    assert {host for host in found if not _OF_EXAMPLES.search(host.rstrip("."))} == _OF_PROVIDERS
