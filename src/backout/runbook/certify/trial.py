"""The trial itself: each phase under the same requests, the database looked at in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.analysis.certify.answers import compare_schema, compare_written, list_added, list_written
from backout.analysis.certify.requests import fill, find_saved
from backout.model.database.certificate import Phase, PhaseRecord, RoundTrip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from backout.analysis.certify.answers import Written
    from backout.model.database.certificate import TableRows, TrialAnswer, TrialRequest
    from backout.model.database.compatibility import MigrationFile
    from backout.ports import TrialApplication, TrialDatabase

ROUNDS: Final = 2
"""How often each phase sends all requests: the second time over what the first time wrote."""

WATCHED_ROWS: Final = 5000
_READING: Final = ("GET", "HEAD", "OPTIONS")


def run_round_trip(
    application: TrialApplication,
    database: TrialDatabase,
    requests: Sequence[TrialRequest],
    migrations: Sequence[MigrationFile],
    *,
    say: Callable[[str], None] = lambda _: None,
) -> RoundTrip:
    """Run the old code, migrate, run the new code, return to the old code; return what was seen.

    Args:
        requests: sent in this order in each phase, twice.
        migrations: those that the new code needs, not applied yet.
        say: hears what is done.

    Raises:
        BackoutError: a version does not start, or a part of the trial does not answer.
    """
    sender = _Sender(application, database, requests)
    database.take_statements()
    say(f"old code: {len(requests)} request{'s' * (len(requests) != 1)}, {ROUNDS} times")
    application.switch("old")
    old = PhaseRecord(sender.send_all(Phase.OLD), database.take_statements())
    before = database.read_rows()
    empty = tuple(f"table {name}: it holds no row" for name, table in before.items() if not table.rows)
    say(f"migrate: {', '.join(file.name for file in migrations) or 'nothing'}")
    refused = database.migrate(migrations)
    if refused:
        return RoundTrip(
            tuple(requests), old, refused_migration=refused, not_exercised=(*application.list_refused(), *empty)
        )
    losses = database.find_losses(before)
    migrated = database.read_rows()
    database.take_statements()
    say("new code: the same requests")
    application.switch("new")
    new = PhaseRecord(sender.send_all(Phase.NEW), database.take_statements())
    written = database.read_rows()
    say("old code again: reads of what the new code wrote, then the same requests")
    application.switch("old")
    answers = (*sender.send_reads(), *sender.send_all(Phase.OLD_AGAIN))
    old_again = PhaseRecord(answers, database.take_statements())
    rows = _select_written(migrated, written)
    changed = compare_written(requests, sender.written[Phase.OLD], sender.written[Phase.OLD_AGAIN])
    return RoundTrip(
        tuple(requests),
        old,
        new,
        old_again,
        losses=losses,
        changed=(*compare_schema(written, database.read_rows()), *changed),
        rows_written=sum(map(len, rows.values())),
        rows_read_again=database.count_read_again(rows, [s for s in old_again.statements if not s.sqlstate]),
        not_exercised=(*application.list_refused(), *empty, *sender.unwatched),
    )


def _select_written(
    before: Mapping[str, TableRows], after: Mapping[str, TableRows]
) -> dict[str, list[tuple[str | None, ...]]]:
    """Return the keys of the rows that are new, or hold something else, by table."""
    found = {}
    for name, table in after.items():
        known = before.get(name)
        if known is None:
            continue  # made by the migrations: no old code reads it
        changed = [key for key, row in table.rows.items() if key in known.rows and known.rows[key] != row]
        if keys := [*list_added(known, table), *changed]:
            found[name] = keys
    return found


class _Sender:
    """Sends the requests of phases; saved values and the running number go on from one to the next.

    Attributes:
        written: what each writing request of the old code wrote, by phase and the request's number.
    """

    def __init__(
        self, application: TrialApplication, database: TrialDatabase, requests: Sequence[TrialRequest]
    ) -> None:
        self._application = application
        self._database = database
        self._requests = tuple(enumerate(requests))
        self._saved: dict[str, object] = {}
        self._count = 0
        self._too_large = False
        self.written: dict[Phase, dict[int, list[Written]]] = {phase: {} for phase in Phase}

    @property
    def unwatched(self) -> tuple[str, ...]:
        """What was not looked at, in words."""
        what = f"what each single request writes: the database has more than {WATCHED_ROWS:,} rows"
        return (what,) if self._too_large else ()

    def send_all(self, phase: Phase) -> tuple[TrialAnswer, ...]:
        """Send those that this phase's code has, all rounds."""
        other = "old" if phase is Phase.NEW else "new"
        chosen = [pair for pair in self._requests if pair[1].by != other]
        return tuple(answer for _ in range(ROUNDS) for answer in self._send(phase, chosen))

    def send_reads(self) -> tuple[TrialAnswer, ...]:
        """Send the old code's GET requests once: saved values are still the new code's."""
        chosen = [pair for pair in self._requests if pair[1].method == "GET" and pair[1].by != "new"]
        return tuple(self._send(Phase.OLD_AGAIN, chosen))

    def _send(self, phase: Phase, chosen: Iterable[tuple[int, TrialRequest]]) -> Iterable[TrialAnswer]:
        before: Mapping[str, TableRows] | None = None
        for number, request in chosen:
            self._count += 1
            filled = fill(request, self._saved, self._count)
            if filled is None:
                continue
            is_watched = phase is not Phase.NEW and request.method not in _READING
            before = (before or self._read_rows()) if is_watched else None
            answer = self._application.send(filled, number)
            self._saved.update(find_saved(request, answer.body))
            if before is not None and (after := self._read_rows()) is not None:
                self.written[phase].setdefault(number, []).extend(list_written(before, after))
                before = after
            yield answer

    def _read_rows(self) -> Mapping[str, TableRows] | None:
        """Return the rows, None where there are too many to look at after each request."""
        if self._too_large:
            return None
        found = self._database.read_rows()
        self._too_large = sum(len(table.rows) for table in found.values()) > WATCHED_ROWS
        return None if self._too_large else found
