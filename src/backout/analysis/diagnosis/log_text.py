r"""A log text prepared for signatures: without colours and escapes, message and stack frames separated; pure.

>>> read_text('\x1b[31mTypeError: x\x1b[0m\n    at f (file:///app/w.js:1:2)').message
'TypeError: x'
"""

from __future__ import annotations

import re
from typing import Final

from backout.model.value import Value

LONGEST: Final = 20_000
"""Characters that are read of a text, three quarters of them from its beginning; causes stand at the ends."""
_LONGEST_FRAME: Final = 2000
"""A longer line is no stack frame: its pattern looks at each part of a line from each place before it."""
_ANSI: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_ESCAPED: Final = re.compile(r"\\+(?:[nrt]|[\"/\\]|u[0-9a-fA-F]{4})")
RUNNER: Final = re.compile(
    r"""^(?:[^\t\n]{1,120}\t[^\t\n]{1,120}\t)?\ufeff?         # job and step, where several logs are printed as one
        (?:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z[ \t]   # time of day or date and time
         | \[?\d{1,2}:\d\d:\d\d(?:\.\d{1,6})?(?:\ [AP]M:)?\]?[ \t]
         | \#\d{1,4}\ \d{1,6}\.\d{1,3}\ )                        # step and seconds, of an image's build
    """,
    re.VERBOSE | re.MULTILINE,
)
"""What a runner puts before each line of a step's output; behind it stands the line as the tool printed it."""
ERROR_MARK: Final = re.compile(r"^(?:##\[error\]|::error(?: [^\n]*?)?::)", re.MULTILINE)
"""What a runner puts before a line that it shows as an error."""
_FRAME: Final = re.compile(
    r"""^\s*+(?:
        at\s.*(?:[:(]\d+|<anonymous>\)?|native\)?|\[as\ .*\])\S*(?:\s\{)?\s*$   # JavaScript, Java
      | \#?\d*\s*at\sasync\s.*$
      | File\s".*",\sline\s\d+.*$                                        # Python
      | \u276f\s.*:\d+:\d+\s*$                                                # vitest
    )""",
    re.VERBOSE,
)
_CSV_RECORD: Final = re.compile(r',(?:ERROR|FATAL|PANIC),[0-9A-Z]{5},"')
"""A server's log as CSV: quotation marks in a message are doubled."""
_PYTHON_FRAME: Final = re.compile(r'^\s*File ".*", line \d+')
_PLAIN: Final = {"n": "\n", "r": "\n", "t": "\t"}


class LogText(Value, frozen=True):
    """`message`: all lines that are not stack frames; `stack`: the frames and the code that they quote."""

    message: str
    stack: str

    @property
    def whole(self) -> str:
        """Message and stack."""
        return f"{self.message}\n{self.stack}" if self.stack else self.message


def strip_colours(text: str) -> str:
    """Return the text without the terminal's colours."""
    return _ANSI.sub("", text) if "\x1b" in text else text


def read_text(raw: str) -> LogText:
    """Return the text taken apart; one that is too long is read at both ends."""
    text = raw
    if len(text) > LONGEST:
        text = f"{text[: LONGEST * 3 // 4]}\n{text[-LONGEST // 4 :]}"
    if "\\" in text:
        text = _ESCAPED.sub(_unescape, text)
    text = ERROR_MARK.sub("", RUNNER.sub("", strip_colours(text)))
    if '""' in text and _CSV_RECORD.search(text):
        text = text.replace('""', '"')
    message: list[str] = []
    stack: list[str] = []
    quoted = False
    for line in text.splitlines():
        if len(line) <= _LONGEST_FRAME and _FRAME.match(line):
            stack.append(line)
            quoted = bool(_PYTHON_FRAME.match(line))
        elif quoted and line.startswith("    "):  # the line of code, and the carets below it
            stack.append(line)
        else:
            quoted = False
            message.append(line)
    return LogText("\n".join(message), "\n".join(stack))


def _unescape(found: re.Match[str]) -> str:
    r"""Return what an escape in JSON stands for; one that was escaped several times is taken for one."""
    kind = found[0].lstrip("\\")
    if not kind:
        return "\\"
    if kind[0] == "u":
        return chr(int(kind[1:], 16))
    return _PLAIN.get(kind, kind)
