"""A database that can be fenced, in memory: roles, sessions, and an application that writes whenever it is let in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from msgspec.structs import replace

from backout.errors import Refused
from backout.model.database.fence import (
    FencedRole,
    FenceMark,
    FenceProof,
    FenceRefusal,
    FenceRole,
    FenceSurvey,
)
from backout.rules import SafetyRule

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.database.fence import FenceOrder

T = TypeVar("T")

OURS = "backout_admin"


class MakesCalls(Protocol):
    """Makes a call of a port: it may raise before the effect, or after it."""

    def __call__(self, name: str, effect: Callable[[], T]) -> T:
        """Return what the effect returns."""
        ...


def _ignore_text(_text: str) -> None:
    pass


@dataclass
class MemoryCluster:
    """A cluster: its roles, and what they have written.

    Attributes:
        mark: of the fence that stands in it.
        writes: (position, role) of each commit; a position is the number of commits before it.
    """

    roles: dict[str, FenceRole] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    mark: FenceMark | None = None
    writes: list[tuple[int, str]] = field(default_factory=list)
    prepared: list[str] = field(default_factory=list)
    jobs: dict[int, bool] = field(default_factory=dict)
    subscriptions: dict[str, bool] = field(default_factory=dict)

    def copy(self) -> MemoryCluster:
        """Return a copy that goes its own way."""
        return MemoryCluster(
            dict(self.roles),
            dict(self.comments),
            self.mark,
            list(self.writes),
            list(self.prepared),
            dict(self.jobs),
            dict(self.subscriptions),
        )


class MemoryFence:
    """Port Fence, and what an application does with its database.

    Args:
        now: the clock, in Unix seconds.
        call: makes a call of the port: it may raise before the effect, or after it.

    Attributes:
        live: the cluster at the application's address.
        copies: others, by connection string.
    """

    def __init__(self, now: Callable[[], float], call: MakesCalls) -> None:
        self._now = now
        self._call = call
        self.planned: tuple[str, ...] = ("app",)
        self.live = MemoryCluster({"app": FenceRole("app", login=True, writes="it owns the database")})
        self.copies: dict[str, MemoryCluster] = {}

    # --- what happens outside ---

    def write(self, role: str = "app") -> bool:
        """Write one row, as an application does that connects anew; return whether it was let in."""
        found = self.live.roles.get(role)
        if found is None or not found.login:
            return False
        self.live.writes.append((self.position(), role))
        return True

    def position(self) -> int:
        """Return the end of the live cluster's WAL."""
        return len(self.live.writes) + 1

    def swap(self, dsn: str, kept: str) -> None:
        """Put a copy at the application's address; the one that was there is a copy from now on."""
        self.live, self.copies[kept] = self.copies.pop(dsn), self.live

    # --- the port ---

    def survey(self) -> FenceSurvey:
        """Return the roles, and what stands against a fence."""
        return self._call("fence.survey", self._survey)

    def _survey(self) -> FenceSurvey:
        live = self.live
        return FenceSurvey(
            database="app",
            ours=OURS,
            roles=tuple(live.roles.values()),
            planned=self.planned,
            prepared=tuple(live.prepared),
            jobs=tuple(f"{each} (* * * * *)" for each, active in live.jobs.items() if active),
            subscriptions=tuple(name for name, enabled in live.subscriptions.items() if enabled),
            refusals=tuple(self._refusals()),
            by_hand=_make_line(tuple(FencedRole(name, login=True) for name in self.planned)),
            psql='psql "$DATABASE_ADMIN_URL"',
        )

    def _refusals(self) -> list[FenceRefusal]:
        fenced = () if self.live.mark is None else [each.name for each in self.live.mark.roles]
        found = []
        for role in self.live.roles.values():
            if role.name in self.planned and (role.is_superuser or role.elsewhere or role.is_ours or role.vendor):
                found.append(FenceRefusal(f"role {role.name} cannot be fenced", (f"CREATE ROLE {role.name}_only;",)))
            elif role.name not in (*self.planned, *fenced) and role.login and role.writes and not role.is_superuser:
                why = f"role {role.name} can log in and write"
                found.append(FenceRefusal(why, (f"ALTER ROLE {role.name} NOLOGIN;",)))
        if self.live.prepared:
            found.append(FenceRefusal(f"transaction {self.live.prepared[0]} is prepared"))
        return found

    def read(self) -> FenceMark | None:
        """Return the fence that stands."""
        return self._call("fence.read", lambda: None if self.live.mark is None else replace(self.live.mark, lsn=0))

    def raise_fence(self, order: FenceOrder, hear: Callable[[str], None] = _ignore_text) -> FenceMark:
        """Take LOGIN from the roles."""
        hear("the fence goes up")
        return self._call("fence.raise_fence", lambda: self._raise(order))

    def _raise(self, order: FenceOrder) -> FenceMark:
        self._refuse_other(order.run)
        if self.live.mark is None:
            if refusals := self._refusals():
                raise Refused(refusals[0].reason, where="memory", rule=SafetyRule.PREFLIGHT, options=refusals[0].script)
            mark = FenceMark(order.run, order.actor, "app", self._now(), order.deadline, ())
            _set_fence(self.live, mark, order.roles)
        assert self.live.mark is not None
        return replace(self.live.mark, lsn=self.position())

    def prove(
        self,
        since_lsn: int,
        quiet_s: float = 5.0,
        hear: Callable[[str], None] = _ignore_text,
    ) -> FenceProof:
        """Look whether anyone else has written since."""
        hear(f"watching for {quiet_s:g} s")
        return self._call("fence.prove", lambda: self._prove(since_lsn, quiet_s))

    def _prove(self, since_lsn: int, quiet_s: float) -> FenceProof:
        why = [f"transaction {each} is prepared" for each in self.live.prepared]
        if self.live.mark is None or any(self.live.roles[each.name].login for each in self.live.mark.roles):
            why.append("no fence stands")
        since = [role for position, role in self.live.writes if position >= since_lsn]
        if since:
            why.append(f"{len(since)} commits touched the database since")
        return FenceProof(not why, tuple(why), since_lsn, self.position(), quiet_s, commits=len(since))

    def set_in(self, dsn: str, mark: FenceMark) -> FenceMark:
        """Set the fence in a copy."""
        return self._call("fence.set_in", lambda: self._set_in(self.copies[dsn], mark))

    def _set_in(self, copy: MemoryCluster, mark: FenceMark) -> FenceMark:
        before = {} if copy.mark is None else {each.name: each for each in copy.mark.roles}
        names = {each.name for each in mark.roles} | {
            each.name for each in copy.roles.values() if each.login and each.writes and not each.is_superuser
        }
        _set_fence(copy, mark, tuple(sorted(names | before.keys())), before)
        assert copy.mark is not None
        return copy.mark

    def open(self, mark: FenceMark) -> None:
        """Give back what the roles had."""
        self._call("fence.open", lambda: self._open(mark))

    def _open(self, mark: FenceMark) -> None:
        self._refuse_other(mark.run)
        live, standing = self.live, self.live.mark
        if standing is None:
            return
        for each in standing.roles:
            found = live.roles[each.name]
            live.roles[each.name] = replace(found, login=each.login, connection_limit=each.connection_limit)
            if each.comment is not None:
                live.comments[each.name] = each.comment
            else:
                live.comments.pop(each.name, None)
        live.jobs.update(dict.fromkeys(standing.jobs, True))
        live.subscriptions.update(dict.fromkeys(standing.subscriptions, True))
        live.mark = None

    def _refuse_other(self, run: str) -> None:
        standing = self.live.mark
        if standing is not None and standing.run != run:
            what = f"the fence of run {standing.run} stands ({standing.actor})"
            raise Refused(what, where="memory", rule=SafetyRule.PREFLIGHT, options=("backout unfence",))


