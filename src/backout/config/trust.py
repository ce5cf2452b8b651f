"""Which files are trusted: ours and root's. What another user could have written decides nothing, and is reported.

A file is as safe as everything on the way to it: each folder, each symbolic link and the file itself must belong to us
or to root, and no one else may write it. Three things are no danger, as git and ssh also see it:

- a folder like /tmp that everyone may write and that is sticky: no one can replace our files there;
- group permissions for a group that has the name of its one member, who is its owner: the private groups that make
  Debian's and Ubuntu's umask of 002 harmless;
- the owner of `/`: inside some containers that is neither root nor us, and it owns the machine.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from backout.errors import AuthError, Untrusted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

TRUST_ENV = "BACKOUT_TRUST_CONFIG"
_MOST_LINKS = 40
_ACL = "system.posix_acl_access"


class Flaw(NamedTuple):
    """Who else could have written something: `why` in words, `mend` as the command that ends it ("" for none)."""

    path: str
    why: str
    mend: str


def refuse(doubt: Untrusted) -> None:
    """Raise the doubt, as every command does but `panic` and `card`; these do without what the file could misuse."""
    raise doubt


def check_config(file: Path, vouched: str | None, on_doubt: Callable[[Untrusted], None] = refuse) -> None:
    """Report a configuration that others could have written.

    Args:
        vouched: the file that BACKOUT_TRUST_CONFIG names.
        on_doubt: is given what is wrong.

    Raises:
        Untrusted: by default.
    """
    if vouched and Path(vouched).is_absolute() and Path(vouched).resolve() == file.resolve():
        return
    flaw = find_flaw(file)
    if flaw is None:
        return
    allow = f"export {TRUST_ENV}={shlex.quote(str(file))}"
    named = f" ({TRUST_ENV} names {vouched!r}, and not this file)" if vouched else ""
    on_doubt(
        Untrusted(
            f"{file.name} is not trusted: someone else could have written it{named}",
            f"{flaw.path}: {flaw.why}",
            hint=f"{flaw.mend}  # or, if you trust it as it is: {allow}"
            if flaw.mend
            else f"{allow}  # if you trust it",
            without="the programs and addresses that it names; the token goes to api.cloudflare.com alone",
        )
    )


def find_flaw(path: Path) -> Flaw | None:
    """Return who else could have written a file, or have put it there; None if no one could."""
    try:
        for here, found in _walk_path(str(path)):
            if flaw := _judge_path(here, found):
                return flaw
    except OSError as error:
        return Flaw(str(path), f"it cannot be looked at: {error.strerror}", "")
    return None


def check_state(
    folder: Path,
    paths: Iterable[Path],
    on_doubt: Callable[[Untrusted], None] = refuse,
    *,
    what: str = "the records of earlier runs are not trusted: someone else could have written them",
    kept_by_git: bool = True,
    mend: Callable[[str], str] | None = None,
) -> None:
    """Report records of a project that others could have written, or that a repository contains.

    Inside the folder, and inside the repository around it, no symbolic link is followed: a repository can hold one.
    What does not exist yet will be made by us.

    Args:
        paths: files and folders; beside a file, all that begin with its name up to the dot are meant.
        on_doubt: is given what is wrong.
        what: says that they are not trusted.
        kept_by_git: whether it is a flaw that a repository holds them.
        mend: returns the command for what belongs to somebody else; default: put it aside.

    Raises:
        Untrusted: by default.
    """
    root, wanted = os.path.normpath(folder), tuple(os.path.normpath(path) for path in paths)
    roots, seen = (root, *_find_tops(Path(root))), set[str]()
    flaw = next((flaw for path in wanted if (flaw := _find_state_flaw(roots, path, seen))), None)
    if flaw is None and seen and kept_by_git:
        flaw = _find_kept_by_git(root, wanted)
    if flaw is not None:
        hint = flaw.mend or (mend or _put_aside)(flaw.path)
        on_doubt(Untrusted(what, f"{flaw.path}: {flaw.why}", hint=hint))


def _find_tops(path: Path) -> Iterator[str]:
    """Yield the top of each git repository that a path lies in, the inner ones first."""
    for each in (path, *path.parents):
        with contextlib.suppress(OSError):  # a folder that we may not search: opening the record says so
            if (each / ".git").exists():
                yield str(each)


def _find_kept_by_git(folder: str, paths: tuple[str, ...]) -> Flaw | None:
    """Return the first of the records that git keeps: anyone who can write to the repository can write these, too.

    A repository of its own below the folder (a submodule, or a clone) is somebody's as a whole.
    """
    from backout.config.init.git_index import find_tracked

    around: dict[str, list[Path]] = {}
    for path in map(Path, paths):
        for top in _find_tops(path):
            around.setdefault(top, []).append(path)
    for top, records in around.items():
        if top.startswith(f"{folder}/"):
            why = "it is a git repository of its own, so anyone who can write to that can write the records"
            return Flaw(top, why, _put_aside(top))
        starts = [f"{path}/" for path in records] + [f"{path}\0" for path in records]
        starts += [f"{path.with_suffix('')}." for path in records if path.suffix]
        ways = {each for path in records for each in path.parents if each.is_relative_to(top)}
        ways -= {Path(folder), *Path(folder).parents}  # the project may be a submodule of another one
        starts += [f"{each}\0" for each in ways]  # a submodule, or a link in the index
        found = find_tracked(Path(top), starts)
        if found:
            quoted = shlex.quote(found)
            mend = f"git rm --cached {quoted} && {_put_aside(found)}"
            return Flaw(
                found, "the git repository holds it, so anyone who can write to the repository can write it", mend
            )
    return None


def _put_aside(path: str) -> str:
    return f"mv {shlex.quote(path)} {shlex.quote(path)}.not-ours"


def check_secret(path: Path, found: os.stat_result, name: str) -> None:
    """Refuse an opened file of a secret that others may write, or that others than a group of ours may read.

    Args:
        found: what `os.fstat` says of the open file.
        name: the secret's.

    Raises:
        AuthError: with the command that mends it.
    """
    if why := _find_writer(path, found) or _find_reader(path, found):
        mend = f"{_mend(path, found, '600')}  # of a mounted secret (Kubernetes, Docker): mount it with mode 0440"
        raise AuthError(f"cannot take {name} from this file: {why}", where=str(path), hint=mend)


def check_values(path: Path, found: os.stat_result) -> None:
    """Refuse an opened file of the application's values that others may write; others may read it, as a `.env` is.

    Raises:
        AuthError: with the command that mends it.
    """
    if why := _find_writer(path, found):
        raise AuthError(f"the file is not taken: {why}", where=str(path), hint=_mend(path, found, "go-w"))


def _mend(path: Path, found: os.stat_result, mode: str) -> str:
    quoted = shlex.quote(str(path))
    owner = f"chown {os.geteuid()} {quoted} && " if found.st_uid not in _get_own_users() else ""
    return f"{owner}chmod {mode} {quoted}"


def _find_writer(path: Path, found: os.stat_result) -> str:
    """Return who else may write an open file, or put it there by a link of theirs; "" for no one."""
    flaw = _judge_path(str(path), found) or next((flaw for flaw in _check_links(path) if flaw), None)
    return flaw.why if flaw else ""


def _find_reader(path: Path, found: os.stat_result) -> str:
    if not stat.S_ISREG(found.st_mode):
        return ""  # a pipe belongs to the process it was opened for
    if found.st_mode & stat.S_IROTH:
        return f"everyone on this machine may read it (mode {stat.S_IMODE(found.st_mode):04o})"
    if found.st_mode & stat.S_IRGRP and _has_acl(str(path)):
        return "a list of access rights lets others than its owner read it"
    if found.st_mode & stat.S_IRGRP and found.st_gid not in _get_own_groups() and not _is_private(found.st_gid):
        return f"the group {_describe_group(found.st_gid)} may read it, and it is not one of ours"
    return ""


def _check_links(path: Path) -> Iterator[Flaw | None]:
    try:
        for here, found in _walk_path(str(path.absolute())):
            if stat.S_ISLNK(found.st_mode):
                yield _judge_path(here, found)
    except OSError:
        return  # it was opened: what cannot be followed by name (a pipe in /dev/fd) has no links of others in it


def _find_state_flaw(roots: Sequence[str], path: str, seen: set[str]) -> Flaw | None:
    """Return what is wrong with a record.

    Args:
        roots: the project's folder, then the repositories around it: the first that holds the record is where its way
            begins.
    """
    if path in roots:
        return None  # as `check_config` and git judge it
    root = next((root for root in roots if path.startswith(f"{root}/")), None)
    try:
        for here, found in _walk_path(path) if root is None else _walk_below(root, path):
            if here in seen:
                continue
            seen.add(here)
            if root is not None and stat.S_ISLNK(found.st_mode):
                why = f"it is a symbolic link (to {Path(here).readlink()}); a repository can bring one"
                return Flaw(here, why, _put_aside(here))
            if flaw := _judge_path(here, found):
                return flaw
    except FileNotFoundError:
        return None
    except OSError:
        return None  # opening it says what is wrong
    return None


def _walk_below(folder: str, path: str) -> Iterator[tuple[str, os.stat_result]]:
    here = folder
    for name in path[len(folder) + 1 :].split("/"):
        here = f"{here}/{name}"
        yield here, os.lstat(here)


def _walk_path(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield each folder, symbolic link and file that decides where an absolute path leads, from the root on."""
    here, left, links = "/", path.split("/")[::-1], 0
    yield here, os.lstat(here)
    while left:
        name = left.pop()
        if name in {"", "."}:
            continue
        if name == "..":
            here = here.rpartition("/")[0] or "/"
            continue
        there = f"{here.rstrip('/')}/{name}"
        found = os.lstat(there)
        yield there, found
        if not stat.S_ISLNK(found.st_mode):
            here = there
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError("too many symbolic links")
        target = str(Path(there).readlink())
        here = "/" if target.startswith("/") else here
        left += target.split("/")[::-1]


