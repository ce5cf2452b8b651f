"""Publications and replica identities: whether Postgres refuses old code's UPDATE and DELETE on a published table.

Source: PostgreSQL 18, execReplication.c CheckCmdReplicaIdentity: whatever publishes the table counts, followed or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace
from pglast.enums import AlterPublicationAction as Action
from pglast.enums import PublicationObjSpecType as Spec

from backout.analysis.compatibility import conditions
from backout.analysis.compatibility.finding import Finding, breaking, safe, safe_if
from backout.analysis.compatibility.known.schema import Publication, Published, Schema
from backout.analysis.compatibility.parsing import Node, find_referenced_columns, list_name_parts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.analysis.compatibility.known.schema import Name, Relation
    from backout.analysis.compatibility.moment import Moment

_FULL: Final = "f"
_NOTHING: Final = "n"
_KEY: Final = "d"


def create(node: Node, schema: Schema) -> None:
    """Take the change over: CREATE PUBLICATION."""
    made = Publication(everything=bool(node.for_all_tables))
    schema.publications[str(node.pubname)] = _set_objects(_set_options(made, node), node, schema)


def alter(node: Node, schema: Schema) -> None:
    """Take the change over: ALTER PUBLICATION; one that no migration made stays unknown."""
    name = str(node.pubname)
    known = schema.publications.get(name)
    if known is None:
        return
    known, action = _set_options(known, node), Action(node.action)
    changed = _set_objects(Publication(), node, schema)
    if action is Action.AP_DropObjects:
        left = {table: part for table, part in known.tables.items() if table not in changed.tables}
        known = replace(known, tables=left, schemas=known.schemas - changed.schemas)
    elif action is Action.AP_SetObjects:
        known = replace(known, tables=changed.tables, schemas=changed.schemas)
    else:
        known = replace(known, tables={**known.tables, **changed.tables}, schemas=known.schemas | changed.schemas)
    schema.publications[name] = known


def _set_options(made: Publication, node: Node) -> Publication:
    for option in node.options or ():
        if option.defname == "publish":
            told = {word.strip().lower() for word in str(option.arg.sval).split(",")}
            made = replace(made, updates="update" in told, deletes="delete" in told)
    return made


def _set_objects(made: Publication, node: Node, schema: Schema) -> Publication:
    for item in node.pubobjects or ():
        if item.pubtable is not None:
            part = Published(
                frozenset(list_name_parts(item.pubtable.columns)) if item.pubtable.columns else None,
                find_referenced_columns(item.pubtable.whereClause)
                if item.pubtable.whereClause is not None
                else frozenset(),
            )
            made = replace(made, tables={**made.tables, schema.resolve(item.pubtable.relation): part})
        else:
            current = Spec(item.pubobjtype) is Spec.PUBLICATIONOBJ_TABLES_IN_CUR_SCHEMA
            space = schema.search_path[0] if current else str(item.name)
            made = replace(made, schemas=made.schemas | {space})
    return made


def explain_newly_refused(moment: Moment, table: Name) -> str | None:
    """Return why updates and deletes of a table fail when the migration is done, None where they go on or failed."""
    if moment.is_new_table(table) or explain_refusal(moment.before, table):
        return None
    return explain_refusal(moment.after, table)


def explain_refusal(schema: Schema, table: Name) -> str | None:
    """Return why updates and deletes of a table fail, None where nothing is known to refuse them."""
    relation = schema.relations.get(table)
    if relation is None or relation.kind != "table":
        return None
    identity = _find_identity(schema, relation)
    for part in _find_published(schema, table):
        if identity is None:
            if relation.identity == _KEY and not relation.whole:
                continue  # there may be a primary key that no migration made
            return "it is published without a replica identity"
        if not part.filtered <= identity:
            return "its row filter reads columns outside of its replica identity"
        if part.columns is not None and (relation.identity == _FULL or not identity <= part.columns):
            return "it is published without columns of its replica identity"
    return None


def _find_published(schema: Schema, table: Name) -> Iterator[Published]:
    for known in schema.publications.values():
        if (known.updates or known.deletes) and table in known.tables:
            yield known.tables[table]
        elif (known.updates or known.deletes) and (known.everything or table[0] in known.schemas):
            yield Published()


def _find_identity(schema: Schema, relation: Relation) -> frozenset[str] | None:
    """Return the columns that identify changed rows, None for none."""
    if relation.identity == _FULL:
        return frozenset(relation.columns)
    if relation.identity == _NOTHING:
        return None
    if relation.identity == _KEY:
        keys = [c for c in relation.constraints.values() if c.kind == "primary" and not c.deferrable]
        return frozenset(keys[0].columns) if keys else None
    index = schema.indexes.get((relation.name[0], relation.identity))
    behind = relation.constraints.get(relation.identity)
    return frozenset(index.columns if index else behind.columns if behind else relation.columns)


def judge_publication(moment: Moment, node: Node) -> Finding:
    """Judge CREATE and ALTER PUBLICATION: what becomes published must have a replica identity, or its updates fail."""
    kind = "publication"
    for table in moment.before.relations:
        reason = explain_newly_refused(moment, table)
        if reason:
            return breaking(kind, _fails(moment, table, reason))
    made = moment.after.publications.get(str(node.pubname))
    if made is not None and not (made.updates or made.deletes):
        return safe(kind, "it publishes neither updates nor deletes")
    asked = _set_objects(Publication(), node, moment.before).tables
    if getattr(node, "action", None) and Action(node.action) is Action.AP_DropObjects:
        return safe(kind, "updates and deletes of old code go on")
    known = {t: moment.before.relations.get(t) or moment.after.relations.get(t) for t in asked}
    if made is None and any(part.filtered or part.columns is not None for part in asked.values()):
        return safe_if(kind, "updates and deletes of old code fail where the filter or the columns leave the key out")
    if made is not None and (made.everything or made.schemas):
        whole = moment.after.whole("public") and all(r.whole for r in moment.after.relations.values())
    else:
        whole = all(r is not None and (r.whole or _find_identity(moment.after, r) is not None) for r in known.values())
        whole = whole and (made is not None or all(_find_identity(moment.after, r) for r in known.values() if r))
    if whole:
        return safe(kind, "each table in it has a replica identity: updates and deletes of old code go on")
    return safe_if(kind, "updates and deletes of old code fail on a published table without a primary key")


def _fails(moment: Moment, table: Name, reason: str) -> str:
    return f"updates and deletes of old code on {moment.before.quote_name(table)} fail: {reason}"


def judge_replica_identity(moment: Moment, table: Name, command: Node) -> Finding:
    """Judge ALTER TABLE ... REPLICA IDENTITY."""
    kind = "replica-identity"
    reason = explain_newly_refused(moment, table)
    relation = moment.before.relations.get(table)
    if reason:
        return breaking(kind, _fails(moment, table, reason))
    told = str(command.def_.identity_type)
    keyed = relation is not None and _find_identity(moment.before, replace(relation, identity=_KEY)) is not None
    if any(table in known.tables for known in moment.after.publications.values()):
        return safe(kind, "no publication of the table has updates or deletes that need more of an identity")
    if moment.is_new_table(table) or told in {_FULL, "i"} or (told == _KEY and keyed):
        return safe(kind, "updates and deletes go on, published or not")
    return safe_if(
        kind,
        "updates and deletes of old code fail where the table is published without a key",
        conditions.select_published(moment.before.quote_name(table)),
    )
