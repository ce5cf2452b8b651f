"""The receiver of WAL: pg_receivewal through a slot, restarted when it dies, its segments shipped to the store.

A failure here never stops the server: the slot keeps at most max_slot_wal_keep_size. Lost WAL is reported.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from backout.errors import BackoutError, ProviderUnavailable, WorldMoved
from backout.model.database.backups import WalStatus
from backout.model.database.wal import WalGap, show_lsn
from backout.model.names import is_history, is_segment
from backout.private import make_private_folder, open_unlinked
from backout.providers.archive.claim import Claim, ClaimWatch
from backout.providers.archive.gaps import add_gap
from backout.providers.archive.readback import see
from backout.providers.archive.receiver_status import STATUS_FILE, ReceiverStatus, carry_over_claim, read_status
from backout.providers.archive.stores import FolderStore, make_not_kept_error
from backout.providers.archive.wal import PARTIAL, make_segment, strip_zeros
from backout.providers.child import tie_to_parent
from backout.providers.postgres.tls.program_environment import make_program_environment

if TYPE_CHECKING:
    from threading import Event

    from backout.model.database.backups import Cluster
    from backout.ports import Clock
    from backout.providers.archive.origin import Origin
    from backout.providers.archive.receiver_options import ReceiverOptions
    from backout.providers.archive.wal import WalArchive
    from backout.providers.postgres.server.replication import Replication

_TICK_S: Final = 0.1
_LOOK_S: Final = 1.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 30.0
_GONE: Final = re.compile(r"has already been removed|not in this server|is not present in the server|invalidated")
"""The last but one is its own word for a folder that holds a timeline which the server never had."""


class WalReceiver:
    """Receives the WAL of one cluster until it is asked to stop."""

    def __init__(
        self, archive: WalArchive, origin: Origin, replication: Replication, how: ReceiverOptions, clock: Clock
    ) -> None:
        self._archive = archive
        self._origin = origin
        self._replication = replication
        self._how = how
        self._clock = clock
        self._process: subprocess.Popen[str] | None = None
        self._log = how.directory / "pg_receivewal.log"
        self._pause_s = _FIRST_PAUSE_S
        self._restart_at = 0.0
        self._restarts = -1
        self._trouble = self._unwritten = ""
        self._segment_bytes = 0
        self._seen: deque[tuple[float, int]] = deque(maxlen=4096)
        self._status: ReceiverStatus | None = None
        self._shipping_at = 0.0
        self._partial_at = 0.0
        self._sent = ("", 0)
        self._shipped: dict[int, int] = {}
        self._moving = threading.Lock()
        self._watched = ClaimWatch(Claim(), how, clock)

    def run(self, stop: Event) -> None:
        """Receive until it is asked to stop.

        Raises:
            WorldMoved: another cluster answers now. What a restart may heal is waited out.
        """
        state = self._origin.cluster.read()
        self._segment_bytes = state.segment_bytes
        self._archive.set_layout(state.segment_bytes)
        make_private_folder(self._archive.incoming)
        self._replication.ensure_slot()
        known = carry_over_claim(read_status(self._how.directory), state.system_identifier)
        self._watched = ClaimWatch(known, self._how, self._clock)
        self._status = ReceiverStatus(
            at=self._clock.now(),
            pid=os.getpid(),
            started_at=self._clock.now(),
            system_identifier=state.system_identifier,
            timeline=state.timeline,
            sync=self._how.sync,
        )
        looked_at = 0.0
        shipping = threading.Thread(target=self._keep_shipping, args=(stop,), daemon=True)
        shipping.start()
        if self._how.judge is not None:
            threading.Thread(target=self._watched.keep, args=(stop,), daemon=True).start()
        try:
            while not stop.wait(_TICK_S):
                now = time.monotonic()
                self._keep_running(now)
                if now - looked_at >= _LOOK_S:
                    looked_at = now
                    self._look()
        finally:
            stop.set()
            self._end()
            shipping.join()
            self._ship(now=0.0)
            self._replication.close()

    # --- the process -------------------------------------------------------------------------------------------

    def _keep_running(self, now: float) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        if self._process is not None:
            said = self._last_words()
            self._trouble = f"pg_receivewal ended: {said}"
            self._how.say(f"{self._trouble}; trying again in {self._pause_s:g} s")
            self._process = None
            self._restart_at = now + self._pause_s
            self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
            if _GONE.search(said):
                self._begin_anew(said)
        if now >= self._restart_at:
            self._start(now)

    def _start(self, now: float) -> None:
        try:
            self._make_whole()
            self._replication.ensure_slot()
            environment = make_program_environment(self._origin.dsn(), self._how.slot)
        except BackoutError as error:
            self._trouble, self._restart_at = error.what, now + self._pause_s
            self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)
            return
        argv = [
            self._origin.binaries().path("pg_receivewal"),
            f"--directory={self._archive.incoming}",
            f"--slot={self._how.slot}",
            "--no-loop",
            "--no-password",
            "--status-interval=1",
            "--synchronous",  # the server is told at once what is safe, whether commits wait for that or not
        ]
        with open(self._log, "w", encoding="utf-8", opener=open_unlinked) as log:
            self._process = subprocess.Popen(
                tie_to_parent(argv, signal.SIGINT),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
                env=environment,
                start_new_session=True,
            )
        self._restarts += 1

    def _make_whole(self) -> None:
        """Give a partial segment its full length: pg_receivewal takes no other, and a full disk leaves one.

        What was received of it stays readable all the while; it is received again from its beginning.

        Raises:
            BackoutError: there is still no room.
        """
        for path in self._archive.incoming.glob(f"*{PARTIAL}"):
            try:
                if path.stat().st_size in {0, self._segment_bytes}:
                    continue
                with open(path, "r+b", opener=open_unlinked) as file:
                    os.posix_fallocate(file.fileno(), 0, self._segment_bytes)
                    file.truncate(self._segment_bytes)
                    os.fsync(file.fileno())
            except FileNotFoundError:
                continue  # it was just stored
            except OSError as error:
                raise make_not_kept_error(error, str(path)) from error

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)  # it closes and syncs what it has
        try:
            self._process.wait(timeout=10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            said = " ".join(line.removeprefix("pg_receivewal: error: ") for line in lines[-3:])
            secret = make_program_environment(self._origin.dsn()).get("PGPASSWORD")
            return (said.replace(secret, "[redacted]") if secret else said) or "it said nothing"
        return "it said nothing"

    # --- shipping ----------------------------------------------------------------------------------------------

    def _keep_shipping(self, stop: Event) -> None:
        """Ship in a thread of its own, so that a slow or absent store does not stop the receiving."""
        while not stop.wait(_LOOK_S / 2):
            now = time.monotonic()
            if now >= self._shipping_at:
                try:
                    with self._moving:
                        self._ship(now)
                except OSError as error:
                    self._trouble = f"nothing reaches the store: {error}"

    def _ship(self, now: float) -> None:
        """Move complete segments and history files to the store; one that fails is tried again later."""
        newest = max((path.name for path in self._archive.incoming.iterdir() if is_segment(path.name[:24])), default="")
        for path in sorted(self._archive.incoming.iterdir()):
            name = path.name
            ended = name.endswith(PARTIAL) and is_segment(name[:24]) and name[:8] < newest[:8]
            if not (is_segment(name) or is_history(name) or ended):
                continue
            try:
                content = path.read_bytes()
                if is_segment(name) and len(content) != self._segment_bytes:
                    continue
                self._archive.keep(name, content)
                if is_segment(name):
                    self._read_back(name, content)
                    shipped = make_segment(name, self._segment_bytes)
                    self._shipped[shipped.timeline] = shipped.end_lsn
                path.unlink()
                if is_segment(name) and self._how.partial_every_s is not None:
                    self._archive.forget_partial(name)
            except (BackoutError, OSError) as error:
                self._trouble = f"{name} is not in the store: {error}"
                self._shipping_at = now + 5.0
                return

        if self._how.partial_every_s is not None and now >= self._partial_at:
            self._partial_at = now + self._how.partial_every_s
            self._ship_partial()

    def _read_back(self, name: str, content: bytes) -> None:
        """Read what was stored. Raises BackoutError: it is not what was received."""
        kept = self._archive.read_kept(name)
        if kept is None or kept.ljust(self._segment_bytes, b"\0") != content:
            raise BackoutError("the stored copy differs from what was received", where=name)
        see(self._archive, make_segment(name, self._segment_bytes), content)

    def _ship_partial(self) -> None:
        """Send what was received of the newest segment, so that losing this machine loses little."""
        for path in self._archive.incoming.glob(f"*{PARTIAL}"):
            try:
                content = strip_zeros(path.read_bytes())
                if content and (path.name, len(content)) != self._sent:
                    self._archive.keep(path.name, content)
                    self._sent = (path.name, len(content))
            except FileNotFoundError:
                continue  # it was just completed
            except BackoutError as error:
                self._trouble = f"{path.name} is not in the store: {error}"

    def _find_received_end(self, timeline: int) -> int:
        """Return the end of what this machine has received of a timeline; other timelines do not count."""
        coming = self._archive.coming(self._segment_bytes).values()  # what leaves it meanwhile is counted as shipped
        return max([*(each.end_lsn for each in coming if each.timeline == timeline), self._shipped.get(timeline, 0)])

    # --- looking -----------------------------------------------------------------------------------------------

    def _look(self) -> None:
        status = self._status
        assert status is not None
        receiving = self._process is not None and self._process.poll() is None
        received = self._find_received_end(status.timeline)
        try:
            state = self._origin.cluster.read()
        except (ProviderUnavailable, BackoutError) as error:
            self._write(receiving=False, received_lsn=received, trouble=error.what)
            return
        if state.system_identifier != status.system_identifier:
            raise WorldMoved(
                f"another cluster answers now ({state.system_identifier} instead of {status.system_identifier})",
                where="database",
                hint="backout db wal stop, then backout db wal start, and a new base backup",
            )
        if state.timeline != status.timeline:
            self._seen.clear()  # positions of another timeline have other times
            received = self._find_received_end(state.timeline)
        self._seen.append((state.at, state.lsn))
        receiving = receiving and state.slot is not None and state.slot.active
        if receiving:  # a server that restarts has WAL at once that nobody else keeps
            self._pause_s = _FIRST_PAUSE_S
        if state.slot is not None and state.slot.flush_lsn is not None:
            received = max(received, state.slot.flush_lsn)  # a record may end with zeros, which the file does not tell
        if state.slot is not None and state.slot.status is WalStatus.LOST:
            self._begin_anew("the slot was lost: more than max_slot_wal_keep_size was not received")
        if receiving and received >= state.lsn:
            self._trouble = ""
        self._write(
            receiving=receiving,
            timeline=state.timeline,
            server_lsn=state.lsn,
            received_lsn=received,
            lag_bytes=max(0, state.lsn - received),
            lag_s=self._lag_s(state, received),
            retained_bytes=state.slot.retained_bytes if state.slot else 0,
            trouble=self._trouble,
        )

    def _lag_s(self, state: Cluster, received: int) -> float:
        """Return how old the newest moment is whose WAL is here."""
        if received >= state.lsn:
            return 0.0
        known = [at for at, lsn in self._seen if lsn <= received]
        return state.at - (known[-1] if known else self._seen[0][0])

    def _write(self, **changes: object) -> None:
        assert self._status is not None
        self._status = msgspec.structs.replace(
            self._status,
            at=self._clock.now(),
            restarts=max(0, self._restarts),
            shipped_lsn=self._shipped.get(self._status.timeline, 0),
            protected=self._watched.claim.protected,
            protected_at=self._watched.claim.at,
            protected_lsn=self._watched.claim.lsn,
            why=self._watched.claim.why,
            alarm=self._watched.claim.alarm,
            **changes,
        )
        try:
            FolderStore(self._how.directory).put(STATUS_FILE, msgspec.json.encode(self._status))
            self._unwritten = ""
        except BackoutError as error:
            if str(error) != self._unwritten:  # each second anew, else
                self._how.say(str(error))
            self._unwritten = str(error)

    def _begin_anew(self, why: str) -> None:
        """Receive from where the server still has WAL; what lies before that is a gap, which is named.

        A slot that is not lost keeps all that was not received: after the undo of a swap it came back with its server.
        Only a new base backup closes a gap.
        """
        self._end()
        self._restart_at = time.monotonic() + self._pause_s  # unless all of this succeeds
        try:
            state = self._origin.cluster.read()
            timeline = state.timeline  # not the one that was received last
            kept = [each.end_lsn for each in self._archive.segments() if each.timeline == timeline]
            received = max([*kept, self._find_received_end(timeline)])
            with self._moving:
                if not self._store_received():
                    return
            # Until Postgres 17 a lost slot may name a position again, whose WAL is gone.
            lost = state.slot is None or state.slot.status is WalStatus.LOST
            begins = None if lost else self._replication.restart_lsn()
            if begins is None:
                self._replication.drop_slot()
                self._replication.ensure_slot()
                begins = self._replication.restart_lsn() or 0
        except (BackoutError, OSError) as error:
            self._trouble = str(error)  # tried again when the receiver ends the next time
            return
        begins -= begins % self._segment_bytes  # the receiver asks for the whole segment
        if received and begins > received:  # of a timeline that was never received only a base says anything
            gap = WalGap(self._clock.now(), timeline, received, begins, why)
            add_gap(self._how.directory, gap)
            self._how.say(
                f"WAL from {show_lsn(received)} to {show_lsn(begins)} is lost ({why}): take a new base backup"
            )
        self._restart_at = 0.0

    def _store_received(self) -> bool:
        """Store everything that was received; return whether it is done.

        pg_receivewal goes on behind the newest segment in its folder, whatever the slot says.
        """
        self._ship(time.monotonic())
        for path in sorted(self._archive.incoming.glob(f"*{PARTIAL}")):
            self._archive.keep(path.name, path.read_bytes())
            path.unlink()
        left = [path for path in self._archive.incoming.iterdir() if is_segment(path.name)]
        return not any(path.stat().st_size == self._segment_bytes for path in left)  # it passes over any other length
