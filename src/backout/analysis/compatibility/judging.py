"""From files to verdicts: parse, judge each statement in its place, and apply it to the known schema."""

# ruff: noqa: SIM905 - lists of words read as text

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from pglast import ast
from pglast.enums import VariableSetKind

from backout.analysis.compatibility import constraints, data, naming, others, publishing, tables, writing
from backout.analysis.compatibility.blocks import read_block
from backout.analysis.compatibility.finding import Finding, breaking, join_findings, safe, safe_if
from backout.analysis.compatibility.known.building import apply
from backout.analysis.compatibility.known.schema import Schema
from backout.analysis.compatibility.moment import Moment
from backout.analysis.compatibility.parsing import Node, Unreadable, parse
from backout.analysis.compatibility.splitting import Piece, split
from backout.model.database.compatibility import MigrationVerdict, Reversible, StatementVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from backout.model.database.compatibility import MigrationFile

UNREADABLE: Final = "unreadable"
_DESTROYS: Final = re.compile(
    r"(?i)\b(drop\s+(table|column|view|materialized|function|procedure|type|schema|sequence|constraint|domain|extension)"
    r"|rename\s+(to|column)|set\s+schema)\b"
)
_QUOTED: Final = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'", re.DOTALL)
_PRAGMA: Final = re.compile(r"(?i)pragma\b")
_HARMLESS_META: Final = frozenset(
    "echo qecho warn set unset timing pset if elif else endif encoding t a x restrict unrestrict prompt "
    "errverbose conninfo d dt di dn df gset".split()
)
_EVERYTHING: Final = "*"


def judge(files: Sequence[MigrationFile], *, app_checks_head: bool = False) -> tuple[MigrationVerdict, ...]:
    """Return a verdict on each migration for the code that ran just before it.

    Args:
        files: all migrations in the order in which they are applied; the schema is built from the earlier ones.
        app_checks_head: the application refuses to start on a migration that it does not know.
    """
    schema = Schema()
    verdicts = []
    for file in files:
        schema.next_migration()
        found = _judge_migration(file.sql, schema)
        if app_checks_head:
            refusal = breaking(
                "unknown-head",
                "the application refuses to start on a migration that it does not know (app_checks_head)",
            )
            found.insert(0, ("", refusal))
        statements = tuple(
            StatementVerdict(sql, f.kind, f.verdict, f.reversible, f.reason, f.condition) for sql, f in found
        )
        verdicts.append(MigrationVerdict(file.name, statements))
    return tuple(verdicts)


def list_unread(verdict: MigrationVerdict) -> tuple[StatementVerdict, ...]:
    """Return the statements that could not be parsed, and were judged by their words alone."""
    return tuple(s for s in verdict.statements if s.kind == UNREADABLE)


def _judge_migration(sql: str, schema: Schema) -> list[tuple[str, Finding]]:
    pieces = [(piece, _read(piece)) for piece in split(sql)]
    schema.sqlite = schema.sqlite or any(_PRAGMA.match(piece.text) for piece, _ in pieces)
    after = schema.copy()
    for piece, read in pieces:
        _apply(piece, read, after)
    found = []
    for piece, read in pieces:
        finding = _judge_by_words(piece, read) if isinstance(read, str) else _judge_all(Moment(schema, after), read)
        _apply(piece, read, schema)
        found.append((piece.text, finding))
    return found


def _read(piece: Piece) -> tuple[Node, ...] | str:
    """Return the statements of a piece, or why it cannot be read."""
    if piece.meta:
        return "a command of psql"
    try:
        return parse(piece.text)
    except Unreadable as error:
        return str(error)


def _apply(piece: Piece, read: tuple[Node, ...] | str, schema: Schema) -> None:
    if isinstance(read, str):
        if not _is_harmless(piece):
            schema.blind.add(_EVERYTHING)
        return
    for node in read:
        for inner in _list_executed(node):
            if inner is None:
                schema.blind.add(_EVERYTHING)
            else:
                apply(inner, schema)


def _list_executed(node: Node) -> Iterable[Node | None]:
    """Return what a statement runs: itself, or the inside of a block with None for what cannot be read."""
    if not isinstance(node, ast.DoStmt):
        return (node,)
    block = read_block(node)
    return (*block.statements, *([None] if block.unread else []))


def _is_harmless(piece: Piece) -> bool:
    name = piece.text.removeprefix("\\").split(maxsplit=1)[0] if piece.meta and piece.text != "\\" else ""
    return name.rstrip("+") in _HARMLESS_META if piece.meta else bool(_PRAGMA.match(piece.text))


