"""Groups plain text into entries: the lines of one traceback, one query or one event belong together.

Known by their look: logs of Python, Node, Postgres, web servers, builds, GitHub Actions, and what `wrangler tail
--format pretty` prints.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from backout.model.incident.events import Invocation, Origin, Said
from backout.model.outcomes import CANCELED, OK
from backout.providers.events.times import find_time
from backout.providers.events.worker import parse_status

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSI: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_ACTIONS: Final = re.compile(
    r"\ufeff?(?:[^\t]*\t[^\t]*\t)?(?P<at>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z) ?(?P<rest>.*)"
)
_OUTCOMES: Final = {
    "Ok": OK,
    "Canceled": CANCELED,
    "Exceeded CPU Limit": "exceededCpu",
    "Exceeded Memory Limit": "exceededMemory",
    "Exception Thrown": "exception",
    "Unknown": "unknown",
}
_OUTCOME: Final = "(?P<outcome>" + "|".join(_OUTCOMES) + ")"
_EVENT: Final = re.compile(
    rf"(?P<what>\S.*) (?:- {_OUTCOME} @ (?P<at>.+)|@ (?P<before>.+) - {_OUTCOME.replace('outcome', 'after')})$"
)
_EVENT_LOG: Final = re.compile(r"  \((?P<level>[a-z]+)\) ?(?P<text>.*)")
_EVENT_THROWN: Final = re.compile(r"\s*[✘X]? ?\[?ERROR\]? +(?P<text>\S.*)")
_LEVEL: Final = re.compile(
    r"""(?:^|(?<=[\s\[(|<"=:]))(?:
        (?P<error>EMERG\w*|ALERT|CRIT(?:ICAL)?|FATAL|PANIC|SEVERE|ERROR|ERR!) | (?P<warning>WARN(?:ING)?)
      | (?P<other>INFO|DEBUG|TRACE|NOTICE|LOG|DETAIL|HINT|STATEMENT|CONTEXT|QUERY|LOCATION|VERBOSE|SUCCESS)
    )(?=[\s\]):|>,"]|$)""",
    re.VERBOSE,
)
_BEGINS_BAD: Final = re.compile(
    r"""(?:npm\s|pnpm\s|yarn\s)?(?:error|fatal|panic|failed|ERR!)\b[:\s] | \#\#\[error\] | ::error | [✘❌✖] | \[error\]
      | .*\blevel=(?:error|fatal)\b | .{1,140}?(?::\s|\)\s?:\s|\s-\s)error\s(?:TS\d+|[A-Z]+\d+)
      | (?:Uncaught|Unhandled)\b | Traceback\s\(most\srecent\scall\slast\)
      | (?:[A-Za-z_]\w*\.)*\w*(?:Error|Exception)(?:\s\[\w+\])?:""",
    re.VERBOSE,
)
_BEGINS_WARNING: Final = re.compile(
    r"(?:npm |pnpm )?warn(?:ing)?\b[: ]|##\[warning\]|::warning|▲|\[warn(?:ing)?\]|.*\blevel=warn"
)
_ACCESS: Final = re.compile(
    r"""\"[A-Z]{3,8}\s[^\"]*\"\s(?P<quoted>[1-5]\d\d)\b
      | ^\W*(?:GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS)\s\S+\s(?P<bare>[1-5]\d\d)\b""",
    re.VERBOSE,
)
_GOES_ON: Final = re.compile(
    r"""\s | [\])}] | Caused\sby\b | \[cause\] | \.\.\.\s\d+ | \[(?:SQL|parameters): | \(Background\son | at\s\S
      | (?:LINE|DETAIL|HINT|CONTEXT|QUERY|STATEMENT)\b.{0,3}[:\s] | [│╵╷→├└╰╭|]
      | The\sabove\sexception\swas | During\shandling\sof\sthe\sabove""",
    re.VERBOSE,
)
_TIMED_DETAIL: Final = re.compile(r"\d{4}-\d\d-\d\d [^\"]{0,60}?\b(?:DETAIL|HINT|STATEMENT|CONTEXT|QUERY|LOCATION): ")
_TRACEBACK: Final = "Traceback (most recent call last)"
_CHAINED: Final = ("The above exception was", "During handling of the above")
_THROWN: Final = re.compile(
    r"(?:[A-Za-z_]\w*\.)*[A-Z_]\w*(?:Error|Exception|Warning|Exit|Interrupt)?(?: \[\w+\])?(?::|$)"
)
_TOOL: Final = re.compile(r"npm (?:error|ERR!|warn)|pnpm ERR|yarn error")
_MARK: Final = re.compile(r"[✘❌✖]|error\b")
SAMPLING: Final = "sampling mode"
_MOST_LINES: Final = 400
_MOST_CHARACTERS: Final = 20_000
_HEAD: Final = 160
_LONGEST_EVENT: Final = 3000


@dataclass(slots=True)
class _Entry:
    """Lines that belong together."""

    line: int
    shape: str
    lines: list[str] = field(default_factory=list)
    size: int = 0
    at: float | None = None
    outcome: str | None = None
    in_traceback: bool = False
    blank: bool = False

    def append(self, text: str) -> None:
        if len(self.lines) < _MOST_LINES and self.size < _MOST_CHARACTERS:
            self.lines.append(text[:_MOST_CHARACTERS])
            self.size += len(text)


Read = tuple[Invocation, str, int]
"""What an entry says, the shape of its source, and its first line's number."""


class TextEntries:
    """Takes lines one by one and returns an entry when the next one begins."""

    def __init__(self) -> None:
        self._entry: _Entry | None = None

    @property
    def is_open(self) -> bool:
        """Whether an entry may still go on."""
        return self._entry is not None

    def take(self, raw: str, number: int) -> Iterator[Read]:
        """Take one line, and yield the entry that ended before it."""
        line = raw[:_MOST_CHARACTERS]
        line = ANSI.sub("", line).rstrip() if "\x1b" in line else line.rstrip()
        shape, at = "plain", None
        if found := _ACTIONS.match(line):
            shape, line, at = "actions", found["rest"], find_time(found["at"])
        entry = self._entry
        if not line:
            if entry is not None:
                entry.blank = True
            return
        if " @ " in line and (event := _EVENT.match(line[:_LONGEST_EVENT])):
            yield from self.rest()
            self._entry = _Entry(number, "tail_text", [line], at=find_time(event["at"] or event["before"]))
            self._entry.outcome = _OUTCOMES[event["outcome"] or event["after"]]
            return
        if entry is not None and self._goes_on(entry, line):
            entry.append(line)
            entry.blank = False
            return
        yield from self.rest()
        self._entry = _Entry(number, shape, at=at if at is not None else find_time(line[:_HEAD]))
        self._entry.append(line)
        self._entry.in_traceback = line.startswith(_TRACEBACK)

    def rest(self) -> Iterator[Read]:
        """Yield the entry that is open: nothing comes after it."""
        entry, self._entry = self._entry, None
        if entry is not None:
            yield (_parse_event(entry) if entry.outcome is not None else _parse_plain(entry)), entry.shape, entry.line

    def _goes_on(self, entry: _Entry, line: str) -> bool:
        """Whether a line belongs to the one before it."""
        if entry.outcome is not None:
            return not re.match(r"\d{4}-\d\d-\d\d[T ]", line)
        if _GOES_ON.match(line) or _TIMED_DETAIL.match(line):
            return True
        last = entry.lines[-1] if entry.lines else ""
        if line.startswith(_TRACEBACK):
            goes_on = last.startswith(_CHAINED) or (not entry.in_traceback and _parse_level(entry) is Origin.ERROR)
            entry.in_traceback = entry.in_traceback or goes_on
            return goes_on
        if entry.blank:
            return False
        if (tool := _TOOL.match(line)) is not None and entry.lines[0].startswith(tool[0]):
            return True
        if entry.in_traceback and last.startswith(" "):  # what the traceback says in the end
            return True
        return len(entry.lines) == 1 and bool(_MARK.match(last)) and bool(_THROWN.match(line))


def _parse_level(entry: _Entry) -> Origin | None:
    first = entry.lines[0] if entry.lines else ""
    head = first[:_HEAD]
    if found := _LEVEL.search(head):
        return Origin.ERROR if found["error"] else Origin.WARNING if found["warning"] else None
    if _BEGINS_BAD.match(head.lstrip()):
        return Origin.ERROR
    return Origin.WARNING if _BEGINS_WARNING.match(head.lstrip()) else None


def _parse_plain(entry: _Entry) -> Invocation:
    text = "\n".join(entry.lines)
    origin = _parse_level(entry)
    if entry.in_traceback or (origin is None and _TRACEBACK in text):
        origin = Origin.EXCEPTION
    status = None
    if found := _ACCESS.search(entry.lines[0][:_MOST_CHARACTERS] if entry.lines else ""):
        status = parse_status(int(found["quoted"] or found["bare"]))
        if origin is None and status is not None and status >= 500:
            origin = Origin.OUTCOME
    said = (Said(origin, text),) if origin is not None else ()
    failed = status is None and origin in (Origin.EXCEPTION, Origin.ERROR)
    return Invocation(at=entry.at, status=status, said=said, failed=failed)


def _parse_event(entry: _Entry) -> Invocation:
    """Return the event that a tail printed in words: its logs and exceptions follow its first line."""
    said: list[tuple[Origin | None, list[str]]] = []
    for line in entry.lines[1:]:
        if found := _EVENT_LOG.match(line):
            level = found["level"]
            origin = Origin.ERROR if level == "error" else Origin.WARNING if level == "warn" else None
            said.append((origin, [found["text"]]))
        elif found := _EVENT_THROWN.match(line):
            said.append((Origin.EXCEPTION, [found["text"]]))
        elif said:
            said[-1][1].append(line)
    texts = tuple(Said(origin, "\n".join(lines)) for origin, lines in said if origin is not None)
    return Invocation(at=entry.at, outcome=entry.outcome or OK, said=texts)
