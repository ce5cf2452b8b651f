"""What restores keep on this machine: side instances, old data directories, unpacked bases; listed and removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.errors import UsageError

if TYPE_CHECKING:
    from backout.cli.db_restore_desk import Desk
    from backout.model.recovery import SideInstance


def kept_things(desk: Desk, mode: str | None, drop_side: str | None, message: str | None, typed: str | None) -> int:
    """Do what `--list`, `--drop-side`, `--release` or `--prepare` asks for. Raises UsageError: nothing is there."""
    if desk.branches is not None:
        raise UsageError(
            "side instances here are branches at the vendor",
            where=desk.tools.environment,
            hint=f"backout db branch list -e {desk.tools.environment}, and: backout db branch delete NAME",
        )
    if drop_side is not None:
        return _drop(desk, drop_side)
    if mode == "prepare":
        return _prepare(desk)
    return _list(desk) if mode == "list" else _release(desk, message, typed)


def _list(desk: Desk) -> int:
    from backout.runbook.restore import kept_sizes, unprotected  # noqa: PLC0415 only what acts pays for it

    out, found = desk.shell.output, desk.tools.sides.list()
    directories = kept_sizes(desk.tools)
    rows = [(each.name, str(each.state), each.how) for each in found]
    lines = [out.table(("SIDE INSTANCE", "STATE", "HOW"), rows, whole=True) if rows else "no side instances"]
    lines += [f"{each.name}: psql {each.dsn!r}" for each in found if each.dsn]
    lines += kept_lines(desk, directories)
    protected = not unprotected(desk.tools)
    if not protected:
        lines.append("UNPROTECTED: there is no verified base backup of this database since the swap")
    payload = {
        "environment": desk.tools.environment,
        "sides": [side_record(each) for each in found],
        "kept": [name for name, _ in directories],
        "kept_bytes": dict(directories),
        "protected": protected,
    }
    out.result("db-restore", payload, "\n".join(lines))
    return 0


def kept_lines(desk: Desk, directories: tuple[tuple[str, int], ...]) -> list[str]:
    """Return the data directories that are kept, what they take on the disk, and the command that removes them."""
    from backout.cli.db_backups import megabytes  # noqa: PLC0415 only where something is kept

    server = desk.tools.server
    if not directories or server is None:
        return [f"kept: {name}" for name, _ in directories]
    free = megabytes(desk.tools.free_bytes(server.data_directory.parent))
    command = f"backout db restore --release -e {desk.tools.environment}"
    named = [f"kept: {name}, {megabytes(size)}" for name, size in directories]
    return [*named, f"{free} are free there; `{command}` removes what is kept"]


def side_record(side: SideInstance) -> dict[str, object]:
    """Return a side instance as JSON values."""
    from backout.model.recovery import show_lsn  # noqa: PLC0415 only what acts pays for it

    return {
        "name": side.name,
        "state": str(side.state),
        "how": side.how,
        "lsn": show_lsn(side.target_lsn),
        "dsn": side.dsn,
        "pid": side.pid,
    }


def _drop(desk: Desk, name: str) -> int:
    desk.refuse_busy()
    if desk.tools.sides.find(name) is None:
        raise UsageError(f"no side instance {name!r}", hint="backout db restore --list")
    desk.tools.sides.drop(name)
    payload = {"environment": desk.tools.environment, "dropped": name}
    desk.shell.output.result("db-restore", payload, f"side instance {name} is gone")
    return 0


def _release(desk: Desk, message: str | None, typed: str | None) -> int:
    from backout.cli.confirm import confirm  # noqa: PLC0415 only what acts pays for it
    from backout.runbook.restore import kept, release  # noqa: PLC0415 same

    desk.refuse_busy()
    directories, bases = kept(desk.tools), desk.tools.bases.unpacked()
    if not directories and not bases:
        raise UsageError("nothing is kept", where=desk.tools.environment)
    confirm(
        desk.shell,
        desk.shell.config(),
        f"remove {', '.join((*directories, *bases))} for good",
        message=message,
        typed=typed,
    )
    gone = release(desk.tools)
    names = [*gone, *bases]
    payload = {"environment": desk.tools.environment, "released": names}
    desk.shell.output.result("db-restore", payload, "\n".join(f"removed: {name}" for name in names))
    return 0


def _prepare(desk: Desk) -> int:
    from backout.runbook.restore import prepare_base  # noqa: PLC0415 only what acts pays for it

    base = prepare_base(desk.tools)
    payload = {"environment": desk.tools.environment, "prepared": base}
    desk.shell.output.result("db-restore", payload, f"base backup {base} lies unpacked here")
    return 0
