"""The npm parts of the local cloud (wrangler, workerd, a database driver), and the sample application that uses them.

A checkout contains both (`make install`). A wheel contains the application and the lock file of the parts; the parts
themselves are installed once, verified by that lock file's hashes, into a folder of the user's cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from backout.errors import BackoutError, UsageError
from backout.extras import require
from backout.private import make_private_folder
from backout.providers.child_environment import make_bare_environment
from backout.providers.node import find_own_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SHIPPED: Final = Path(__file__).resolve().parent.parent / "shipped"
"""What a wheel holds beside the code; pyproject.toml says what it is made from."""
CHECKOUT: Final = Path(__file__).resolve().parents[3]
MODULES: Final = "node_modules"
CACHE_VARIABLE: Final = "XDG_CACHE_HOME"
LISTS: Final = ("package.json", "package-lock.json", ".npmrc")
_NPM: Final = Path("lib") / MODULES / "npm" / "bin" / "npm-cli.js"
_PASSED: Final = re.compile(r"(?i)(?:npm_config_.*|https?_proxy|no_proxy|node_extra_ca_certs)")
_TELL_EVERY_S: Final = 5.0
_QUOTED_LINES: Final = 12
_OTHERS_MAY_WRITE: Final = 0o022


def find_sample_application(beside: Path) -> Path:
    """Return the folder of the sample application: the checkout's own, else a fresh copy `beside/app` of the wheel's.

    wrangler writes into the folder that it deploys from, and an installed package may not be ours to write.

    Raises:
        UsageError: neither is there.
    """
    found = CHECKOUT / "examples" / "fm5"
    shipped = SHIPPED / "fm5"
    if shipped.is_dir():
        found = beside / "app"
        shutil.rmtree(found, ignore_errors=True)
        make_private_folder(beside)
        shutil.copytree(shipped, found)
    if not (found / "wrangler.jsonc").is_file():
        raise UsageError("the sample application is missing", where=str(found), hint="reinstall this program")
    return found


def find_home(variables: Mapping[str, str] | None = None) -> Path:
    """Return the folder in which `node_modules` lies, or will: the checkout, else one of the cache for this lock file.

    Args:
        variables: XDG_CACHE_HOME and HOME are asked; None for this process's.
    """
    if not SHIPPED.is_dir():
        return CHECKOUT
    digest = hashlib.sha256(b"".join((SHIPPED / name).read_bytes() for name in LISTS))
    return find_cache(os.environ if variables is None else variables) / f"npm-{digest.hexdigest()[:16]}"


def find_cache(variables: Mapping[str, str]) -> Path:
    """Return backout's folder of the user's cache; a relative XDG_CACHE_HOME counts for nothing, as its rule says."""
    named = variables.get(CACHE_VARIABLE, "")
    if named.startswith("/"):
        return Path(named) / "backout"
    return Path(variables.get("HOME") or "~").expanduser() / ".cache" / "backout"


def is_installed() -> bool:
    """Whether the parts are there and could be used."""
    return (find_home() / MODULES / "wrangler").is_dir()


def ensure(say: Callable[[str], None]) -> Path:
    """Return the folder in which `node_modules` lies; what is missing is installed first, which takes a minute.

    Args:
        say: hears what is done, a line at a time.

    Raises:
        UsageError: no Node, a checkout without its parts, or a cache that others may write.
        BackoutError: npm could not install them; the end of what it said.
    """
    folder = find_home()
    if is_installed():
        if folder != CHECKOUT:
            must_be_ours(folder)
        return folder
    if folder == CHECKOUT:
        raise UsageError("wrangler and workerd are not installed", where=str(folder), hint="run `make install`")
    require("twin", "the twin")
    node = find_own_folder()
    assert node is not None
    try:
        make_private_folder(folder.parent)
        with _alone(folder.parent / "npm.lock", say):
            if not is_installed():
                _install(node, folder, say)
    except OSError as error:
        what = f"the npm parts cannot be kept there: {error.strerror}"
        raise UsageError(what, where=str(folder), hint=f"{CACHE_VARIABLE} names a folder of your own") from error
    return folder


def link_parts(beside: Path, folder: Path) -> None:
    """Have what lies below `beside` find the parts in a folder: a link `node_modules`, written anew."""
    if folder == CHECKOUT:
        return
    place = beside / MODULES
    with contextlib.suppress(FileNotFoundError):
        place.unlink()
    place.symlink_to(folder / MODULES)


def list_passed_variables() -> list[str]:
    """Return the names of the variables that npm is given: where the registry is, and how it is reached."""
    return [name for name in os.environ if _PASSED.fullmatch(name)]


def walk_upwards(*starts: Path) -> Iterator[Path]:
    """Yield each folder and all above it."""
    for start in starts:
        resolved = start.resolve()
        yield resolved
        yield from resolved.parents


def must_be_ours(folder: Path) -> None:
    """Raise UsageError for parts that another user could have put there: they are executed."""
    for each in (folder.parent, folder, folder / MODULES):
        status = each.lstat()
        if status.st_uid not in {os.geteuid(), 0} or status.st_mode & _OTHERS_MAY_WRITE:
            what = "others could have written the npm parts, which are run"
            raise UsageError(what, where=str(each), hint=f"remove that folder, or name another one by {CACHE_VARIABLE}")


@contextlib.contextmanager
def _alone(file: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock that the kernel frees when we die; only one process installs."""
    with os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another backout, which is installing the npm parts")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(node: Path, folder: Path, say: Callable[[str], None]) -> None:
    """Install into a folder beside, and give it its name when it is whole."""
    growing = folder.with_name(f"{folder.name}.new")
    _must_be_ours_to_make(folder.parent)
    shutil.rmtree(growing, ignore_errors=True)
    growing.mkdir(mode=0o700)
    for name in LISTS:
        shutil.copyfile(SHIPPED / name, growing / name)
    say(f"installing wrangler and workerd, once, about 200 MB, into {folder}")
    began = time.monotonic()
    argv = (str(node / "node"), str(node.parent / _NPM), "ci", "--omit=dev", "--ignore-scripts", "--no-audit")
    with (growing / "npm.log").open("w+b") as log:
        child = subprocess.Popen(
            argv,
            cwd=growing,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=make_bare_environment(passed=list_passed_variables()),
            umask=0o077,
        )
        try:
            _wait(child, growing, say)
        except BaseException:
            child.kill()
            child.wait()
            raise
        log.seek(0)
        said = log.read().decode("utf-8", "replace").strip().splitlines()
    if child.returncode != 0:
        what = f"npm could not install wrangler and workerd: {' / '.join(said[-_QUOTED_LINES:]) or 'it said nothing'}"
        raise BackoutError(
            what, where=str(growing), hint="the same command again; npm's own settings name the registry"
        )
    shutil.rmtree(folder, ignore_errors=True)
    growing.rename(folder)
    say(f"installed after {time.monotonic() - began:.0f} s")


def _must_be_ours_to_make(folder: Path) -> None:
    status = folder.stat()
    if status.st_uid != os.geteuid() or status.st_mode & _OTHERS_MAY_WRITE:
        what = "others could write what would be installed there and run"
        raise UsageError(what, where=str(folder), hint=f"chmod 700 {folder}, or name another one by {CACHE_VARIABLE}")


def _wait(child: subprocess.Popen[bytes], growing: Path, say: Callable[[str], None]) -> None:
    """Wait for npm, and say every few seconds how much is there."""
    began = time.monotonic()
    while True:
        try:
            child.wait(_TELL_EVERY_S)
        except subprocess.TimeoutExpired:
            say(f"{time.monotonic() - began:.0f} s: {_measure_size(growing) / 1e6:.0f} MB are there")
        else:
            return


def _measure_size(folder: Path) -> int:
    """Return the bytes of all files below a folder that is being written to."""
    found = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                found += (Path(place) / name).lstat().st_size
    return found
