"""Ports VendorBackups and VendorCutover on Xata: a new branch is a copy of another one as it is now, without a moment.

Source: xataio/xata, openapi/projects.yaml (2026-04-27): createBranch (mode `inherit`, `parentID`), listBranches,
describeBranch, updateBranch (`hibernate`), getBranchCredentials, deleteBranch. Not used are listBackups and
restoreFromBackup, which are marked x-internal there and take no time either; `xata db restore --to-timestamp` does not
exist. Xata's documentation, "Branch" and "Scale to Zero" (2026-12-01): a branch has its parent's schema and data at the
moment of its creation; a hibernated branch refuses connections, which wake it only where scale to zero is on
(services/gateway/session/cluster_dialer.go).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

import msgspec

from backout.errors import AuthError, BackoutError, ProviderRejected, ProviderUnavailable, Refused
from backout.model.database.branch import SideBranch
from backout.model.database.capability import Granularity, VendorState, VendorWay
from backout.providers.clock import parse_unix_s
from backout.providers.exchange import quote_segment
from backout.providers.vendor_api import Unknown

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.database.branch import BranchTarget, Finalized
    from backout.providers.vendor_api import VendorApi

XATA_API: Final = "https://api.xata.tech"
NO_MOMENT: Final = "Xata's API takes no moment: a branch is a copy of what its parent is now, or of a restore point"
NO_COMMAND: Final = "`xata db restore --to-timestamp` does not exist, in no version of Xata's command line"
_POLL_S: Final = 2.0
_HEALTHY: Final = "STATUS_TYPE_HEALTHY"
_FAULT: Final = "STATUS_TYPE_FAULT"
_HIBERNATED: Final = "STATUS_TYPE_HIBERNATED"
_BRANCH_HINT: Final = "backout db branch list"


class _Status(msgspec.Struct, rename={"kind": "statusType"}):
    status: str = ""
    kind: str = "STATUS_TYPE_UNSPECIFIED"


class _Branch(msgspec.Struct, rename="camel"):
    id: str
    name: str
    created_at: str = ""
    parent: str | None = msgspec.field(default=None, name="parentID")
    connection_string: str | None = None
    status: _Status | None = None


class _Branches(msgspec.Struct):
    branches: tuple[_Branch, ...]


class _Credentials(msgspec.Struct):
    username: str
    password: str


class XataBranches:
    """The branches of one project.

    Args:
        organization, project: ids at Xata.
        live: id or name of the live branch.
        patience_s: how long a new branch is waited for.
        say: hears what is done beside what was asked for.
    """

    def __init__(
        self,
        api: VendorApi,
        organization: str,
        project: str,
        live: str,
        *,
        patience_s: float = 900.0,
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._api = api
        self._path = f"organizations/{quote_segment(organization)}/projects/{quote_segment(project)}"
        self._live = live
        self._patience_s = patience_s
        self._say = say

    def capabilities(self) -> VendorState:
        """Return the restore points that branches keep: nothing else can be gone back to."""
        notes: tuple[str, ...] = (NO_MOMENT, NO_COMMAND)
        try:
            found = self._all()
            live = self._detail(self._live_of(found).id)
        except BackoutError as error:
            answers = not isinstance(error, AuthError | ProviderUnavailable)
            return VendorState("xata", answers=answers, problem=str(error), notes=notes)
        if _get_kind(live) == _HIBERNATED:
            notes = (*notes, f"the live branch {live.name} is hibernated, which is no fault: it is woken to be copied")
        kept = [parse_unix_s(each.created_at) for each in found if self._describe_branch(each, live.id).keeps_point]
        way = VendorWay(
            "branch that keeps a restore point",
            Granularity.SNAPSHOT,
            in_place=False,
            keeps_old=True,
            earliest=min(kept, default=None),
            latest=max(kept, default=None),
            missing="" if kept else "no branch keeps a restore point yet",
            line="" if kept else "backout db points add NAME",
            note=NO_MOMENT,
        )
        return VendorState("xata", answers=True, ways=(way,), notes=notes)

    def branches(self) -> tuple[SideBranch, ...]:
        """Return all branches, newest first; whether one is ready or hibernated is asked for each."""
        found = self._all()
        shown = (self._describe_branch(self._detail(each.id), self._live_of(found).id) for each in found)
        return tuple(sorted(shown, key=lambda branch: branch.created_at, reverse=True))

    def restore(self, target: BranchTarget, name: str) -> SideBranch:
        """Make a branch of that name: of the live one as it is, or of one that keeps a restore point.

        One that is there already is returned. A hibernated parent is woken first: it could not be copied.

        Raises:
            Refused: a moment or an LSN was asked for, or there is no such branch.
        """
        if target.at is not None or target.lsn is not None:
            hint = "leave --at out for what is live now, or restore from backout's own dumps: backout db dumps list"
            raise Refused(NO_MOMENT, where="xata", hint=hint)
        there = self._find_by_name(name)
        if there is None:
            there = self._make_branch(self._find_parent(target), name)
        return self._ready(there)

    def url(self, branch: SideBranch, database: str, role: str) -> str:
        """Return the connection string, with the role's password from the API where it has none; wakes the branch.

        Raises:
            ProviderUnavailable: Xata does not answer, or gives none.
        """
        found = self._detail(branch.id)
        if _get_kind(found) == _HIBERNATED:
            self._ready(found)
        parts = _split_parts(found)
        if parts is None:
            raise ProviderUnavailable("Xata gives no connection string for the branch", where=branch.name)
        if not parts.password or (role and parts.username != role):
            query = {"username": role} if role else None
            given = self._api.get(f"{self._path}/branches/{quote_segment(branch.id)}/credentials", _Credentials, query)
            user = f"{quote(given.username, safe='')}:{quote(given.password, safe='')}"
            parts = parts._replace(netloc=f"{user}@{parts.netloc.rpartition('@')[2]}")
        return urlunsplit(parts._replace(path=f"/{quote(database, safe='')}") if database else parts)

    def hosts(self) -> frozenset[str]:
        """Return the host in the live branch's connection string."""
        parts = _split_parts(self._detail(self._live_one().id))
        return frozenset({parts.hostname} if parts and parts.hostname else ())

    def finalize(self, branch: SideBranch, keep_as: str) -> Finalized:  # noqa: ARG002 - the port's
        """Refuse: no call of Xata's puts a branch into another one's place."""
        self._no_call(branch)

    def delete(self, branch: SideBranch) -> None:
        """Delete a branch. Raises Refused for the live one."""
        if branch.live or branch.id == self._live_one().id:
            raise Refused("this is the live branch: it is never deleted from here", where=branch.name)
        self._api.delete(f"{self._path}/branches/{quote_segment(branch.id)}")

    def _no_call(self, branch: SideBranch) -> NoReturn:
        raise Refused(
            "Xata has no call that puts a branch into the live one's place",
            where=branch.name,
            options=(
                "Rescue the damaged rows from the side branch into the live one.",
                "Point the application's connection string (or its Hyperdrive configuration) at the side branch.",
            ),
        )

    def _all(self) -> tuple[_Branch, ...]:
        return self._api.get(f"{self._path}/branches", _Branches).branches

    def _detail(self, branch: str) -> _Branch:
        return self._api.get(f"{self._path}/branches/{quote_segment(branch)}", _Branch)

    def _find_by_name(self, name: str) -> _Branch | None:
        return next((each for each in self._all() if each.name == name), None)

    def _live_one(self) -> _Branch:
        return self._live_of(self._all())

    def _live_of(self, found: tuple[_Branch, ...]) -> _Branch:
        for each in found:
            if self._live in (each.id, each.name):
                return each
        names = ", ".join(each.name for each in found[:5])
        text = f"Xata has no branch {self._live!r} in this project"
        raise ProviderRejected(text, status=404, where="database.managed.branch", hint=f"one of: {names}")

    def _find_parent(self, target: BranchTarget) -> _Branch:
        found = self._all()
        live = self._live_of(found)
        if target.snapshot is None:
            return live
        kept = [each for each in found if self._describe_branch(each, live.id).keeps_point]
        parent = next((each for each in kept if each.id == target.snapshot), None)
        if parent is None:
            names = ", ".join(f"{each.id} ({each.name})" for each in kept) or "there is none"
            raise Refused(f"no branch {target.snapshot!r} keeps a restore point", where="xata", hint=names)
        return parent

    def _make_branch(self, parent: _Branch, name: str) -> _Branch:
        self._ready(parent)
        body = {"name": name, "description": "Made by backout", "mode": "inherit", "parentID": parent.id}
        try:
            return self._api.post(f"{self._path}/branches", body, _Branch)
        except Unknown:
            until = self._api.clock.now() + 10 * _POLL_S
            while (there := self._find_by_name(name)) is None:
                if self._api.clock.now() >= until:
                    raise
                self._api.clock.sleep(_POLL_S)
            return there

    def _ready(self, found: _Branch) -> SideBranch:
        """Return a branch once it takes connections; one that is hibernated is woken, once."""
        until = self._api.clock.now() + self._patience_s
        live, is_woken = self._live_one().id, False
        while True:
            found = self._detail(found.id)
            kind = _get_kind(found)
            if kind == _HEALTHY:
                return self._describe_branch(found, live)
            if kind == _HIBERNATED and not is_woken:
                self._say(f"branch {found.name} is hibernated: waking it")
                path = f"{self._path}/branches/{quote_segment(found.id)}"
                self._api.patch(path, {"hibernate": False}, _Branch)
                is_woken = True
            if kind == _FAULT or self._api.clock.now() >= until:
                text = f"the branch is not ready: {found.status.status if found.status else kind}"
                raise ProviderUnavailable(text, where=found.name, hint=_BRANCH_HINT)
            self._api.clock.sleep(_POLL_S)

    def _describe_branch(self, found: _Branch, live: str) -> SideBranch:
        return SideBranch(
            id=found.id,
            name=found.name,
            ready=_get_kind(found) == _HEALTHY,
            hibernated=_get_kind(found) == _HIBERNATED,
            created_at=parse_unix_s(found.created_at),
            live=found.id == live,
            source=found.parent or "",
            from_snapshot=found.parent not in (None, "", live),
        )


def _get_kind(found: _Branch) -> str:
    return found.status.kind if found.status is not None else _Status().kind


def _split_parts(found: _Branch) -> SplitResult | None:
    """Return a branch's connection string in parts, None where there is no readable one."""
    try:
        return urlsplit(found.connection_string) if found.connection_string else None
    except ValueError:
        return None
