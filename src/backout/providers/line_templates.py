"""Lines to type as templates: made with a stand-in for the version, so that no other text in them is taken for one."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from msgspec import field

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION: Final = "5f0c2d9b41e7a836"
"""Stands for the id of a version or deployment in a line that becomes a template: one that none has, and that no shell
needs quotes for."""


def make_template(line: str, name: str = "version") -> str:
    r"""Return a line as a template for `str.format`, with `{version}`, or that name, in place of the stand-in.

    >>> make_template(f"cat '/srv/{{a}}/{VERSION}/live'")
    "cat '/srv/{{a}}/{version}/live'"
    """
    return line.replace("{", "{{").replace("}", "}}").replace(VERSION, f"{{{name}}}")


class HealthQuestion(Value, frozen=True):
    """How the health endpoint is asked by curl; no line holds a secret.

    Args:
        url: "" where there is none.
        headers: sent as they are.
        headers_env: header = the variable that holds its value.
    """

    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    headers_env: Mapping[str, str] = field(default_factory=dict)

    def write(self, *more: str) -> str:
        """Return the line that asks it once, "" where there is none; `more`: headers as words."""
        return self.feed(self.write_curl(shlex.quote(self.url), *more)) if self.url else ""

    def write_curl(self, url: str, *more: str) -> str:
        """Return curl with the headers for a URL, which is a word of a shell; it reads the secret ones, see `feed`."""
        plain = [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in self.headers.items()]
        secret = ["-H @-"] if self.headers_env else []
        return " ".join(["curl -sS -m 10", *plain, *secret, *more, url])

    def feed(self, line: str) -> str:
        """Return a line with the secret headers on its standard input: everybody on a host can read arguments."""
        if not self.headers_env:
            return line
        shape = "".join(f"{name.replace('%', '%%')}: %s\\n" for name in self.headers_env)
        values = " ".join(f'"${variable}"' for variable in self.headers_env.values())
        return f"printf {shlex.quote(shape)} {values} | {line}"
