"""What restores keep on this machine: side instances, old data directories, unpacked bases; listed and removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import UsageError

if TYPE_CHECKING:
    from backout.cli.db.restore_session import RestoreSession
    from backout.model.database.recovery import SideInstance


def manage_kept(
    session: RestoreSession, mode: str | None, drop_side: str | None, message: str | None, typed: str | None
) -> int:
    """Do what `--list`, `--drop-side`, `--release` or `--prepare` asks for. Raises UsageError: nothing is there."""
    if session.branches is not None:
        raise UsageError(
            "side instances here are branches at the vendor",
            where=session.tools.environment,
            hint=f"backout db branch list -e {session.tools.environment}, and: backout db branch delete NAME",
        )
    if drop_side is not None:
        return _drop(session, drop_side)
    if mode == "prepare":
        return _prepare(session)
    return _list(session) if mode == "list" else _release(session, message, typed)


def _list(session: RestoreSession) -> int:
    from backout.runbook.recovery.restore import is_unprotected, list_kept_sizes

    out, found = session.shell.output, session.tools.sides.list()
    directories = list_kept_sizes(session.tools)
    rows = [(each.name, str(each.state), each.how) for each in found]
    lines = [out.table(("SIDE INSTANCE", "STATE", "HOW"), rows, whole=True) if rows else "no side instances"]
    lines += [f"{each.name}: psql {each.dsn!r}" for each in found if each.dsn]
    lines += describe_kept(session, directories)
    protected = not is_unprotected(session.tools)
    if not protected:
        lines.append("UNPROTECTED: there is no verified base backup of this database since the swap")
    payload = {
        "environment": session.tools.environment,
        "sides": [make_side_record(each) for each in found],
        "kept": [name for name, _ in directories],
        "kept_bytes": dict(directories),
        "protected": protected,
    }
    out.result("db-restore", payload, "\n".join(lines))
    return 0


def describe_kept(session: RestoreSession, directories: tuple[tuple[str, int], ...]) -> list[str]:
    """Return the kept data directories, the disk space they take, and the command that removes them."""
    from backout.cli.db.backup_record import format_megabytes

    server = session.tools.server
    if not directories or server is None:
        return [f"kept: {name}" for name, _ in directories]
    free = format_megabytes(session.tools.free_bytes(server.data_directory.parent))
    command = f"backout db restore --release -e {session.tools.environment}"
    named = [f"kept: {name}, {format_megabytes(size)}" for name, size in directories]
    return [*named, f"{free} are free there; `{command}` removes what is kept"]


def make_side_record(side: SideInstance) -> dict[str, object]:
    """Return a side instance as JSON values."""
    from backout.model.database.wal import show_lsn

    return {
        "name": side.name,
        "state": str(side.state),
        "how": side.how,
        "lsn": show_lsn(side.target_lsn),
        "dsn": side.dsn,
        "pid": side.pid,
    }


def _drop(session: RestoreSession, name: str) -> int:
    session.refuse_busy()
    if session.tools.sides.find(name) is None:
        raise UsageError(f"no side instance {name!r}", hint="backout db restore --list")
    session.tools.sides.drop(name)
    payload = {"environment": session.tools.environment, "dropped": name}
    session.shell.output.result("db-restore", payload, f"side instance {name} is gone")
    return 0


def _release(session: RestoreSession, message: str | None, typed: str | None) -> int:
    from backout.cli.support.confirm import confirm
    from backout.runbook.recovery.restore import list_kept, release

    session.refuse_busy()
    directories, bases = list_kept(session.tools), session.tools.bases.list_unpacked()
    if not directories and not bases:
        raise UsageError("nothing is kept", where=session.tools.environment)
    confirm(
        session.shell,
        session.shell.config(),
        f"remove {', '.join((*directories, *bases))} for good",
        message=message,
        typed=typed,
    )
    gone = release(session.tools)
    names = [*gone, *bases]
    payload = {"environment": session.tools.environment, "released": names}
    session.shell.output.result("db-restore", payload, "\n".join(f"removed: {name}" for name in names))
    return 0


def _prepare(session: RestoreSession) -> int:
    from backout.runbook.recovery.restore import prepare_base

    base = prepare_base(session.tools)
    payload = {"environment": session.tools.environment, "prepared": base}
    session.shell.output.result("db-restore", payload, f"base backup {base} is unpacked here")
    return 0
