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
    from backout.runbook.restore import kept, unprotected  # noqa: PLC0415 only what acts pays for it

    out, found = desk.shell.output, desk.tools.sides.list()
    directories = kept(desk.tools)
    rows = [(each.name, str(each.state), each.how) for each in found]
    lines = [out.table(("SIDE INSTANCE", "STATE", "HOW"), rows, whole=True) if rows else "no side instances"]
    lines += [f"{each.name}: psql {each.dsn!r}" for each in found if each.dsn]
    lines += [f"kept: {name}" for name in directories]
    protected = not unprotected(desk.tools)
    if not protected:
        lines.append("UNPROTECTED: there is no verified base backup of this database since the swap")
    payload = {
        "environment": desk.tools.environment,
        "sides": [side_record(each) for each in found],
        "kept": list(directories),
        "protected": protected,
    }
    out.result("db-restore", payload, "\n".join(lines))
    return 0


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
