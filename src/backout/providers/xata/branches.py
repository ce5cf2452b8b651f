"""Ports VendorBackups and VendorCutover on Xata: a new branch from the backup of the live one, without a moment.

Source: xataio/xata, openapi/projects.yaml (2026-04-27): listBackups, restoreFromBackup ("Create a new branch from a
backup of another branch"), listBranches, describeBranch, getBranchCredentials, deleteBranch. RestoreDetails has no
timestamp: a restore goes to the newest that the backup has. These calls are marked x-internal, so an account may not
have them; `capabilities` asks. No command of Xata's takes a timestamp either: `xata db restore --to-timestamp` does
not exist.
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
    from backout.model.database.branch import BranchTarget, Finalized
    from backout.providers.vendor_api import VendorApi

XATA_API: Final = "https://api.xata.tech"
NO_MOMENT: Final = "Xata's API takes no moment: a restore goes to the newest that the backup has"
NO_COMMAND: Final = "`xata db restore --to-timestamp` does not exist, in no version of Xata's command line"
_POLL_S: Final = 2.0
_HEALTHY: Final = "STATUS_TYPE_HEALTHY"
_FAULT: Final = "STATUS_TYPE_FAULT"
_BRANCH_HINT: Final = "backout db branch list"


class _Status(msgspec.Struct, rename={"kind": "statusType"}):
    status: str = ""
    kind: str = "STATUS_TYPE_UNSPECIFIED"


class _Branch(msgspec.Struct, rename="camel"):
    id: str
    name: str
    created_at: str = ""
    parent: str | None = msgspec.field(default=None, name="parentID")
    backups_enabled: bool = False
    connection_string: str | None = None
    status: _Status | None = None


class _Branches(msgspec.Struct):
    branches: tuple[_Branch, ...]


class _Backup(msgspec.Struct, rename="camel"):
    id: str
    branch: str = msgspec.field(name="branchID")
    earliest_restore: str | None = None
    latest_restore: str | None = None


class _Backups(msgspec.Struct):
    backups: tuple[_Backup, ...]


class _Credentials(msgspec.Struct):
    username: str
    password: str


class XataBranches:
    """The branches of one project.

    Args:
        organization, project: ids at Xata.
        live: id or name of the live branch.
        patience_s: how long a new branch is waited for.
    """

    def __init__(
        self, api: VendorApi, organization: str, project: str, live: str, *, patience_s: float = 900.0
    ) -> None:
        self._api = api
        self._path = f"organizations/{quote_segment(organization)}/projects/{quote_segment(project)}"
        self._live = live
        self._patience_s = patience_s

    def capabilities(self) -> VendorState:
        """Return whether the live branch has a backup, and what it reaches."""
        notes = (NO_MOMENT, NO_COMMAND)
        try:
            live = self._live_one()
        except BackoutError as error:
            answers = not isinstance(error, AuthError | ProviderUnavailable)
            return VendorState("xata", answers=answers, problem=str(error), notes=notes)
        earliest = latest = None
        missing = "" if live.backups_enabled else "backups are not enabled for the live branch"
        try:
            backup = self._backup(live.id)
        except ProviderRejected as error:
            missing = f"the API's backup calls, which Xata marks as internal, are closed: {error.what}"
        except (AuthError, ProviderUnavailable) as error:
            missing = error.what
        else:
            if backup is None:
                missing = missing or "the live branch has no backup yet"
            else:
                missing = ""
                earliest = parse_unix_s(backup.earliest_restore) if backup.earliest_restore else None
                latest = parse_unix_s(backup.latest_restore) if backup.latest_restore else None
        # Only the newest state can be had, whatever earliestRestore says.
        way = VendorWay(
            "branch from the backup",
            Granularity.SNAPSHOT,
            in_place=False,
            keeps_old=True,
            earliest=latest or earliest,
            latest=latest,
            missing=missing,
            note=NO_MOMENT,
        )
        return VendorState("xata", answers=True, ways=(way,), notes=notes)

    def branches(self) -> tuple[SideBranch, ...]:
        """Return all branches, newest first; whether one is ready is asked for each."""
        found = self._all()
        shown = (self._describe_branch(self._detail(each.id), self._live_of(found).id) for each in found)
        return tuple(sorted(shown, key=lambda branch: branch.created_at, reverse=True))

    def restore(self, target: BranchTarget, name: str) -> SideBranch:
        """Make a branch of that name from the live one's backup; one that is there already is returned.

        Raises:
            Refused: a moment, an LSN or a snapshot was asked for, or there is no backup.
        """
        if target.at is not None or target.lsn is not None or target.snapshot is not None:
            hint = "leave --at out for the newest state, or restore from backout's own dumps: backout db dumps list"
            raise Refused(NO_MOMENT, where="xata", hint=hint)
        there = self._find_by_name(name)
        if there is None:
            there = self._make_branch(name)
        return self._ready(there)

    def url(self, branch: SideBranch, database: str, role: str) -> str:
        """Return the connection string, with the role's password from the API where it has none.

        Raises:
            ProviderUnavailable: Xata does not answer, or gives none.
        """
        parts = _split_parts(self._detail(branch.id))
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

    def _backup(self, branch: str) -> _Backup | None:
        found = self._api.get(f"{self._path}/backups", _Backups).backups
        return next((each for each in found if each.branch == branch), None)

    def _make_branch(self, name: str) -> _Branch:
        live = self._live_one()
        if self._backup(live.id) is None:
            raise Refused("the live branch has no backup yet", where="xata", hint="backout db check")
        body = {"name": name, "description": "Restored by backout"}
        try:
            return self._api.post(f"{self._path}/branches/{quote_segment(live.id)}/restore", body, _Branch)
        except Unknown:
            until = self._api.clock.now() + 10 * _POLL_S
            while (there := self._find_by_name(name)) is None:
                if self._api.clock.now() >= until:
                    raise
                self._api.clock.sleep(_POLL_S)
            return there

    def _ready(self, found: _Branch) -> SideBranch:
        until = self._api.clock.now() + self._patience_s
        live = self._live_one().id
        while True:
            found = self._detail(found.id)
            status = found.status or _Status()
            if status.kind == _HEALTHY:
                return self._describe_branch(found, live)
            if status.kind == _FAULT or self._api.clock.now() >= until:
                text = f"the branch is not ready: {status.status or status.kind}"
                raise ProviderUnavailable(text, where=found.name, hint=_BRANCH_HINT)
            self._api.clock.sleep(_POLL_S)

    def _describe_branch(self, found: _Branch, live: str) -> SideBranch:
        return SideBranch(
            id=found.id,
            name=found.name,
            ready=found.status is not None and found.status.kind == _HEALTHY,
            created_at=parse_unix_s(found.created_at),
            live=found.id == live,
            source=found.parent or "",
        )


def _split_parts(found: _Branch) -> SplitResult | None:
    """Return a branch's connection string in parts, None where there is no readable one."""
    try:
        return urlsplit(found.connection_string) if found.connection_string else None
    except ValueError:
        return None
