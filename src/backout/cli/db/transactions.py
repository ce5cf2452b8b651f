"""`backout db transactions`: what was committed, and what it wrote, according to the archived WAL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backout.cli.support.options import Command, pass_shell

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.runbook.recovery.transactions import Listed, Listing

_MB = 1e6
_SHOWN = 4
_STEP = 64 << 20


@click.command(
    "transactions",
    cls=Command,
    short_help="List what was committed, and which rows it wrote.",
    epilog="""
Examples:
  backout db transactions -e production --since "1 hour ago"
  backout db transactions -e production --table orders --since "2026-11-25 14:00" --until "2026-11-25 14:10" --json
""",
)
@click.option("--since", metavar="TIME", help="Start of the period (24 hours ago).")
@click.option("--until", metavar="TIME", help="End of the period (now).")
@click.option("--table", metavar="NAME", default="", help="Only those that wrote to TABLE or SCHEMA.TABLE.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most this many, the newest."
)
@pass_shell
def transactions(shell: Shell, *, since: str | None, until: str | None, table: str, limit: int) -> int:
    """List the transactions in the archived WAL, newest first: when each was committed, its id, and rows by table.

    A deleted row does not keep the id of the transaction that deleted it; this shows that id, for `backout db restore`.
    Nothing is changed, and the live server is asked for names only.
    """
    from backout.cli.guard.live import Live
    from backout.report.times import format_time
    from backout.runbook.recovery.transactions import Wanted, list_transactions, read_window
    from backout.wiring.db.restore import make_restore_tools

    tools = make_restore_tools(shell.config(), say=shell.output.say)
    wanted = Wanted(*read_window(tools, since, until), table, limit)
    live, told = Live(shell.output, "db-transactions"), 0

    def progress(done: int, whole: int) -> None:
        nonlocal told
        if done - told >= _STEP:
            told = done
            live.say(f"  reading WAL {done / _MB:,.0f} MB of {whole / _MB:,.0f} MB")

    found = list_transactions(tools, wanted, progress)
    live.end()
    rows = [
        (format_time(each.commit.at), str(each.commit.xid), each.database, _format_text(each))
        for each in found.transactions
    ]
    human = shell.output.table(("COMMITTED (UTC)", "ID", "DATABASE", "ROWS"), rows) or "no such transaction"
    payload = {"environment": tools.environment, **_record(found), "since": format_time(wanted.since)}
    shell.output.result("db-transactions", {**payload, "until": format_time(wanted.until)}, human)
    if found.more:
        shell.output.say(f"and {found.more:,} older ones; --limit shows more of them")
    if found.is_cut:
        from backout.model.database.wal import show_lsn

        shell.output.say(
            f"rows may be missing: a transaction may have written before {show_lsn(found.begins_at)}, where the "
            "available WAL begins" + (", or in a hole" if found.holes else "")
        )
    if found.holes:
        shell.output.say(f"the archive has {found.holes} hole(s) in this time: what was committed there is not known")
    if found.transactions:
        shell.output.next(f"backout db restore {found.transactions[0].commit.xid} -e {tools.environment} --dry-run")
    return 0


def _format_text(found: Listed) -> str:
    """Return what it wrote, for a person."""
    parts = []
    for each in found.wrote:
        counts = ((each.rows.inserted, "inserted"), (each.rows.updated, "updated"), (each.rows.deleted, "deleted"))
        words = [f"{count:,} {word}" for count, word in counts if count]
        words += ["created, emptied or rewritten"] if each.rows.made_anew else []
        parts.append(f"{each.table}: {', '.join(words)}")
    more = len(parts) - _SHOWN
    parts = [*parts[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]
    if found.commit.dropped:
        parts.append(f"{len(found.commit.dropped)} relation(s) dropped")
    return "; ".join(parts) or "definitions"


def _record(found: Listing) -> dict[str, object]:
    """Return the list as JSON values."""
    from backout.model.database.wal import show_lsn
    from backout.report.times import format_time

    records = [
        {
            "xid": each.commit.xid,
            "at": format_time(each.commit.at),
            "lsn": show_lsn(each.commit.lsn),
            "timeline": each.commit.timeline,
            "database": each.database or None,
            "tables": [
                {
                    "table": one.table,
                    "inserted": one.rows.inserted,
                    "updated": one.rows.updated,
                    "deleted": one.rows.deleted,
                    "made_anew": one.rows.made_anew,
                }
                for one in each.wrote
            ],
            "dropped": len(each.commit.dropped),
            "changes_schema": each.commit.changes_schema,
        }
        for each in found.transactions
    ]
    return {
        "transactions": records,
        "more": found.more,
        "begins_at": show_lsn(found.begins_at),
        "ends_at": show_lsn(found.ends_at),
        "holes": found.holes,
        "rows_missing": found.is_cut,
    }
