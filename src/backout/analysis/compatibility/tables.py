"""ALTER TABLE, command by command; CREATE TABLE, of partitions as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pglast.enums import AlterTableType as Alter
from pglast.enums import ObjectType

from backout.analysis.compatibility import columns, constraints, loosening, publishing
from backout.analysis.compatibility.finding import Finding, breaking, join_findings, safe, safe_if
from backout.analysis.compatibility.known.building import apply
from backout.analysis.compatibility.moment import Moment
from backout.analysis.compatibility.types import read_type
from backout.model.database.compatibility import Reversible

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.analysis.compatibility.known.schema import Name
    from backout.analysis.compatibility.parsing import Node


def alter_table(moment: Moment, node: Node) -> Finding:
    """Judge ALTER TABLE (VIEW, INDEX, SEQUENCE, TYPE): the worst of its commands, each on what those before it did."""
    name = moment.before.resolve(node.relation)
    if ObjectType(node.objtype) is ObjectType.OBJECT_TYPE:
        return join_findings([_judge_attribute(moment, node, command) for command in node.cmds])
    if node.missing_ok and name not in moment.before.relations and moment.never_there(name[0]):
        return safe("alter-table", "no migration made it: nothing changes")
    found = []
    before = moment.before.copy()
    for command in node.cmds or ():
        found.append(_judge_command(Moment(before, moment.after), name, command))
        apply(_isolate(node, command), before)
    return join_findings(found) if found else safe("alter-table", "it changes nothing")


def _isolate(node: Node, command: Node) -> Node:
    return type(node)(relation=node.relation, cmds=(command,), objtype=node.objtype, missing_ok=node.missing_ok)


def _judge_command(moment: Moment, name: Name, command: Node) -> Finding:
    subtype = Alter(command.subtype)
    if subtype in _JUDGED:
        return _JUDGED[subtype](moment, name, command)
    if moment.is_new_table(name):
        return safe("alter-table", "the table is new in this migration")
    if subtype is Alter.AT_SetRelOptions and _is_barrier_only(command):
        return safe("set-options", "the view answers as before: its own conditions are asked first")
    if subtype in _HARMLESS or (subtype in _OPTIONS and not _VIEW_OPTIONS & {str(o.defname) for o in command.def_}):
        return safe("alter-table", "it concerns how the table is stored or owned by tools, not what is in it")
    kind, reason = _DEPENDS.get(subtype, ("alter-table", "what it means for old code is not known here"))
    return safe_if(kind, reason)


def _is_barrier_only(command: Node) -> bool:
    options = {str(o.defname): str(getattr(o.arg, "sval", "true")) for o in command.def_}
    return options.keys() == {"security_barrier"} and options["security_barrier"] in {"true", "on", "1"}


def _judge_attribute(moment: Moment, node: Node, command: Node) -> Finding:
    name = moment.before.find_type([p for p in (node.relation.schemaname, node.relation.relname) if p])
    if moment.before.is_novel("type", name):
        return safe("alter-type", "the type is new in this migration")
    subtype = Alter(command.subtype)
    if subtype is Alter.AT_AlterColumnType:
        known = moment.before.others.get(name) or {}
        new = read_type(command.def_.typeName)
        return columns.change_of_type(moment, known.get(str(command.name)), new, f"{name[1]}.{command.name}")
    if subtype is Alter.AT_DropColumn:
        return breaking(
            "drop-attribute", f"statements of old code that name {command.name} fail", reversible=Reversible.NO
        )
    return breaking("add-attribute", f"a value of {name[1]} that old code writes has one part too few: it fails")


def _add_constraint(moment: Moment, name: Name, command: Node) -> Finding:
    return constraints.add_constraint(moment, name, command.def_)


def _set_not_null(moment: Moment, name: Name, command: Node) -> Finding:
    return constraints.set_not_null(moment, name, str(command.name))


def _drop_not_null(moment: Moment, name: Name, command: Node) -> Finding:
    return loosening.drop_not_null(moment, name, str(command.name))


def _detach(moment: Moment, name: Name, command: Node) -> Finding:
    part = moment.before.resolve(command.def_.name)
    if moment.is_new_table(name) or moment.is_new_table(part):
        return safe("detach-partition", "it is new in this migration")
    return breaking(
        "detach-partition",
        f"rows of {part[1]} are no longer found in {name[1]}, and inserts for its range fail",
    )


def _attach(moment: Moment, name: Name, command: Node) -> Finding:
    part = moment.before.resolve(command.def_.name)
    if command.def_.bound is None or part in moment.before.indexes:
        return safe("attach-partition", "an index changes no answer")
    if moment.is_new_table(part):
        return safe("attach-partition", "the partition is new in this migration: it only takes rows that had no place")
    return safe_if(
        "attach-partition",
        f"old code finds the rows of {part[1]} in {name[1]} too, and writes to {part[1]} only within its bounds",
    )


def _enable_rule(moment: Moment, name: Name, command: Node) -> Finding:
    if moment.before.rules.get((name, str(command.name))):
        return safe("rule-switched", "the rule is enabled already: nothing changes")
    if moment.is_new_table(name):
        return safe("rule-switched", "the table is new in this migration")
    return breaking("rule-switched", "INSERT ... ON CONFLICT and MERGE of old code fail on a table with a rule")


def _judge_unlogged(moment: Moment, name: Name, _command: Node) -> Finding:
    if moment.is_new_table(name):
        return safe("set-unlogged", "the table is new in this migration")
    return safe_if("set-unlogged", "a crash of the server empties the table", reversible=Reversible.IF)


_JUDGED: Final[dict[Alter, Callable[[Moment, Name, Node], Finding]]] = {
    Alter.AT_AddColumn: columns.add_column,
    Alter.AT_DropColumn: columns.drop_column,
    Alter.AT_AlterColumnType: columns.judge_type,
    Alter.AT_ColumnDefault: columns.judge_default,
    Alter.AT_AddIdentity: columns.judge_identity,
    Alter.AT_SetIdentity: columns.judge_identity,
    Alter.AT_DropIdentity: columns.drop_identity,
    Alter.AT_DropExpression: columns.drop_expression,
    Alter.AT_SetExpression: columns.set_expression,
    Alter.AT_SetNotNull: _set_not_null,
    Alter.AT_DropNotNull: _drop_not_null,
    Alter.AT_AddConstraint: _add_constraint,
    Alter.AT_DropConstraint: loosening.drop_constraint,
    Alter.AT_AlterConstraint: loosening.alter_constraint,
    Alter.AT_AttachPartition: _attach,
    Alter.AT_DetachPartition: _detach,
    Alter.AT_SetUnLogged: _judge_unlogged,
    Alter.AT_EnableRule: _enable_rule,
    Alter.AT_EnableAlwaysRule: _enable_rule,
    Alter.AT_ReplicaIdentity: publishing.judge_replica_identity,
}
_HARMLESS: Final = frozenset(
    {
        Alter.AT_SetStatistics, Alter.AT_SetOptions, Alter.AT_ResetOptions, Alter.AT_SetStorage,
        Alter.AT_SetCompression,
        Alter.AT_ClusterOn, Alter.AT_DropCluster, Alter.AT_SetLogged, Alter.AT_SetAccessMethod, Alter.AT_SetTableSpace,
        Alter.AT_ValidateConstraint, Alter.AT_DetachPartitionFinalize, Alter.AT_DropOids,
    }
)  # fmt: skip
_OPTIONS: Final = frozenset({Alter.AT_SetRelOptions, Alter.AT_ResetRelOptions, Alter.AT_ReplaceRelOptions})
_VIEW_OPTIONS: Final = frozenset({"check_option", "security_barrier", "security_invoker"})
_TRIGGERS = ("trigger-switched", "writes of old code set off other triggers than before")
_RULES = ("rule-switched", "statements of old code are rewritten differently")
_SECURITY = ("row-security", "rows may be hidden from old code, and its writes refused, unless it owns the table")
_DEPENDS: Final[dict[Alter, tuple[str, str]]] = {
    **dict.fromkeys(
        (
            Alter.AT_EnableTrig, Alter.AT_EnableAlwaysTrig, Alter.AT_EnableReplicaTrig, Alter.AT_DisableTrig,
            Alter.AT_EnableTrigAll, Alter.AT_DisableTrigAll, Alter.AT_EnableTrigUser, Alter.AT_DisableTrigUser,
        ),
        _TRIGGERS,
    ),
    **dict.fromkeys(
        (Alter.AT_EnableReplicaRule, Alter.AT_DisableRule), _RULES,
    ),
    **dict.fromkeys(
        (
            Alter.AT_EnableRowSecurity, Alter.AT_DisableRowSecurity, Alter.AT_ForceRowSecurity,
            Alter.AT_NoForceRowSecurity,
        ),
        _SECURITY,
    ),
    Alter.AT_ChangeOwner: ("change-owner", "old code loses what only the owner may do"),
    Alter.AT_AddInherit: ("inherit", "old code finds the rows of the child in its parent too"),
    Alter.AT_DropInherit: ("inherit", "old code no longer finds the rows of the child in its parent"),
    **dict.fromkeys(_OPTIONS, ("set-options", "an option of a view may hide rows from old code, or refuse its writes")),
}  # fmt: skip


def create_table(moment: Moment, node: Node) -> Finding:
    """Judge CREATE TABLE; of a partition as well."""
    name = moment.before.resolve(node.relation)
    if node.if_not_exists and name in moment.before.relations:
        return safe("create-table", "a relation of this name is there already: nothing changes")
    if node.partbound is not None and (node.constraints or any(_checks_rows(e) for e in node.tableElts or ())):
        return safe_if("create-partition", "a write of old code to the range of the partition meets its constraints")
    return safe("create-table", "old code does not know the table")


def _checks_rows(element: Node) -> bool:
    return bool(getattr(element, "constraints", None)) or type(element).__name__ == "Constraint"
