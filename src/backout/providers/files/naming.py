"""Names of report files: safe in every file system, and unique."""

from __future__ import annotations

import re
from itertools import count
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_STEM: Final = 100


def list_file_names(name: str) -> Iterator[str]:
    """Yield the file name for a report's name, then the same with -2, -3, ...

    >>> names = list_file_names("2026-11-25 Errors on /api: 5%!.md")
    >>> next(names), next(names)
    ('2026-11-25-errors-on-api-5.md', '2026-11-25-errors-on-api-5-2.md')
    """
    stem = re.sub(r"[^a-z0-9]+", "-", name.removesuffix(".md").lower()).strip("-")[:MAX_STEM].strip("-") or "incident"
    yield f"{stem}.md"
    for number in count(2):
        yield f"{stem}-{number}.md"
