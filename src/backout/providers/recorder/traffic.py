"""Port Traffic on a flight recorder: every isolate's batches, added up per version and second.

When a second is final. An answer is counted in the second in which it ended, by the edge's clock. Its batch is stored
`flush_s` later, and within `flush_s` + 2 s of that second's end in all but odd cases; what is stored later than that is
counted in the first second that was still open when it arrived, so that nothing is lost and no final second changes.
"Stored" is the sink's own clock, the same for all isolates and all readers. The watermark is two seconds
behind that again, for our clock may differ from the sink's.

An isolate that slows down gives its word: until when it may hold counts, and of which version alone. Until it has
stored them, no second is final. While one version is watched, only the word about that version holds the watermark: the
others' counts come late then, and are counted in the first open second. An isolate that sees another version than the
one it spoke of stores at once.

When a recorder is alive. No batch for a minute may mean no visitor, or no recorder: the watermark stops until there is
one. The probes that guard sends are answers too, so a recorder that lives is heard while guard watches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from backout.model.guard.answers import EVERY_CLASS
from backout.model.guard.route_names import RouteNames
from backout.model.guard.signals import CountsPage, SourceTraits
from backout.model.value import Value
from backout.providers.recorder.counting import Dated, count_rows
from backout.providers.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from backout.model.guard.signals import Counts
    from backout.ports import Clock
    from backout.providers.recorder.batches import Batch

QUICK: Final = Retry(attempts=2, first_wait_s=0.1, longest_wait_s=1.0, total_s=5.0)
"""A watch asks again in a second anyway."""
SILENT_S: Final = 60
QUIET_S: Final = 90
"""More than an isolate that slowed down holds its counts for (`recorder.js`: QUIET_MS and FLUSH_MS, and two more)."""
_SLACK_S: Final = 2
_CLOCK_S: Final = 2
_BEYOND_S: Final = 15  # between the second in an object's name and the one in which it was stored
_NEWEST: Final = 4
_WITH_METHODS: Final = 2
_WITH_CHOICE: Final = 3


class Stored(Value, frozen=True):
    """A batch and the Unix second in which it was stored, by the sink's clock."""

    second: int
    batch: Batch


class Word(Value, frozen=True):
    """The word of an isolate: since it stored last (Unix second), until when it may hold counts, of which version."""

    stored: int
    until: int
    version: str


class Found(Value, frozen=True):
    """What is in the sink: batches, and the newest word of each isolate that gave one with what it stored last."""

    batches: tuple[Stored, ...]
    words: tuple[Word, ...]


class Sink(Protocol):
    """Where the isolates of a recorder store their batches."""

    def fetch(self, since: int, until: int, tell: Callable[[str, int], None]) -> Found:
        """Return the batches that were stored between about these Unix seconds, each once.

        Args:
            since, until: the seconds.
            tell: told what cannot be used, and how often that was.
        """
        ...


def make_traits(flush_s: float, *, knows: int = _NEWEST, held_s: float = 0.0) -> SourceTraits:
    """Return what a recorder that stores so often can see: each answer, some seconds later.

    Args:
        flush_s: how often it stores while a version is new.
        knows: the lowest `Batch.v` of what was read.
        held_s: how long counts of what is watched may be held beyond that.
    """
    return SourceTraits(
        "recorder",
        lag_s=_measure_open_s(flush_s) + _CLOCK_S + 1 + held_s,
        sampled=False,
        has_status=True,
        has_version=True,
        classes=EVERY_CLASS,
        has_method=knows >= _WITH_METHODS,
        has_triggers=knows >= _WITH_METHODS,
        has_choice=knows >= _WITH_CHOICE,
    )


def _measure_open_s(flush_s: float) -> int:
    """Return for how many seconds a second takes batches."""
    return int(flush_s) + _SLACK_S


class RecorderTraffic:
    """Port Traffic of one script whose answers a flight recorder counts.

    Args:
        sink: where its counts are.
        clock: ours.
        say: told in one sentence, once each, what cannot be counted: batches that are unreadable or badly signed, and
            answers that the recorder lost itself.
        flush_s: how often the recorder stores while a version is new.
    """

    def __init__(
        self, sink: Sink, clock: Clock, say: Callable[[str], None] = lambda _text: None, *, flush_s: float = 2.0
    ) -> None:
        self._sink = sink
        self._flush_s = flush_s
        self._clock = clock
        self._say = say
        self._open_s = _measure_open_s(flush_s)
        self._told: set[str] = set()
        self._names = RouteNames()
        self._knows = _NEWEST
        self._takes_keyed = True
        self._watched = ""
        self._held_s = 0.0

    @property
    def traits(self) -> SourceTraits:
        """What this source can see: less while a recorder of an earlier version stores, later while one is slow."""
        return make_traits(self._flush_s, knows=self._knows, held_s=self._held_s)

    def learn(self, names: Iterable[str]) -> None:
        """Take the names of routes that are known from before."""
        self._names.learn(names)

    def count_keyed(self, *, wanted: bool) -> None:
        """Count requests whose version a key chose as all others, or leave them out."""
        self._takes_keyed = wanted

    def watch(self, version: str) -> None:
        """Wait for late counts of this version alone from now on, of every one with ""."""
        self._watched, self._held_s = version, 0.0

    def read(self, since: int, until: int) -> CountsPage:
        """Return the counts of the seconds in [since, until), all isolates added up."""
        final = int(self._clock.now()) - self._open_s - _CLOCK_S
        before = since - max(SILENT_S, QUIET_S) - _BEYOND_S
        found = self._sink.fetch(before, until + QUIET_S + self._open_s + _BEYOND_S, self._tell)
        batches = found.batches
        alive = max((each.second for each in batches), default=None)
        self._knows = min((each.batch.v for each in batches), default=self._knows)
        heard = since if alive is None else alive - self._open_s + SILENT_S
        held = self._find_held(found.words)
        self._held_s = float(max(0, final - held)) if self._watched else 0.0
        return CountsPage(self._counts(batches, since, until), min(final, heard, held))

    def _find_held(self, words: Iterable[Word]) -> int:
        """Return up to which second no isolate that gave its word holds anything: none may, after its word ended."""
        now = self._clock.now() - _CLOCK_S
        told = [each for each in words if each.until >= now and self._watched in ("", each.version)]
        return min((each.stored for each in told), default=int(now)) - self._open_s

    def _date(self, each: Stored) -> Dated:
        """Return the batch with how late its rows may be: as late as the isolate said that they would be, if it did."""
        held, open_s = each.batch.held, self._open_s
        if held is not None and each.second <= held.until and self._watched in ("", held.version):
            open_s = max(open_s, held.s + _SLACK_S)
        return Dated(each.batch, each.second, open_s)

    def _counts(self, batches: Sequence[Stored], since: int, until: int) -> tuple[Counts, ...]:
        dated = [self._date(each) for each in batches]
        counts, beside = count_rows(dated, since, until, self._names, takes_keyed=self._takes_keyed)
        if beside.lost:
            self._tell("the flight recorder had no room for some answers: its counts are too low", beside.lost)
        if beside.nameless:
            self._tell("the flight recorder saw answers without a version, and they are not counted", beside.nameless)
        if beside.gaps:
            self._tell("counts of the flight recorder are missing: its counts are too low", beside.gaps)
        return counts

    def _tell(self, what: str, number: int) -> None:
        kind = what.partition(", such as ")[0]
        if kind not in self._told:
            self._told.add(kind)
            self._say(f"{what} ({number})")