def _judge_by_words(piece: Piece, why: str) -> Finding:
    """Judge what no parser read: never safe, unless it is known to touch no schema."""
    if _is_harmless(piece):
        return safe("client-command", "it changes nothing in the database")
    if piece.meta:
        return safe_if(UNREADABLE, "psql runs something here that cannot be read", reversible=Reversible.NO)
    if _DESTROYS.search(_QUOTED.sub(" ", piece.text)):
        return breaking(
            UNREADABLE, f"it cannot be read ({why}), and it drops, renames or moves something", reversible=Reversible.NO
        )
    return safe_if(UNREADABLE, f"it cannot be read: {why}", reversible=Reversible.NO)


def _judge_all(moment: Moment, nodes: tuple[Node, ...]) -> Finding:
    if not nodes:
        return safe("empty", "it changes nothing")
    found, before = [], moment.before.copy()
    for node in nodes:
        found.append(_judge_statement(Moment(before, moment.after), node))
        apply(node, before)
    return join_findings(found)


def _judge_statement(moment: Moment, node: Node) -> Finding:
    judged = _JUDGED.get(type(node))
    if judged is not None:
        return judged(moment, node)
    if type(node) in _HARMLESS:
        return safe(_HARMLESS[type(node)], "it takes nothing away from old code")
    kind, reason = _DEPENDS.get(type(node), ("other", "what it means for old code is not known here"))
    return safe_if(kind, reason, reversible=Reversible.IF)


def _judge_block(moment: Moment, node: Node) -> Finding:
    block = read_block(node)
    found, before = [], moment.before.copy()
    for inner in block.statements:
        found.append(_judge_statement(Moment(before, moment.after), inner))
        apply(inner, before)
    found += [
        safe_if("dynamic-sql", f"part of the block cannot be read: {why}", reversible=Reversible.NO)
        for why in block.unread
    ]
    return join_findings(found) if found else safe("do-block", "it changes nothing")


def _set(_moment: Moment, node: Node) -> Finding:
    local = VariableSetKind(node.kind) is not VariableSetKind.VAR_SET_MULTI
    return safe("set", "it ends with the session" if local else "it ends with the transaction")


def _explain(moment: Moment, node: Node) -> Finding:
    runs = any(str(option.defname) == "analyze" for option in node.options or ())
    return _judge_statement(moment, node.query) if runs else safe("explain", "it only reads")


def _judge_schema(moment: Moment, node: Node) -> Finding:
    found = [_judge_statement(moment, element) for element in node.schemaElts or ()]
    return join_findings([safe("create-schema", "old code does not know it"), *found])


def _drop_owned(_moment: Moment, _node: Node) -> Finding:
    return breaking("drop-owned", "everything that the role owns is gone", reversible=Reversible.NO)


def _judge_drop_database(_moment: Moment, _node: Node) -> Finding:
    return breaking("drop-database", "it is gone", reversible=Reversible.NO)


def _judge_extension(_moment: Moment, node: Node) -> Finding:
    return safe_if(
        "alter-extension", f"the functions and types of {node.extname} may behave differently", reversible=Reversible.IF
    )


