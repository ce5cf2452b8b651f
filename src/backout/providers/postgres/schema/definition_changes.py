"""Changes of definitions: before the damage, after it, and live; and the SQL that reverses them.

Only what the damage itself changed is taken back, and only where it was not changed again since.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.model.database.rescue import DefinitionDifference, LeftOut
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.providers.postgres.backup.dump_toc import Definition, Key

    Definitions = Mapping[Key, Definition]

_REPLACED: Final = re.compile(r"^CREATE (FUNCTION|PROCEDURE|VIEW) ")
_REMADE: Final = frozenset(
    {"CHECK CONSTRAINT", "CONSTRAINT", "FK CONSTRAINT", "INDEX", "POLICY", "RULE", "STATISTICS", "TRIGGER"}
)
_SET: Final = frozenset({"COLUMN OPTIONS", "COMPRESSION", "DEFAULT", "STATISTICS TARGET", "STORAGE"})
_NAMED: Final = re.compile(r'\s+ADD CONSTRAINT (?:"(?:[^"]|"")+"|\S+) ')
_GRANT: Final = re.compile(r"^GRANT (?P<what>.*) TO (?P<who>\S+|\"(?:[^\"]|\"\")+\")(?P<option> WITH GRANT OPTION)?;$")
_REVOKE: Final = re.compile(r"^REVOKE (?P<what>.*) FROM (?P<who>\S+|\"(?:[^\"]|\"\")+\");$")
_OWNED: Final = frozenset(
    {"AGGREGATE", "DOMAIN", "FUNCTION", "MATERIALIZED VIEW", "PROCEDURE", "SCHEMA", "SEQUENCE", "TABLE", "TYPE", "VIEW"}
)
RUN_NOTHING: Final = frozenset(
    {
        *(_OWNED - {"MATERIALIZED VIEW", "TABLE"}),
        *(
            "ACL",
            "COMMENT",
            "DEFAULT ACL",
            "POLICY",
            "PUBLICATION",
            "PUBLICATION TABLE",
            "PUBLICATION TABLES IN SCHEMA",
        ),
        *("ROW SECURITY", "RULE", "SEQUENCE OWNED BY", "STATISTICS", "TRIGGER"),
    }
)
"""Objects that are created without running, or even planning, any code in them."""


class Change(Value, frozen=True):
    """One definition to restore.

    Args:
        definition: the former one.
        statement, undo: SQL; "" when the undo needs none.
    """

    definition: Definition
    statement: str
    undo: str


class Plan(Value, frozen=True):
    """The changes to make to definitions, in an order in which they can be executed."""

    missing: tuple[Change, ...]
    changed: tuple[Change, ...]
    left_out: tuple[LeftOut, ...]


def make_plan(before: Definitions, after: Definitions, live: Definitions) -> Plan:
    """Return what takes the damage to definitions back. Columns of tables that are still there are not in it."""
    after, live, renamed = _drop_renames(before, after, live)
    missing: list[Change] = []
    changed: list[Change] = []
    left = list(renamed)
    said = {_strip_constraint_name(each) for each in live.values() if "CONSTRAINT" in each.kind}
    for key, was in before.items():
        then, now = after.get(key), live.get(key)
        if is_same(then, was) or is_same(now, was) or (now is None and _strip_constraint_name(was) in said):
            continue
        if then is None and now is None:
            missing.append(Change(was, was.create, undo_of(was)))
        elif then is None:
            left.append(LeftOut(was.shown, "there is another one of that name by now", _write_by_hand(was)))
        elif now is not None and is_same(now, then):
            for taken in _list_changes(was, now):
                if isinstance(taken, Change):
                    changed.append(taken)
                else:
                    left.append(taken)
    for then in (each for key, each in after.items() if key not in before and is_same(live.get(key), each)):
        if then.kind in ("ACL", "DEFAULT ACL") and (statement := invert_grants(then.create)):
            changed.append(Change(then, statement, then.create))
        else:
            left.append(LeftOut(then.shown, "the damage made it, and it stays", then.drop or undo_of(then)))
    return Plan(tuple(missing), tuple(changed), tuple(left))


def _strip_constraint_name(constraint: Definition) -> tuple[str, str]:
    """Return what a constraint says without its name, for one that says the same is it; of nothing else."""
    if "CONSTRAINT" not in constraint.kind:
        return "", ""
    return constraint.kind, re.sub(_NAMED, " ADD ", constraint.create, count=1)


def is_same(one: Definition | None, other: Definition | None) -> bool:
    """Whether two are the same, whatever the order of their columns."""
    return one is not None and other is not None and (one.lines, one.owner) == (other.lines, other.owner)


def list_differences(before: Definitions, live: Definitions) -> tuple[DefinitionDifference, ...]:
    """Return how the live definitions differ from those before the damage, whatever changed them."""
    found = []
    for key in dict.fromkeys([*before, *live]):
        was, now = before.get(key), live.get(key)
        if is_same(was, now):
            continue
        either = now or was
        assert either is not None
        found.append(DefinitionDifference(either.shown, *_compare_lines(was, now)))
    return tuple(found)


def _compare_lines(was: Definition | None, now: Definition | None) -> tuple[str, str]:
    """Return the lines of one that the other has not, owner included."""
    ends = [
        () if each is None else (*each.lines, *([f"OWNER TO {each.owner}"] if each.owner else []))
        for each in (was, now)
    ]
    lines = [[line for line in mine if line and line not in theirs] for mine, theirs in (ends, ends[::-1])]
    return "\n".join(lines[0]), "\n".join(lines[1])


def undo_of(made: Definition) -> str:
    """Return the SQL that takes away what was made, "" where it goes with something else."""
    if made.kind in ("ACL", "DEFAULT ACL"):
        return invert_grants(made.create)
    if made.kind == "COMMENT":
        return re.sub(r" IS .*\Z", " IS NULL;", made.create, count=1, flags=re.DOTALL)
    if made.kind == "TABLE ATTACH":
        return re.sub(r" ATTACH PARTITION (.*?) (FOR VALUES|DEFAULT).*\Z", r" DETACH PARTITION \1;", made.create)
    if made.kind == "ROW SECURITY":
        return made.create.replace(" ENABLE ROW", " DISABLE ROW")
    if made.kind.startswith("PUBLICATION TABLE"):
        return re.sub(r" ADD (TABLE|TABLES IN SCHEMA) (ONLY )?", r" DROP \1 ", made.create).partition(" WHERE (")[0]
    if made.kind == "SEQUENCE" and made.create.startswith("ALTER TABLE"):
        return f"{made.create.partition(' ADD GENERATED')[0]} DROP IDENTITY IF EXISTS;"
    if made.kind == "SEQUENCE OWNED BY":
        return f"{made.create.partition(' OWNED BY ')[0]} OWNED BY NONE;"
    return made.drop


def write_ownership(made: Definition) -> str:
    """Return the SQL that gives something to its owner, "" where it belongs to something else."""
    if made.kind not in _OWNED:
        return ""
    is_called = made.kind in ("AGGREGATE", "FUNCTION", "PROCEDURE")  # its name holds its arguments, and is quoted
    place = made.name if is_called else _quote_name(made.name)
    schema = f"{_quote_name(made.schema)}." if made.schema else ""
    return f"ALTER {made.kind} {schema}{place} OWNER TO {_quote_name(made.owner)};"


def invert_grants(granted: str) -> str:
    """Return what takes grants back, and revokes, in the other order; "" where they are not plain ones.

    >>> invert_grants("GRANT SELECT ON TABLE a TO bob WITH GRANT OPTION;")
    'REVOKE SELECT ON TABLE a FROM bob;'
    """
    found = []
    for line in reversed(granted.splitlines()):
        if grant := _GRANT.match(line):
            found.append(f"REVOKE {grant['what']} FROM {grant['who']};")
        elif revoke := _REVOKE.match(line):
            found.append(f"GRANT {revoke['what']} TO {revoke['who']};")
        elif line:
            return ""
    return "\n".join(found)


def _list_changes(was: Definition, now: Definition) -> list[Change | LeftOut]:
    """Return what makes a definition what it was; of a table what is not its columns' or its checks'."""
    if was.owner != now.owner:
        return [LeftOut(was.shown, f"its owner was changed from {was.owner} to {now.owner}", write_ownership(was))]
    if was.kind == "TABLE":
        return _list_table_changes(was, now)
    if was.kind in ("ACL", "DEFAULT ACL"):
        back, forth = invert_grants(now.create), invert_grants(was.create)
        if back and forth:
            return [Change(was, f"{back}\n{was.create}", f"{forth}\n{now.create}")]
    if was.kind == "COMMENT":
        return [Change(was, was.create, now.create)]
    if _REPLACED.match(was.create):
        return [Change(was, *(_REPLACED.sub(r"CREATE OR REPLACE \1 ", each.create) for each in (was, now)))]
    if was.kind in _SET:
        return [Change(was, was.create, now.create)]
    if was.kind in _REMADE:
        return [Change(was, f"{now.drop}\n{was.create}", f"{was.drop}\n{now.create}")]
    return [
        LeftOut(was.shown, "the damage changed it, and that is not changed back automatically", _write_by_hand(was))
    ]


def _list_table_changes(was: Definition, now: Definition) -> list[Change | LeftOut]:
    found: list[Change | LeftOut] = []
    for line in _compare_lines(was, now)[0].splitlines():
        undo = re.sub(r" FORCE ROW LEVEL", " NO FORCE ROW LEVEL", re.sub(r" IDENTITY .*;", " IDENTITY DEFAULT;", line))
        if line.startswith("ALTER TABLE") and undo != line:
            found.append(Change(replace(was, kind="ROW SECURITY"), line, undo))
        elif options := re.search(r"WITH (\(.*\));?$", line):
            by_hand = f"ALTER TABLE {_quote_name(was.schema)}.{_quote_name(was.name)} SET {options[1]};"
            found.append(LeftOut(was.shown, "the damage changed its storage parameters", by_hand))
        elif line.startswith(("CREATE ", ") PARTITION", "INHERITS", ")\nINHERITS")):
            found.append(LeftOut(was.shown, f"the damage changed what it is: {line}"))
    return found


def _write_by_hand(was: Definition) -> str:
    return "\n".join(filter(None, (was.drop, was.create)))


def _quote_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _drop_renames(
    before: Definitions, after: Definitions, live: Definitions
) -> tuple[Definitions, Definitions, list[LeftOut]]:
    """Return after and live under the former names, and the objects that the damage renamed.

    What hangs on a thing (its constraints, privileges, comments) is known by its name: it was neither dropped nor made.
    """
    found = []
    places = {(each.kind, each.catalog, each.oid): each for each in after.values() if each.catalog and each.oid}
    for was in before.values():
        then = places.get((was.kind, was.catalog, was.oid))
        if was.key in after or then is None or then.key in before:
            continue
        if was.kind in ("TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE", "SCHEMA", "TYPE", "DOMAIN"):
            if then.key in live and was.key not in live:
                found.append(LeftOut(was.shown, f"the damage gave it another name: {then.shown}", _rename(then, was)))
            after, live = (_apply_rename(each, then, was) for each in (after, live))
        else:
            if then.key in live and was.key not in live and (was.kind, was.schema, was.name) != then.key:
                found.append(LeftOut(was.shown, f"the damage gave it another name: {then.shown}"))
            after, live = (
                {(was.key if key == then.key else key): each for key, each in one.items()} for one in (after, live)
            )
            after, live = ({**one, was.key: was} if was.key in one else one for one in (after, live))
    return after, live, found


def _rename(then: Definition, was: Definition) -> str:
    place = f"{_quote_name(then.schema)}." if then.schema else ""
    words = []
    if then.name != was.name:
        words.append(f"ALTER {was.kind} {place}{_quote_name(then.name)} RENAME TO {_quote_name(was.name)};")
    if then.schema != was.schema:
        words.append(f"ALTER {was.kind} {place}{_quote_name(was.name)} SET SCHEMA {_quote_name(was.schema)};")
    return " ".join(words)


def _apply_rename(definitions: Definitions, old: Definition, new: Definition) -> Definitions:
    """Return them with one thing by another name, in keys and in texts."""
    is_schema = old.kind == "SCHEMA"
    begin = rf'(?<![\w$"])"?{re.escape(old.name if is_schema else old.schema)}"?\.'
    text = re.compile(begin if is_schema else rf'{begin}"?{re.escape(old.name)}"?(?![\w$])')
    name = re.compile(
        rf"^((?:TABLE|COLUMN|SEQUENCE|VIEW|TYPE|DOMAIN|MATERIALIZED VIEW|SCHEMA) )?{re.escape(old.name)}(?=$|[. ])"
    )
    instead = f"{new.name}." if is_schema else f"{new.schema}.{new.name}"
    found = {}
    for each in definitions.values():
        mine = each.key == old.key or each.schema == (old.name if is_schema else old.schema)
        is_it = mine and (is_schema or bool(name.match(each.name)))
        schema = (
            new.name
            if is_schema and each.schema == old.name
            else new.schema
            if is_it and not is_schema
            else each.schema
        )
        made = replace(
            each,
            schema=schema,
            name=name.sub(rf"\g<1>{new.name}", each.name)
            if is_it and (not is_schema or not each.schema)
            else each.name,
            create=text.sub(lambda _: instead, each.create),
            drop=text.sub(lambda _: instead, each.drop),
        )
        found[made.key] = made
    if new.key in found and is_schema:
        found[new.key] = new
    return found
