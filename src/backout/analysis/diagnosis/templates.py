"""The common part of all texts of one error: class, masked first line, the application's topmost function; pure.

Positions never count: after each deployment the lines of a bundle move, and every old error would look new. What varies
with the request (numbers, ids, addresses, values) is masked; codes and quoted names distinguish errors, and stay.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from backout.analysis.diagnosis.log_text import read_text
from backout.analysis.diagnosis.masking import mask
from backout.decoding import is_nested_too_deep
from backout.model.incident.events import TemplateKey

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_TEXT: Final = 300
"""Characters of a message that count."""
_DIRECT_CAUSE: Final = "\nThe above exception was the direct cause of the following exception:"
_CAUSE: Final = re.compile(r"(?:\[cause\]:|\[\w*[eE]rrors\]: \[|^[ \t]*Caused by:?)\s*", re.MULTILINE)
_CLASS: Final = re.compile(
    r"""(?:^|(?<=\s))(?:Uncaught\s(?:\(in\spromise\)\s)?)?
    (?P<name>(?:[A-Za-z_$][\w$]*\.)*(?:[A-Z_$][\w$]*)?
       (?:Error|Exception|Warning|Exit|Interrupt|Timeout|Failure|Fault|Refused|Violation|Abort|Denied|Missing|NotFound|Required)\d*
      | (?:[a-z_]\w*\.)+[A-Z]\w+ | [45]\d\d\s[A-Z]\w+Error)
    (?:\s?[\[(](?P<code>[\w-]+)[\])])?\s*(?::\s(?P<rest>.*)|:?$)""",
    re.VERBOSE,
)
_LEAD: Final = re.compile(
    r"""^(?:\s*(?:
        (?:\d{4}[-/]\d\d[-/]\d\d|\d{1,2}/[A-Z][a-z]{2}/\d{4})[T\s:]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?\s?(?:Z|UTC|[+-]\d\d:?\d\d)?
      | \d\d:\d\d:\d\d(?:[.,]\d+)?
      | \[\d+(?::\d+)?\] | \#\d+
      | \#\#\[(?:error|warning)\] | ::(?:error|warning)[^:]*::
      | [✘✖▲>]+
      | [\[(]?(?:EMERG|ALERT|CRIT(?:ICAL)?|FATAL|PANIC|ERR(?:OR)?|WARN(?:ING)?|error|warn(?:ing)?|fatal|critical)
        [\])]?:?(?=\s)
      | \[(?:\d{4}-[^\]]{0,60}|[\w.-]{0,60}/?[\w.-]{0,60})\]\s*(?=\S)
      | -(?=\s)
    ))+\s*""",
    re.VERBOSE,
)
_BAD_LEVEL: Final = re.compile(r"EMERG|ALERT|CRIT|FATAL|PANIC|ERR|error|fatal|critical|[✘✖]")
_TRPC: Final = re.compile(
    r"tRPC\s(?:failed\s|error\s|call\s)*on\s'?(?P<failed>[\w.]+)'?\s?:?\s*|/trpc/(?P<path>[\w.]+)"
    r"|(?:procedure|path)[\s:\"'=]+(?P<named>[a-z]\w*(?:\.\w+)+)"
)
_CODE: Final = re.compile(
    r"""\b(?:P[1-6]\d{3}|TS\d{4,5}|SQLSTATE[\s(:=\[]*[0-9A-Z]{5}|E(?!RROR\b)[A-Z]{4,}\d?)\b | \[code:\s?\d+\]
      | ^[ \t]*(?:code|sqlstate|errno)['"]?:\s*['"](?P<quoted>[\w-]+)['"]""",
    re.VERBOSE | re.MULTILINE,
)
_JS_FRAME: Final = re.compile(
    r"^\s*at\s(?:async\s)?(?:new\s)?(?P<name>[^\s(]+)(?:\s\[as\s[^\]]+\])?\s\((?P<file>.*)\)(?:\s\{)?\s*$"
)
_PYTHON_FRAME: Final = re.compile(r'^\s*File "(?P<file>[^"]*)", line \d+, in (?P<name>\S+)')
_FOREIGN: Final = re.compile(
    r"node_modules|node:|internal/|site-packages|dist-packages|lib/python|<frozen|native|<anonymous>"
)
_SHORTEST_NAME: Final = 3
"""A shorter name is a minifier's, and another one after each build."""
_PLAIN_NUMBER: Final = re.compile(
    r"\d(?<=[a-z,'(] \d)(?<!tatus \d)(?<!ode \d)(?<!rrno \d)(?<!rror \d)(?<!ort \d)\d*(?=$|\n|[',;)] | [a-z(])"
    r"|\d(?<=[a-z]:\d)\d*:\d+(?=\)?(?:\n|$))"
)
"""A number that no rule of masking keeps: one after a word and before another one, and a place in a file.

The digit stands first: what is looked for by its first character is found fastest."""
_MOST_READ: Final = 32_768
_AT_A_CUT: Final = 4096
"""Of a longer text its two ends are read, each without what stands at the cut: see `Templates._mask_ends`."""
_MOST_REMEMBERED: Final = 10_000
_MESSAGE_KEYS: Final = ("error", "err", "exception", "exc_info", "message", "msg", "event", "detail", "cause")
_DEPTH: Final = 6
_MOST_LINES: Final = 200
"""Lines that are looked through at each end of a text."""


def make_template(text: str) -> TemplateKey:
    r"""Return the key of a text, whatever it is; equal keys mean the same trouble.

    >>> str(make_template("TypeError: x 17 is not a function\n    at save (worker-5f3a.js:1:2)"))
    'TypeError: x <n> is not a function (in save)'
    """
    text = _read_json(text) or text
    read = read_text(_find_innermost(text))
    first = _find_headline([line.strip() for line in read.message.splitlines() if line.strip()])
    procedure, first = _find_procedure(first, text)
    found = _CLASS.search(first[:_MOST_TEXT])
    name, message = "", first
    if found is not None and (not found.start() or (found["rest"] and found.start() <= _MOST_TEXT // 4)):
        name = found["name"].rpartition(".")[2]
        message = found["rest"] or ""
        if found["code"]:
            message = f"[{found['code']}] {message}"
    codes = dict.fromkeys(one["quoted"] or one[0].strip() for one in _CODE.finditer(read.message))
    masked = mask(message[:_MOST_TEXT].strip())
    masked = " ".join([masked, *(f"[{code}]" for code in list(codes)[:3] if code not in masked)]).strip()
    return TemplateKey(name, masked, _find_function(read.stack), procedure)


class Templates:
    """Computes template keys and caches them: a text that differs from another only in numbers is not parsed again.

    It is a pure function with a cache: the result depends on the text alone.

    Args:
        masked: takes every secret out of a text before anything is cut out of it, or replaced in it.
    """

    def __init__(self, masked: Callable[[str], str] = str) -> None:
        self._masked = masked
        self._by_text: dict[str, TemplateKey] = {}
        self._by_gist: dict[str, TemplateKey] = {}

    def __call__(self, text: str) -> TemplateKey:
        """Return the template key of a text."""
        if len(text) > _MOST_READ:
            return make_template(self._mask_ends(text))
        found = self._by_text.get(text)
        if found is None:
            gist = _PLAIN_NUMBER.sub("0", text)
            found = self._by_gist.get(gist)
            if found is None:
                found = make_template(self._masked(text))
                _remember(self._by_gist, gist, found)
            if gist == text:  # one with numbers in it hardly comes again
                _remember(self._by_text, text, found)
        return found

    def _mask_ends(self, text: str) -> str:
        """Return the two ends of a long text, masked.

        A cut can go through a secret, of which no mask knows the part that is left; so what may be such a part is left
        out afterwards: more than a private key has.
        """
        half = _MOST_READ // 2
        return f"{self._masked(text[:half])[:-_AT_A_CUT]}\n{self._masked(text[-half:])[_AT_A_CUT:]}"


def _remember(known: dict[str, TemplateKey], text: str, key: TemplateKey) -> None:
    if len(known) >= _MOST_REMEMBERED:
        known.clear()
    known[text] = key


def _read_json(text: str) -> str | None:
    """Return what a structured entry says went wrong: the innermost error's text, None for anything else."""
    stripped = text.strip()
    if not (stripped.startswith("{") and stripped.endswith("}")) or is_nested_too_deep(stripped):
        return None
    try:
        value: object = json.loads(stripped)
    except (ValueError, RecursionError):
        return None
    return _extract_message(value, _DEPTH)


def _extract_message(value: object, depth: int) -> str | None:
    if isinstance(value, str):
        return value.strip() or None
    if not isinstance(value, dict) or not depth:
        return None
    stack, message = value.get("stack") or value.get("stack_trace"), value.get("message")
    cause = value.get("cause")
    if isinstance(cause, dict) and (inner := _extract_message(cause, depth - 1)):
        return inner
    kind = value.get("name") or value.get("type") or value.get("exc_type")
    if isinstance(message, str) and isinstance(kind, str) and isinstance(stack, str):
        return stack if message.partition("\n")[0] in stack else f"{kind}: {message}\n{stack}"
    if isinstance(stack, str) and stack.strip():
        return stack
    if isinstance(message, str) and isinstance(kind, str):
        return message if kind in message else f"{kind}: {message}"
    return next((found for key in _MESSAGE_KEYS if (found := _extract_message(value.get(key), depth - 1))), None)


def _find_innermost(text: str) -> str:
    """Return the part of a text that is about the first cause of all."""
    if _DIRECT_CAUSE in text:
        return text.partition(_DIRECT_CAUSE)[0]
    begins = max((found.end() for found in _CAUSE.finditer(text)), default=0)
    return text[begins:] if text[begins:].strip() else text


def _find_headline(lines: list[str]) -> str:
    """Return the line that says it, without what a log writes before it.

    It is the last one with a class at its beginning after a traceback, else the first one with a class or a level of
    errors, else the first. A line that only leads to the next one comes with what it leads to.
    """
    if not lines:
        return ""
    lines = lines[:_MOST_LINES] + lines[_MOST_LINES:][-_MOST_LINES:]
    chosen = [index for index, line in enumerate(lines) if _says_it(line)]
    index = chosen[0] if chosen else 0
    if any(line.startswith("Traceback (most recent call last)") for line in lines):
        index = next((each for each in reversed(chosen) if _CLASS.match(lines[each])), len(lines) - 1)
    first = _LEAD.sub("", lines[index], count=1) or lines[index]
    rest = lines[index + 1 :]
    if rest and first.endswith(("invocation:", "invocation in")):  # the query and the code that made it come between
        return f"{first.rstrip(':')}: {rest[-1]}"
    if rest and first.endswith((":", "(", "[")):
        return f"{first} {_LEAD.sub('', rest[0], count=1)}"
    return first


def _says_it(line: str) -> bool:
    lead = _LEAD.match(line)
    if lead is not None and _BAD_LEVEL.search(lead[0]):
        return True
    return _CLASS.match(line[lead.end() :] if lead else line) is not None


def _find_procedure(first: str, text: str) -> tuple[str, str]:
    found = _TRPC.search(first) or (_TRPC.search(text) if "trpc" in text.lower() else None)
    if found is None:
        return "", first
    if found["failed"] and first[found.start() : found.end()] == found[0]:
        first = first[found.end() :] or first
    return found["failed"] or found["path"] or found["named"], first


def _find_function(stack: str) -> str:
    """Return the name of the topmost frame that is the application's own; Python writes that one last."""
    frames = stack.splitlines()
    for line in frames:
        found = _JS_FRAME.match(line)
        if found and not _FOREIGN.search(found["file"]):
            name = found["name"].rpartition(".")[2]
            if len(name) >= _SHORTEST_NAME and not name.startswith("<"):
                return name
    for line in reversed(frames):
        found = _PYTHON_FRAME.match(line)
        if found and not found["name"].startswith("<") and not _FOREIGN.search(found["file"]):
            return found["name"]
    return ""
