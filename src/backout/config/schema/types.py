"""Building blocks of the tables of backout.toml: the table itself, and values with their limits."""

from __future__ import annotations

from typing import Annotated

import msgspec

Text = Annotated[str, msgspec.Meta(min_length=1)]
RUNS = msgspec.Meta(extra={"runs": "a program"})
"""Marks a key that names a program, or a file that can name one: `--no-commands` does without it."""
CommandLine = Annotated[str, msgspec.Meta(min_length=1), RUNS]
Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Ratio = Annotated[float, msgspec.Meta(gt=1)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Percent = Annotated[float, msgspec.Meta(gt=0, le=100)]
Route = Annotated[str, msgspec.Meta(pattern=r"^/[!-~]*$")]
Status = Annotated[int, msgspec.Meta(ge=100, le=599)]
Origin = Annotated[str, msgspec.Meta(pattern=r"^https?://[A-Za-z0-9.:\[\]-]+$")]
Asked = Annotated[str, msgspec.Meta(pattern=r"^(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) /[!-~]*$")]
Metric = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_:][A-Za-z0-9_:]*$")]
Label = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Tag = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file; an unknown key is a mistake."""
