"""Lines to type as templates: made with a stand-in for the version, so that no other text in them is taken for one."""

from __future__ import annotations

from typing import Final

VERSION: Final = "5f0c2d9b41e7a836"
"""Stands for the id of a version or deployment in a line that becomes a template: one that none has, and that no shell
needs quotes for."""


def make_template(line: str, name: str = "version") -> str:
    r"""Return a line as a template for `str.format`, with `{version}`, or that name, in place of the stand-in.

    >>> make_template(f"cat '/srv/{{a}}/{VERSION}/live'")
    "cat '/srv/{{a}}/{version}/live'"
    """
    return line.replace("{", "{{").replace("}", "}}").replace(VERSION, f"{{{name}}}")
