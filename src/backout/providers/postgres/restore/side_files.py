"""The files of side instances: written atomically, overlaid, shared, removed."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from backout.errors import BackoutError, Refused
from backout.private import write_over
from backout.providers.child import needs_chown
from backout.providers.child_environment import make_bare_environment
from backout.providers.postgres.server.launcher import Overlay
from backout.providers.process_group import run_group

_FICLONE: Final = 0x40049409


def read_boot_id() -> str:
    """Return the id of this boot of the machine; "" where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def write_whole(path: Path, text: str) -> None:
    """Write a file that is either not there or whole; a folder that is not there is made, for us alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_over(path, text.encode())


def write_local_access(folder: Path) -> None:
    """Write into a new folder the files of access and settings that a server reads in place of its origin's."""
    (folder / "hba.conf").write_text("local all all trust\n", encoding="ascii")
    for name in ("ident.conf", "postgresql.conf"):
        (folder / name).touch()


def put_over(base: Path, folder: Path, *, overlays: bool) -> tuple[str, str]:
    """Lay an instance over an unpacked base, or copy that; return how, and what it lies over."""
    if overlays:
        for made in (folder / "upper", folder / "work", folder / "merged"):
            made.mkdir(mode=0o700)
        return "overlay", str(base)
    how = "reflink" if can_reflink(folder) else "copy"
    copy_folder(base, folder / "data")
    return how, ""


def read_text(path: Path) -> str:
    """Return a file's text, "" when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def refuse_tablespaces(data: Path) -> None:
    """Raise Refused if there are tablespaces: a copy of such a link would lead to the live server's own files."""
    if (data / "tablespace_map").exists() or any((data / "pg_tblspc").glob("*")):
        raise Refused(
            "the database has tablespaces, which a side instance cannot be given",
            where=str(data),
            options=("Restore it by hand, with each tablespace mapped elsewhere.",),
        )


def copy_folder(source: Path, into: Path) -> None:
    """Copy a folder, sharing blocks where the file system can; `into` is not there yet.

    Raises:
        BackoutError: in the words of cp.
    """
    argv = (shutil.which("cp") or "cp", "-a", "--reflink=auto", str(source), str(into))
    done = run_group(argv, env=make_bare_environment())
    if done.returncode != 0:
        raise BackoutError(f"the folder cannot be copied: {' '.join(done.stderr.split())[:300]}", where=str(source))


def remove(folder: Path) -> None:
    """Remove a folder, the mount's own subfolder (mode 000) included."""
    inner = folder / "work" / "work"
    if inner.is_dir():
        inner.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def overlay_works(root: Path) -> bool:
    """Try it once on the file system in question."""
    if needs_chown() or shutil.which("unshare") is None:
        return False
    root.mkdir(parents=True, exist_ok=True)
    trial = Path(tempfile.mkdtemp(prefix=".trial-", dir=root))
    try:
        for name in ("lower", "upper", "work", "merged"):
            (trial / name).mkdir()
        prefix = Overlay(trial / "lower", trial / "upper", trial / "work").prefix(trial / "merged")
        done = subprocess.run(
            (*prefix, "touch", str(trial / "merged" / "x")),
            check=False,
            capture_output=True,
            env=make_bare_environment(),
        )
        return done.returncode == 0 and (trial / "upper" / "x").is_file()
    except OSError:
        return False
    finally:
        remove(trial)


def can_reflink(folder: Path) -> bool:
    """Whether the file system shares blocks between copies."""
    with tempfile.TemporaryFile(dir=folder) as one, tempfile.TemporaryFile(dir=folder) as two:
        one.write(b"x" * 4096)
        one.flush()
        try:
            fcntl.ioctl(two.fileno(), _FICLONE, one.fileno())
        except OSError:
            return False
        return True
