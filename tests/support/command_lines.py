"""Command lines that a page quotes, and what backout's own parser makes of them; nothing is run."""

from __future__ import annotations

import re
import shlex

import click

from backout.cli.app import root

_CODE = re.compile(r"`([^`\n]+)`")
_BLOCK = re.compile(r"^```[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_PROMPT = re.compile(r"^(?:\$ |      |next: |\s*- run: )?((?:\.venv/bin/)?backout(?: .*)?)$", re.MULTILINE)
_CUT = re.compile(r"\s(?:#|\||>|&&|&$|\u2026)\s?.*$")


def quoted(text: str) -> list[str]:
    """Return every command line of backout that a page quotes, in a code span or on a line of a block."""
    blocks = _BLOCK.findall(text)
    found = [line for block in blocks for line in _PROMPT.findall(block)]
    spans = _CODE.findall(_BLOCK.sub("", text)) + [span for block in blocks for span in _CODE.findall(block)]
    found += [span for span in spans if re.match(r"backout( [^=|]|$)", span)]
    found += re.findall(r"\$\((backout [^)]*)\)", text)
    return [_CUT.sub("", line).strip() for line in found]


def parsed(line: str) -> list[str]:
    """Return the path of the command that the line calls; nothing is run.

    Raises:
        click.UsageError: a command, an argument or an option that does not exist.
    """
    command: click.Command = root
    ctx = click.Context(root, info_name="backout")
    words, path = shlex.split(line)[1:], []
    while True:
        values, rest, _ = command.make_parser(ctx).parse_args(list(words))
        for param in command.get_params(ctx):
            given = values.get(str(param.name))
            if isinstance(given, str) or (isinstance(given, (tuple, list)) and all(isinstance(v, str) for v in given)):
                param.type_cast_value(ctx, given)
        if not isinstance(command, click.Group):
            if rest:
                raise click.UsageError(f"too much: {rest}", ctx)
            return path
        if not rest:
            return path
        name, inner, words = command.resolve_command(ctx, rest)
        assert name is not None
        assert inner is not None
        path.append(name)
        command, ctx = inner, click.Context(inner, info_name=name, parent=ctx)
