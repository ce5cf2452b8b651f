"""A certificate: what was seen of old code, migrations, new code, and old code again, on a twin."""

from __future__ import annotations

from enum import StrEnum

from msgspec import field

from backout.model.value import Value

LASTS_S = 24 * 3600.0
ENOUGH = 0.8
"""The share of the old code's known routes and statements that must have been seen."""


class Phase(StrEnum):
    """The parts of a trial, in their order."""

    OLD = "old"
    MIGRATE = "migrate"
    NEW = "new"
    OLD_AGAIN = "old_again"


class TrialRequest(Value, frozen=True):
    """One request of a trial.

    Args:
        path: with its query; may hold `{{n}}` (a number that is new each time) and `{{NAME}}` (a saved value).
        body: JSON, a text, or None for none; placeholders as in the path.
        save: names of values, and where they are found in the answer's JSON (`order.id`).
        by: "old" or "new" if only that code has the route, "" for both.
        line: where it stands in its file, 0 for one that was generated.
    """

    method: str
    path: str
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)
    save: dict[str, str] = field(default_factory=dict)
    by: str = ""
    line: int = 0


class TrialAnswer(Value, frozen=True):
    """An answer; `number` is the place of its request, `status` None when none came, `body` the JSON, else None."""

    number: int
    status: int | None
    body: object = None


class HeardStatement(Value, frozen=True):
    """A statement that the database heard from the application.

    Args:
        values: of its parameters.
        sqlstate: "" if it succeeded.
        message: the server's, one line.
    """

    sql: str
    values: tuple[str | None, ...] = ()
    sqlstate: str = ""
    message: str = ""


class PhaseRecord(Value, frozen=True):
    """What was seen in one phase."""

    answers: tuple[TrialAnswer, ...] = ()
    statements: tuple[HeardStatement, ...] = ()


class TableRows(Value, frozen=True):
    """The rows of a table as texts.

    Args:
        table: as SQL names it.
        columns: by position.
        types: of the columns, as SQL names them.
        key: the columns of the primary key, () without one: then the whole row is its key.
        plain: the columns that are neither a key, nor a reference, nor a time.
        rows: by key.
        whole: False where there are more rows than were read.
    """

    table: str
    columns: tuple[str, ...]
    types: tuple[str, ...]
    key: tuple[str, ...]
    plain: tuple[str, ...]
    rows: dict[tuple[str | None, ...], tuple[str | None, ...]]
    whole: bool = True


class RowLoss(Value, frozen=True):
    """Rows that the migrations took or changed; `column` is "" for whole rows, `count` 0 for an empty column."""

    table: str
    column: str
    count: int


class RoundTrip(Value, frozen=True):
    """Everything that was seen in a trial.

    Args:
        requests: those that were sent, by number.
        refused_migration: why the migrations could not be applied, "" if they were.
        losses: what the migrations took or changed.
        changed: sentences on what the old code took of the schema when it returned, and on what its own rows hold now
            that they did not hold before.
        rows_written: by the new code.
        rows_read_again: of these, by the old code.
        not_exercised: calls that were refused, and tables without a row.
    """

    requests: tuple[TrialRequest, ...]
    old: PhaseRecord
    new: PhaseRecord = PhaseRecord()
    old_again: PhaseRecord = PhaseRecord()
    refused_migration: str = ""
    losses: tuple[RowLoss, ...] = ()
    changed: tuple[str, ...] = ()
    rows_written: int = 0
    rows_read_again: int = 0
    not_exercised: tuple[str, ...] = ()


class Step(Value, frozen=True):
    """The counts of one phase; for `migrate`, `requests` counts migrations."""

    name: Phase
    requests: int
    failed: int


class Coverage(Value, frozen=True):
    """How much of the old code was seen; routes and statements are those known from elsewhere."""

    routes_seen: int
    routes: int
    statements_seen: int
    statements: int
    rows_read_again: int

    @property
    def share(self) -> float:
        """Of all known routes and statements, 0 where none are known."""
        known = self.routes + self.statements
        return (self.routes_seen + self.statements_seen) / known if known else 0.0


class Certificate(Value, frozen=True):
    """The result of a trial.

    Args:
        old, new: version ids, or the hash of the code (`code:...`) of a folder.
        old_code, new_code: the hashes of the code.
        head: the last migration before the trial's.
        migrations: those that were tried, with their checksums, in order.
        reversible: None where too little was seen.
        blocker: what failed, with the failing statement; None if nothing did.
        reasons: why `reversible` is None.
        shapes: fingerprints of the statements by which the new code wrote.
        at, expires_at: Unix seconds.
        place: the environment in which the trial took place, "" for a local twin.
    """

    old: str
    new: str
    old_code: str
    new_code: str
    head: str
    migrations: tuple[tuple[str, str], ...]
    steps: tuple[Step, ...]
    coverage: Coverage
    not_exercised: tuple[str, ...]
    reversible: bool | None
    blocker: str | None
    reasons: tuple[str, ...]
    shapes: tuple[str, ...]
    at: float
    expires_at: float
    place: str = ""
