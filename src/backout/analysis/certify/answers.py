"""What the old code answers before the migrations and after the new code: statuses, and the shape of JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from backout.model.database.certificate import TableRows, TrialAnswer, TrialRequest

_SERVER_ERROR: Final = 500
_REFUSED: Final = 400
_MOST_PATHS: Final = 2000


class Written(Value, frozen=True):
    """A value that a request wrote."""

    table: str
    column: str
    value: str | None


def has_failed(answer: TrialAnswer) -> bool:
    """Whether there was no answer, or a server's error."""
    return answer.status is None or answer.status >= _SERVER_ERROR


def has_worked(answer: TrialAnswer) -> bool:
    """Whether the request did what it asks for."""
    return answer.status is not None and answer.status < _REFUSED


def list_failures(
    requests: Sequence[TrialRequest], before: Sequence[TrialAnswer], after: Sequence[TrialAnswer]
) -> tuple[str, ...]:
    """Return a sentence for each request that the old code answers worse than before: its status, or its JSON."""
    found: dict[str, None] = {}
    known = _group(before)
    for number, answers in _group(after).items():
        earlier = known.get(number, [])
        if not any(has_worked(answer) for answer in earlier):
            continue  # it did not work before either: nothing can be seen by it
        name = f"{requests[number].method} {requests[number].path}"
        statuses = {answer.status for answer in earlier}
        for answer in answers:
            if not has_worked(answer) and answer.status not in statuses:
                found.setdefault(
                    f"{name} was answered {_list_statuses(statuses)}, and now {answer.status or 'nothing'}"
                )
        found.update(dict.fromkeys(f"{name}: {what}" for what in _compare_shapes(earlier, answers)))
    return tuple(found)


def count_failed(before: Sequence[TrialAnswer], after: Sequence[TrialAnswer]) -> int:
    """Return how many answers of a phase count as failed: a server's error, or not as this request was answered."""
    known = _group(before)
    worked = {number for number, answers in known.items() if any(has_worked(answer) for answer in answers)}
    statuses = {number: {answer.status for answer in answers} for number, answers in known.items()}
    return sum(
        has_failed(a) or (a.number in worked and not has_worked(a) and a.status not in statuses[a.number])
        for a in after
    )


def list_added(before: TableRows, after: TableRows) -> list[tuple[str | None, ...]]:
    """Return the keys of the rows that a table has and did not have."""
    return [key for key in after.rows if key not in before.rows]


def list_written(before: Mapping[str, TableRows], after: Mapping[str, TableRows]) -> list[Written]:
    """Return what a request wrote: each value of a new row, and each that an old row has now."""
    found = []
    for name, table in after.items():
        known = before[name].rows if name in before else {}
        places = [(column, table.columns.index(column)) for column in table.plain]
        for key, row in table.rows.items():
            old = known.get(key)
            if old != row:
                same = () if old is None or len(old) != len(row) else old
                found += [Written(name, c, row[at]) for c, at in places if not same or same[at] != row[at]]
    return found


def compare_written(
    requests: Sequence[TrialRequest],
    before: Mapping[int, Sequence[Written]],
    after: Mapping[int, Sequence[Written]],
) -> tuple[str, ...]:
    """Return a sentence for each column into which a request always wrote one value, and now writes others.

    That is how a changed default or a new trigger is seen, which raises no error.

    Args:
        before, after: what the old code wrote in its two phases, by the number of the request.
    """
    found = []
    for number, written in before.items():
        old, new = (_group_values(each) for each in (written, after.get(number, ())))
        for (table, column), values in old.items():
            now = new.get((table, column), [])
            if len(values) > 1 and len(set(values)) == 1 and now and values[0] not in now:
                name = f"{requests[number].method} {requests[number].path}"
                found.append(f"{name} wrote {_show(values[0])} into {table}.{column}, and now {_show(now[0])}")
    return tuple(found)


def compare_schema(before: Mapping[str, TableRows], after: Mapping[str, TableRows]) -> tuple[str, ...]:
    """Return what the old code took of the tables when it returned, in sentences: some code changes them as it starts.

    What it adds takes nothing from the new code, and is not told.

    Args:
        before: by name, when the new code had run.
        after: when the old code had run again.
    """
    found = [f"table {name} is gone: the old code removed it" for name in before if name not in after]
    for name in before.keys() & after.keys():
        had, has = (dict(zip(each.columns, each.types, strict=True)) for each in (before[name], after[name]))
        found += [f"column {column} of {name} is gone: the old code removed it" for column in had if column not in has]
        found += [
            f"column {column} of {name} was {kind} and is {has[column]}: the old code changed it"
            for column, kind in had.items()
            if has.get(column, kind) != kind
        ]
    return tuple(sorted(found))


def _group_values(written: Iterable[Written]) -> dict[tuple[str, str], list[str | None]]:
    found: dict[tuple[str, str], list[str | None]] = {}
    for each in written:
        found.setdefault((each.table, each.column), []).append(each.value)
    return found


def _show(value: str | None) -> str:
    return "NULL" if value is None else repr(value[:40])


def _group(answers: Iterable[TrialAnswer]) -> dict[int, list[TrialAnswer]]:
    found: dict[int, list[TrialAnswer]] = {}
    for answer in answers:
        found.setdefault(answer.number, []).append(answer)
    return found


def _list_statuses(statuses: set[int | None]) -> str:
    return " or ".join(sorted(str(status or "nothing") for status in statuses))


def _compare_shapes(before: Sequence[TrialAnswer], after: Sequence[TrialAnswer]) -> list[str]:
    """Return what the JSON of good answers has lost, or has as another type."""
    old, new = (_read_shape(answers) for answers in (before, after))
    found = []
    for path, kinds in old.items():
        parent = path.rpartition(".")[0]
        if path not in new:
            if parent in new and "object" in new[parent] and not path.endswith("[]"):  # an empty list has lost nothing
                found.append(f"{path} is not in the answer any more")
        elif more := new[path] - kinds:
            found.append(f"{path} was {'/'.join(sorted(kinds))} in the answer, and is {'/'.join(sorted(more))} now")
    return found


def _read_shape(answers: Sequence[TrialAnswer]) -> dict[str, set[str]]:
    shape: dict[str, set[str]] = {}
    for answer in answers:
        if has_worked(answer) and answer.body is not None:
            for path, kind in _walk(answer.body, "$"):
                if path in shape or len(shape) < _MOST_PATHS:
                    shape.setdefault(path, set()).add(kind)
    return shape


def _walk(value: object, path: str) -> Iterator[tuple[str, str]]:
    waiting: list[tuple[object, str]] = [(value, path)]
    while waiting:
        current, at = waiting.pop()
        yield at, _name_kind(current)
        if isinstance(current, dict):
            waiting.extend((inner, f"{at}.{key}") for key, inner in current.items())
        elif isinstance(current, list):
            waiting.extend((inner, f"{at}[]") for inner in current)


def _name_kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"
