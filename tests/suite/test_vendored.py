"""What others wrote and a browser runs on our pages is what they published, with its licence beside it."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

VENDOR = Path(__file__).parents[2] / "src" / "backout" / "web" / "static" / "vendor"
HASHES = {
    "htmx.min.js": ("htmx.org 4.0.1", "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130"),
    "hx-sse.min.js": ("htmx.org 4.0.1", "18ef2761356ec1fe0bb6d92612315b37517a7c1e9856b661c5ae81fef239d103"),
    "uplot.min.js": ("uplot 1.6.32", "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"),
    "uplot.min.css": ("uplot 1.6.32", "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04"),
}
"""The SHA-256 of each file as in its npm package, without the line that names its source map."""


def test_each_file_is_as_it_was_published() -> None:
    """Another version comes with another hash, here and in a review."""
    files = {path.name for path in VENDOR.iterdir() if path.suffix != ".LICENSE"}
    assert files == HASHES.keys()
    assert {name: hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() for name in HASHES} == {
        name: digest for name, (_, digest) in HASHES.items()
    }


def test_each_has_its_licence() -> None:
    """As both of them ask for."""
    assert {path.stem for path in VENDOR.glob("*.LICENSE")} == {"htmx", "uplot"}


def test_what_a_page_loads_is_small() -> None:
    """On a phone at three in the morning."""
    static = VENDOR.parent
    sizes = [len(gzip.compress(path.read_bytes())) for path in static.rglob("*") if path.suffix in (".js", ".css")]
    assert sum(sizes) < 60_000
