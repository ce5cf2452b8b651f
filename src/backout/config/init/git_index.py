"""Read from its index what a git repository keeps: as bytes, because nothing from a foreign repository is run.

Source: git documentation, gitformat-index (versions 2 to 4, split index).
"""

from __future__ import annotations

import contextlib
import os
import struct
from struct import unpack_from
from typing import TYPE_CHECKING

from backout.model.checkup import GitLook
from backout.private import OURS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_HEADER, _STAT = 12, 40
_SHA1, _SHA256 = 20, 32
_LENGTH, _EXTENDED = 0x0FFF, 0x4000
_COMPRESSED = 4
"""The version of the index whose names omit the part they share with the previous name."""


def find_tracked(folder: Path, starts: Sequence[str]) -> str:
    r"""Return the first file of the repository around `folder` whose path begins with one of `starts`; "" for none.

    Args:
        folder: an absolute path.
        starts: absolute paths in any case, as some file systems take them; one that ends in `\0` is a whole path.
    """
    found = _find_repository(folder)
    if found is None:
        return ""
    top, kept = found
    wanted = tuple(os.fsencode(start[len(str(top)) :].lstrip("/")).lower() for start in starts)
    for index in _read_indexes(kept):
        with contextlib.suppress(IndexError, ValueError, struct.error):  # damaged: git cannot use it either
            for name in _list_names(index, kept, wanted):
                if (name.lower() + b"\0").startswith(wanted):
                    return str(top / os.fsdecode(name))
    return ""


def look_at(folder: Path, records: Path) -> GitLook:
    """Return what the repository around `folder` keeps from the folder of our records.

    Args:
        records: the absolute path of a folder or a file; it need not exist. A folder `.backout` that is made here
            ignores itself.
    """
    found = _find_repository(folder)
    if found is None or not records.is_relative_to(found[0]):
        return GitLook(repository=False)
    kept = find_tracked(folder, (f"{records}/", f"{records}\0"))
    below = records.relative_to(found[0]).as_posix()
    return GitLook(repository=True, folder=below, ignored=_is_ignored(*found, records), tracked=kept)


def _is_ignored(top: Path, kept: Path, records: Path) -> bool:
    """Whether a plain pattern ignores the records or a folder above them; complex patterns are not understood."""
    below = [records, *records.parents]
    for each in below[: below.index(top)]:
        if each.name == OURS and not each.exists():
            return True
        if b"*" in _read(each / ".gitignore").split():
            return True
        for folder in (*each.parents[: each.parents.index(top) + 1],) if top in each.parents else ():
            if _matches_name(_read(folder / ".gitignore"), each.relative_to(folder).as_posix(), each.name):
                return True
        if _matches_name(_read(kept / "info" / "exclude"), each.relative_to(top).as_posix(), each.name):
            return True
    return False


def _matches_name(patterns: bytes, path: str, name: str) -> bool:
    lines = {line.strip() for line in patterns.decode("utf-8", "replace").splitlines()}
    plain = {path, f"{path}/", f"/{path}", f"/{path}/", f"{name}/", name, f"**/{name}", f"**/{name}/"}
    return bool(lines & plain)


def _find_repository(folder: Path) -> tuple[Path, Path] | None:
    """Return the working copy's top and where its index is, or None outside of one."""
    for top in (folder, *folder.parents):
        there = top / ".git"
        if there.is_dir():
            return top, there
        if there.is_file():  # a worktree, or a submodule
            return top, top / os.fsdecode(_read(there)[:4096].removeprefix(b"gitdir:").strip())
    return None


def _read_indexes(kept: Path) -> Iterator[bytes]:
    yield _read(kept / "index")
    yield from map(_read, kept.glob("sharedindex.*"))


def _list_names(index: bytes, kept: Path, wanted: Iterable[bytes]) -> Iterator[bytes]:
    """Yield names in the index: all of them if they are compressed, else those that may be wanted."""
    if index[:4] != b"DIRC" or len(index) < _HEADER:
        return
    version, count = unpack_from(">LL", index, 4)
    if version == _COMPRESSED:
        yield from _read_compressed(index, count, _SHA256 if b"sha256" in _read_config(kept) else _SHA1)
        return
    lower = index.lower()
    for start in wanted:
        at = lower.find(start, _HEADER)
        while at >= 0:
            name = index[at : index.find(b"\0", at)]
            if _begins(index, at, len(name)):
                yield name
            at = lower.find(start, at + 1)


def _begins(index: bytes, at: int, length: int) -> bool:
    """Whether a name begins there: the two bytes of flags before it hold its length, and a path's bytes cannot."""
    return bool(unpack_from(">H", index, at - 2)[0] & _LENGTH == min(length, _LENGTH)) or bool(
        unpack_from(">H", index, at - 4)[0] & (_EXTENDED | _LENGTH) == (_EXTENDED | min(length, _LENGTH))
    )


def _read_compressed(index: bytes, count: int, hash_bytes: int) -> Iterator[bytes]:
    at, name = _HEADER, b""
    for _ in range(count):
        at += _STAT + hash_bytes
        extended = unpack_from(">H", index, at)[0] & _EXTENDED
        at += 4 if extended else 2
        less, at = _read_offset(index, at)
        end = index.index(b"\0", at)
        name = name[: len(name) - less] + index[at:end]
        at = end + 1
        yield name


def _read_offset(index: bytes, at: int) -> tuple[int, int]:
    """Return a number in git's varying width, and where it ends."""
    value = index[at] & 0x7F
    while index[at] & 0x80:
        at += 1
        value = ((value + 1) << 7) | (index[at] & 0x7F)
    return value, at + 1


def _read_config(kept: Path) -> bytes:
    common = os.fsdecode(_read(kept / "commondir").strip()) or "."
    return _read(kept / common / "config").lower()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