def _set_fence(
    cluster: MemoryCluster, mark: FenceMark, names: tuple[str, ...], before: dict[str, FencedRole] | None = None
) -> None:
    """Take LOGIN from the roles of these names, and keep what they had; `before`: what an earlier fence had kept."""
    kept = []
    for name in names:
        if (found := cluster.roles.get(name)) is not None:
            state = FencedRole(name, found.login, found.connection_limit, cluster.comments.get(name))
            kept.append((before or {}).get(name, state))
            cluster.roles[name] = replace(found, login=False)
            cluster.comments[name] = f"fenced by backout, run {mark.run}"
    earlier = cluster.mark
    jobs = (*(earlier.jobs if earlier else ()), *(each for each, active in cluster.jobs.items() if active))
    names_on = (*(earlier.subscriptions if earlier else ()), *(n for n, on in cluster.subscriptions.items() if on))
    cluster.jobs = dict.fromkeys(cluster.jobs, False)
    cluster.subscriptions = dict.fromkeys(cluster.subscriptions, False)
    roles = tuple(kept)
    cluster.mark = replace(mark, roles=roles, jobs=jobs, subscriptions=names_on, by_hand=_make_line(roles))


def _make_line(roles: tuple[FencedRole, ...]) -> str:
    lines = (f"ALTER ROLE {each.name} {'LOGIN' if each.login else 'NOLOGIN'};" for each in roles)
    return f'psql "$DATABASE_ADMIN_URL" -c "{" ".join(lines)}"'