_JUDGED: Final[dict[type, Callable[[Moment, Node], Finding]]] = {
    ast.AlterTableStmt: tables.alter_table,
    ast.CreateStmt: tables.create_table,
    ast.IndexStmt: constraints.create_index,
    ast.DropStmt: naming.drop,
    ast.RenameStmt: naming.rename,
    ast.AlterObjectSchemaStmt: naming.set_schema,
    ast.AlterEnumStmt: naming.alter_enum,
    ast.InsertStmt: data.change,
    ast.UpdateStmt: data.change,
    ast.DeleteStmt: data.change,
    ast.MergeStmt: data.change,
    ast.SelectStmt: data.select,
    ast.TruncateStmt: data.truncate,
    ast.CopyStmt: data.judge_copy,
    ast.ViewStmt: others.judge_view,
    ast.RefreshMatViewStmt: others.refresh,
    ast.DeclareCursorStmt: data.change,
    ast.CreateTableAsStmt: others.create_as,
    ast.CreateFunctionStmt: others.judge_function,
    ast.CreateTrigStmt: writing.judge_trigger,
    ast.RuleStmt: writing.judge_rule,
    ast.CreatePolicyStmt: others.make_table_judge(
        "policy", "old code may see other rows, or be refused, under row security"
    ),
    ast.AlterPolicyStmt: others.make_table_judge(
        "policy", "old code may see other rows, or be refused, under row security"
    ),
    ast.GrantStmt: others.judge_grant,
    ast.GrantRoleStmt: others.judge_grant_role,
    ast.AlterSeqStmt: others.judge_sequence,
    ast.AlterDomainStmt: others.judge_domain,
    ast.CreatePublicationStmt: publishing.judge_publication,
    ast.AlterPublicationStmt: publishing.judge_publication,
    ast.DropRoleStmt: others.judge_drop_role,
    ast.AlterOwnerStmt: others.make_routine_judge("change-owner", "old code loses what only the owner may do"),
    ast.AlterFunctionStmt: others.make_routine_judge(
        "alter-function", "a function that old code calls may behave differently"
    ),
    ast.DoStmt: _judge_block,
    ast.VariableSetStmt: _set,
    ast.ExplainStmt: _explain,
    ast.CreateSchemaStmt: _judge_schema,
    ast.DropOwnedStmt: _drop_owned,
    ast.DropdbStmt: _judge_drop_database,
    ast.AlterExtensionStmt: _judge_extension,
}
_HARMLESS: Final[dict[type, str]] = {
    getattr(ast, name): kind
    for kind, names in {
        "transaction": "TransactionStmt",
        "set": "VariableShowStmt DiscardStmt ConstraintsSetStmt",
        "lock": "LockStmt",
        "maintenance": "VacuumStmt ReindexStmt ClusterStmt CheckPointStmt AlterTableMoveAllStmt "
        "AlterTableSpaceOptionsStmt AlterDatabaseRefreshCollStmt",
        "comment": "CommentStmt AlterObjectDependsStmt",
        "notify": "NotifyStmt ListenStmt UnlistenStmt",
        "create-extension": "CreateExtensionStmt",
        "create-type": "CreateEnumStmt CompositeTypeStmt CreateRangeStmt",
        "create-domain": "CreateDomainStmt",
        "create-object": "DefineStmt CreateAmStmt CreatePLangStmt CreateConversionStmt CreateTransformStmt "
        "CreateOpClassStmt CreateOpFamilyStmt CreateTableSpaceStmt",
        "create-sequence": "CreateSeqStmt",
        "create-statistics": "CreateStatsStmt AlterStatsStmt",
        "create-role": "CreateRoleStmt",
        "create-database": "CreatedbStmt",
        "create-table": "CreateForeignTableStmt ImportForeignSchemaStmt",
        "create-server": "CreateForeignServerStmt CreateFdwStmt CreateUserMappingStmt",
        "default-privileges": "AlterDefaultPrivilegesStmt",
        "prepare": "PrepareStmt DeallocateStmt",
        "select": "FetchStmt ClosePortalStmt",
    }.items()
    for name in names.split()
}
_DEPENDS: Final[dict[type, tuple[str, str]]] = {
    ast.AlterRoleStmt: ("alter-role", "old code that connects as this role may be refused"),
    ast.AlterRoleSetStmt: ("alter-role", "statements of old code run with other settings"),
    ast.AlterDatabaseSetStmt: ("alter-database", "statements of old code run with other settings"),
    ast.AlterDatabaseStmt: ("alter-database", "connections of old code may be refused"),
    ast.AlterSystemStmt: ("alter-system", "statements of old code run with other settings"),
    ast.ReassignOwnedStmt: ("change-owner", "old code loses what only the owner may do"),
    ast.CreateEventTrigStmt: ("event-trigger", "the trigger may refuse statements of old code"),
    ast.AlterEventTrigStmt: ("event-trigger", "another trigger may refuse statements of old code"),
    ast.CreateCastStmt: ("create-cast", "expressions of old code may be read differently"),
    ast.CallStmt: ("call", "what the procedure does cannot be read here"),
    ast.ExecuteStmt: ("call", "what the prepared statement does cannot be read here"),
    ast.LoadStmt: ("load", "what the library does cannot be read here"),
    ast.CreateSubscriptionStmt: ("subscription", "old code finds rows that it did not write"),
    ast.AlterSubscriptionStmt: ("subscription", "old code may find other rows"),
    ast.DropSubscriptionStmt: ("subscription", "old code no longer gets new rows"),
    ast.SecLabelStmt: ("security-label", "old code may be refused"),
}
