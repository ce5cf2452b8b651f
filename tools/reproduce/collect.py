"""The output of the reproducing scripts: one JSON object a line on standard output."""

from __future__ import annotations

import json
import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 2500
"""Characters of a text that are kept: about what a person pastes from a log."""
_SCRIPT = re.compile(
    rf'^  File "{re.escape(str(Path(__file__).parent))}/[^"]+", line (\d+), in .*\n(?:    .*\n)*', re.MULTILINE
)


def keep(origin: str, kind: str, text: str) -> None:
    """Print one case; `origin` is "software@version#case", `kind` is runtime, build or migration."""
    text = shortened(text.strip("\n"))
    if not text:
        print(f"{origin}: nothing was printed", file=sys.stderr)
        return
    print(json.dumps({"origin": origin, "kind": kind, "text": text}, ensure_ascii=False), flush=True)


def keep_failure(origin: str, kind: str, action: Callable[[], object], *, one_line: bool = False) -> None:
    """Run an action that must fail and keep its traceback, or only the line that names the error.

    The script's own frames get an application's name and lose their source: it would tell the label.
    """
    try:
        action()
    except Exception as error:  # noqa: BLE001 - whatever was raised is the result
        name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
        text = f"{name}: {error}" if one_line else _SCRIPT.sub(_application_frame, traceback.format_exc())
        text = text.replace(str(ROOT), "/app")
        keep(origin, kind, text)
    else:
        print(f"{origin}: did not fail", file=sys.stderr)


def shortened(text: str) -> str:
    """The first lines and as many of the last as fit into LIMIT: the cause is at an end."""
    if len(text) <= LIMIT:
        return text
    lines = text.splitlines()
    head, tail = lines[:6], []
    room = LIMIT - sum(len(line) + 1 for line in head)
    for line in reversed(lines[6:]):
        room -= len(line) + 1
        if room < 0:
            break
        tail.append(line)
    return "\n".join([*head, *reversed(tail)])[:LIMIT]


def _application_frame(match: re.Match[str]) -> str:
    return f'  File "/app/service/orders.py", line {match[1]}, in handle\n'
