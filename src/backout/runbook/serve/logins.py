"""Logins and tokens, kept in the journal: offered once, started, ended, revoked; all of it stands in the audit log.

The rule: a secret is drawn here, given out once and never kept; the journal has its SHA-256, which 256 random bits make
as good as the secret is long.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from backout.decoding import Undecodable, decode_values
from backout.errors import Refused, UsageError
from backout.model import login as events
from backout.model.login import NOWHERE, PREFIX, Login, Permission
from backout.model.person import ON_BEHALF_OF, find_person
from backout.model.value import Value
from backout.runbook.serve.new_events import NewEvents

if TYPE_CHECKING:
    from backout.model.incident.incident import Event
    from backout.model.plan import Json
    from backout.ports import Clock, Journal

OFFER_S: Final = 300.0
"""How long a one-time URL can be used."""
SESSION_S: Final = 12 * 3600.0
"""How long a login in a browser lasts: a shift."""
LONGEST_S: Final = 365 * 86_400.0
"""No token counts for longer."""
_FRESH_S: Final = 1.0
"""So long a token that was revoked by another process may still count."""
_KINDS: Final = (events.OFFERED, events.STARTED, events.ENDED, events.ISSUED, events.REVOKED)
_BYTES: Final = 32
_ID: Final = 12


class _Granted(Value, frozen=True):
    key: str
    name: str
    role: Permission
    expires_at: float
    environments: tuple[str, ...] = ()
    via: str = "token"


def hash_secret(secret: str) -> str:
    """Return the SHA-256 of a secret, as hexadecimal digits."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Logins:
    """The logins of one journal; for several threads.

    Args:
        actor: who records what happens here.
        pages_role: the role of the journal's database with which the pages write, "" for none: no login is a person's.
    """

    def __init__(self, journal: Journal, clock: Clock, *, actor: str, pages_role: str = "") -> None:
        self._journal, self._clock, self._actor, self._pages_role = journal, clock, actor, pages_role
        self._lock = threading.Lock()
        self._events = NewEvents(journal, NOWHERE, _KINDS)
        self._read_at = float("-inf")
        self._offers: dict[str, Login] = {}
        self._granted: dict[str, Login] = {}
        self._ended: set[str] = set()

    def offer(self, name: str, role: Permission, environments: tuple[str, ...] = ()) -> str:
        """Return the secret of a one-time URL, which counts for `OFFER_S` seconds."""
        until = self._clock.now() + OFFER_S
        return self._grant(events.OFFERED, Login("", name, role, environments, until, "url"))

    def is_offered(self, secret: str) -> bool:
        """Whether there is a one-time URL with this secret that is not too old; it may have been used."""
        self._refresh(_FRESH_S if hash_secret(secret) in self._offers else 0.0)
        offered = self._offers.get(hash_secret(secret))
        return offered is not None and self._clock.now() <= offered.expires_at

    def use_offer(self, secret: str, *, keeps_s: float = SESSION_S) -> tuple[str, Login]:
        """Return the secret of the session that a one-time URL begins, and its login.

        Raises:
            Refused: there is no such URL, it was used, or it is too old.
        """
        self._refresh()
        key = hash_secret(secret)
        offered = self._offers.get(key)
        if offered is None or offered.expires_at < self._clock.now():
            raise _refuse_offer("there is no such login, or it is too old")
        if self._journal.note(NOWHERE, events.USED, key, {"name": offered.name}, actor=self._actor) is None:
            raise _refuse_offer("this login was used already")
        return self.start_session(replace(offered, expires_at=self._clock.now() + keeps_s))

    def start_session(self, login: Login) -> tuple[str, Login]:
        """Return the secret of a new session of a login, and the login with the session's id."""
        secret = self._grant(events.STARTED, login)
        return secret, replace(login, id=hash_secret(secret)[:_ID])

    def issue(self, name: str, role: Permission, environments: tuple[str, ...], lasts_s: float) -> tuple[str, Login]:
        """Return a new token and what it may. Raises UsageError: it would last too long, or not at all."""
        if not 0 < lasts_s <= LONGEST_S:
            raise UsageError(
                "a token lasts between a second and a year",
                where="--expires",
                hint="backout serve token create NAME --expires 90d",
            )
        login = Login("", name, role, environments, self._clock.now() + lasts_s, "token")
        secret = self._grant(events.ISSUED, login)
        return secret, replace(login, id=hash_secret(secret)[:_ID])

    def end(self, login: Login) -> None:
        """End a session, or revoke a token. Raises UsageError: it is not known."""
        self._refresh()
        known = self._granted.items()
        key = next((key for key, each in known if each.id == login.id and self._counts(key, each)), None)
        if key is None:
            raise UsageError("there is no such token, or it is over", where=login.id, hint="backout serve token list")
        kind = events.REVOKED if login.via == "token" else events.ENDED
        self._journal.note(NOWHERE, kind, key, {"name": login.name}, actor=self._actor)
        with self._lock:
            self._ended.add(key)  # at once here, and elsewhere when that is read

    def find(self, secret: str) -> Login | None:
        """Return the login of a session or a token that counts now, None: there is none."""
        if not secret.startswith(PREFIX):
            return None
        key = hash_secret(secret)
        self._refresh(_FRESH_S if key in self._granted else 0.0)
        found = self._granted.get(key)
        return found if found is not None and self._counts(key, found) else None

    def list_tokens(self) -> tuple[Login, ...]:
        """Return the tokens that count now, oldest first."""
        self._refresh()
        return tuple(each for key, each in self._granted.items() if each.via == "token" and self._counts(key, each))

    def _counts(self, key: str, login: Login) -> bool:
        return key not in self._ended and self._clock.now() < login.expires_at

    def _grant(self, kind: str, login: Login) -> str:
        secret = PREFIX + secrets.token_urlsafe(_BYTES)
        data: dict[str, Json] = {
            "name": login.name,
            "role": str(login.role),
            "environments": list(login.environments),
            "expires_at": login.expires_at,
            "via": login.via,
            ON_BEHALF_OF: login.person,
        }
        self._journal.note(NOWHERE, kind, hash_secret(secret), data, actor=self._actor)
        return secret

    def _refresh(self, within_s: float = 0.0) -> None:
        """Read what was recorded since the last time, by whichever process, where that was longer ago.

        Whoever waited meanwhile for somebody else to read, what began after they came, reads nothing again: any number
        of strangers with secrets that are none costs one look at a time.
        """
        came_at = time.monotonic()
        with self._lock:
            if self._read_at > came_at - within_s:
                return
            began_at = time.monotonic()
            for event in self._events.read():
                self._take(event)
            self._read_at = began_at

    def _take(self, event: Event) -> None:
        key = str(event.data.get("key", ""))
        if event.kind in (events.ENDED, events.REVOKED):
            self._ended.add(key)
        else:
            try:
                made = decode_values(event.data, _Granted)
            except Undecodable:
                return
            person = find_person(event, self._pages_role) if self._pages_role else ""
            person = "" if person == self._pages_role else person  # of one that the pages themselves offer nobody knows
            login = Login(key[:_ID], made.name, made.role, made.environments, made.expires_at, made.via, person)
            (self._offers if event.kind == events.OFFERED else self._granted)[key] = login


def _refuse_offer(what: str) -> Refused:
    return Refused(what, where="login", hint="backout serve login")