def _judge_path(path: str, found: os.stat_result) -> Flaw | None:
    quoted = shlex.quote(path)
    if found.st_uid not in _get_own_users():
        return Flaw(path, f"it belongs to {_describe_user(found.st_uid)}, who is neither you nor root", "")
    if stat.S_ISLNK(found.st_mode) or (stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX):
        return None
    mode = f"mode {stat.S_IMODE(found.st_mode):04o}"
    if found.st_mode & stat.S_IWOTH:
        return Flaw(path, f"everyone on this machine may write it ({mode})", f"chmod go-w {quoted}")
    if found.st_mode & stat.S_IWGRP and not (_is_private(found.st_gid) and not _has_acl(path)):
        return Flaw(path, f"the group {_describe_group(found.st_gid)} may write it ({mode})", f"chmod g-w {quoted}")
    return None


@cache
def _get_own_users() -> frozenset[int]:
    return frozenset({os.geteuid(), 0, os.lstat("/").st_uid})


@cache
def _get_own_groups() -> frozenset[int]:
    return frozenset({os.getegid(), *os.getgroups()})


@cache
def _is_private(gid: int) -> bool:
    """Whether a group has the name of one of us, and no member but us; an unknown group may have any member."""
    import grp
    import pwd

    try:
        group = grp.getgrgid(gid)
    except KeyError:
        return False
    users = {user.pw_name: user for user in pwd.getpwall()}
    try:
        me = pwd.getpwuid(os.geteuid())
        users[me.pw_name] = me  # a directory service need not list it
    except KeyError:
        pass
    ours = {name for name, user in users.items() if user.pw_uid in _get_own_users()}
    members = {name for name, user in users.items() if user.pw_gid == gid} | set(group.gr_mem)
    return group.gr_name in ours and bool(members) and members <= ours


def _has_acl(path: str) -> bool:
    """Whether a list of access rights says more than the mode does: its group part is then a mask."""
    try:
        return _ACL in os.listxattr(path)
    except (AttributeError, OSError):  # not Linux, or a file system without
        return False


def _describe_user(uid: int) -> str:
    import pwd

    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _describe_group(gid: int) -> str:
    import grp

    try:
        return f"{grp.getgrgid(gid).gr_name} (gid {gid})"
    except KeyError:
        return str(gid)
