"""Ports VendorBackups and VendorCutover on Neon: a branch of the live one at an LSN, a moment, or from a snapshot.

Source: neon.com/docs/reference/api (2026-11): createProjectBranch (parent_lsn, parent_timestamp, endpoints),
restoreProjectBranch (source_branch_id, preserve_under_name), restoreSnapshot and finalizeRestoreBranch (beta),
getConnectionURI, getProjectOperation; "System operations": `finished`, `skipped` and `cancelled` are final, a `failed`
one may be tried again by Neon itself; a request beside a running operation gets 423. "Instant restore" and "History
window" (2026-12-01): only a root branch, which has no `parent_id`, is restored in place; history is kept for the
project's `history_retention_seconds`, on the free plan for 6 hours at most, and no more than 1 GB of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.errors import AuthError, BackoutError, ProviderRejected, ProviderUnavailable, Refused
from backout.model.clock import to_utc
from backout.model.database.branch import Finalized, SideBranch
from backout.model.database.capability import Granularity, VendorState, VendorWay
from backout.model.database.wal import parse_lsn, show_lsn
from backout.providers.clock import parse_unix_s
from backout.providers.exchange import quote_segment
from backout.providers.neon.answers import (
    Branch,
    Branches,
    Changed,
    Endpoints,
    Operation,
    OperationAnswer,
    ProjectAnswer,
    Snapshot,
    Snapshots,
    Uri,
    describe_history,
    find_earliest,
)
from backout.providers.vendor_api import Unknown

if TYPE_CHECKING:
    from backout.model.database.branch import BranchTarget
    from backout.providers.vendor_api import VendorApi

NEON_API: Final = "https://console.neon.tech/api/v2"
_POLL_S: Final = 1.0
_ENDED: Final = frozenset({"finished", "skipped"})
_PAGE: Final = "100"
_MOST_PAGES: Final = 200
_BRANCH_HINT: Final = "backout db branch list"
_INSTEAD: Final = (
    "Rescue the damaged rows from a side branch: the live branch stays.",
    "Point the application's connection string (or its Hyperdrive configuration) at the side branch.",
)


class NeonBranches:
    """The branches of one project.

    Args:
        project, live: ids at Neon (`live` may be the branch's name).
        patience_s: how long to wait for an operation.
    """

    def __init__(self, api: VendorApi, project: str, live: str, *, patience_s: float = 300.0) -> None:
        self._api = api
        self._project = f"projects/{quote_segment(project)}"
        self._live = live
        self._patience_s = patience_s

    def capabilities(self) -> VendorState:
        """Return what the project offers: branches within its restore window, and its snapshots."""
        try:
            project = self._api.get(self._project, ProjectAnswer).project
            live = self._live_one(self._all())
        except BackoutError as error:
            return VendorState(
                "neon", answers=not isinstance(error, AuthError | ProviderUnavailable), problem=str(error)
            )
        now = self._api.clock.now()
        earliest = find_earliest(project, live, now)
        window = "" if project.history_retention_seconds else "the project keeps no history"
        kept = describe_history(project)
        ways = [
            VendorWay(
                "branch at a moment",
                Granularity.LSN,
                in_place=False,
                keeps_old=True,
                earliest=earliest,
                latest=now,
                missing=window,
                note=f"the live branch stays as it is until you finalize; {kept}",
            ),
            VendorWay(
                "branch put in place",
                Granularity.LSN,
                in_place=True,
                keeps_old=True,
                earliest=earliest,
                latest=now,
                missing=window or self._explain_child(live),
                note="the old state stays as a branch under a name",
            ),
            self._snapshot_way(live.id),
        ]
        return VendorState("neon", answers=True, ways=tuple(ways))

    def branches(self) -> tuple[SideBranch, ...]:
        """Return all branches, newest first."""
        found = self._all()
        live = self._live_one(found).id
        return tuple(
            sorted((self._describe_branch(each, live) for each in found), key=lambda b: b.created_at, reverse=True)
        )

    def restore(self, target: BranchTarget, name: str) -> SideBranch:
        """Make a branch of that name; one that is there already is returned.

        Raises:
            Refused: the moment is out of the window, or no such snapshot.
        """
        there = self._find_by_name(name)
        if there is None:
            self._check(target)
            there = self._make_branch(target, name)
        return self._connectable(there)

    def url(self, branch: SideBranch, database: str, role: str) -> str:
        """Return the connection string, not through Neon's pooler."""
        query = {"branch_id": branch.id, "database_name": database, "role_name": role, "pooled": "false"}
        return self._api.get(f"{self._project}/connection_uri", Uri, query).uri

    def hosts(self) -> frozenset[str]:
        """Return the hosts of the live branch's computes."""
        path = f"{self._project}/branches/{quote_segment(self._live_one(self._all()).id)}/endpoints"
        return frozenset(each.host for each in self._api.get(path, Endpoints).endpoints if each.host)

    def finalize(self, branch: SideBranch, keep_as: str) -> Finalized:
        """Put the branch's content into the live one's place; the old state stays as a branch named `keep_as`.

        A branch from a snapshot takes over the live one's computes and name; another one's head is restored into the
        live branch, whose endpoint stays the same. Either way the computes restart.

        Raises:
            Refused: the live branch is no root branch, which alone can be restored in place.
            ProviderRejected: Neon says no, or the live branch is not there.
            ProviderUnavailable: Neon does not answer, or afterwards does not show the branches as they should be.
        """
        before = self._live_one(self._all())
        if self._find_by_name(keep_as) is None:
            if why := self._explain_child(before):
                raise Refused(why, where=branch.name, options=_INSTEAD)
            if branch.from_snapshot:
                path, body = f"branches/{quote_segment(branch.id)}/finalize_restore", {"name": keep_as}
            else:
                path = f"branches/{quote_segment(before.id)}/restore"
                body = {"source_branch_id": branch.id, "preserve_under_name": keep_as}
            self._change(path, body, keep_as)
        found = self._all()
        kept = next((each for each in found if each.name == keep_as), None)
        # From a snapshot the new branch takes over; otherwise the live one stays and gets the content.
        takes_over = branch.from_snapshot or (kept is not None and kept.id == before.id)
        live = next((each for each in found if each.id == (branch.id if takes_over else before.id)), None)
        if kept is None or live is None:
            text = "Neon answered, but does not show the branches as they should be now"
            raise ProviderUnavailable(text, where=branch.name, hint=_BRANCH_HINT)
        return Finalized(self._describe_branch(live, live.id), self._describe_branch(kept, live.id))

    def delete(self, branch: SideBranch) -> None:
        """Delete a branch and its computes. Raises Refused for the live one."""
        if branch.live or branch.id == self._live_one(self._all()).id:
            raise Refused("this is the live branch: it is never deleted from here", where=branch.name)
        self._api.delete(f"{self._project}/branches/{quote_segment(branch.id)}")

    # --- reading ----------------------------------------------------------------------------------------------------

    def _all(self) -> tuple[Branch, ...]:
        found: list[Branch] = []
        query = {"limit": _PAGE}
        for _ in range(_MOST_PAGES):
            page = self._api.get(f"{self._project}/branches", Branches, query)
            found += page.branches
            cursor = page.pagination.next if page.pagination else None
            if not cursor or not page.branches:
                return tuple(found)
            query = {"limit": _PAGE, "cursor": cursor}
        raise ProviderUnavailable("Neon's list of branches does not end", where=self._project)

    def _live_one(self, found: tuple[Branch, ...]) -> Branch:
        for each in found:
            if self._live in (each.id, each.name):
                return each
        names = ", ".join(each.name for each in found[:5])
        text = f"Neon has no branch {self._live!r} in this project"
        raise ProviderRejected(text, status=404, where="database.managed.branch", hint=f"one of: {names}")

    def _find_by_name(self, name: str) -> Branch | None:
        return next((each for each in self._all() if each.name == name), None)

    def _snapshots(self, live: str) -> tuple[Snapshot, ...]:
        found = self._api.get(f"{self._project}/snapshots", Snapshots).snapshots
        return tuple(s for s in found if s.source_branch_id in (live, None))

    def _snapshot_way(self, live: str) -> VendorWay:
        name = "snapshot (beta)"
        try:
            times = [parse_unix_s(each.created_at) for each in self._snapshots(live)]
        except BackoutError as error:
            return VendorWay(name, Granularity.SNAPSHOT, in_place=False, keeps_old=True, missing=error.what)
        return VendorWay(
            name,
            Granularity.SNAPSHOT,
            in_place=False,
            keeps_old=True,
            earliest=min(times, default=None),
            latest=max(times, default=None),
            missing="" if times else "there is no snapshot of the live branch",
        )

    def _explain_child(self, live: Branch) -> str:
        """Return why nothing can be put in the live branch's place, "" for a root branch."""
        if not live.parent_id:
            return ""
        return f"{live.name} is a child branch (of {live.parent_id}), and Neon restores root branches alone in place"

    def _check(self, target: BranchTarget) -> None:
        """Refuse what Neon would refuse, with the window in the words."""
        if target.at is not None:
            project = self._api.get(self._project, ProjectAnswer).project
            now = self._api.clock.now()
            earliest = find_earliest(project, self._live_one(self._all()), now)
            if not earliest <= target.at <= now:
                raise Refused(
                    (
                        f"{_format_iso(target.at)} is out of the vendor's window: {_format_iso(earliest)} to "
                        f"{_format_iso(now)}"
                    ),
                    where="neon",
                    hint="backout db check",
                )
        if target.snapshot is not None:
            known = self._snapshots(self._live_one(self._all()).id)
            if target.snapshot not in [each.id for each in known]:
                names = ", ".join(f"{each.id} ({each.created_at})" for each in known) or "there is none"
                raise Refused(f"no snapshot {target.snapshot!r} of the live branch", where="neon", hint=names)

    def _describe_branch(self, found: Branch, live: str) -> SideBranch:
        return SideBranch(
            id=found.id,
            name=found.name,
            ready=found.current_state == "ready",
            created_at=parse_unix_s(found.created_at),
            live=found.id == live,
            source=found.restored_from or found.parent_id or "",
            at=parse_unix_s(found.parent_timestamp) if found.parent_timestamp else None,
            lsn=_parse_lsn(found.parent_lsn),
            from_snapshot=found.restored_from is not None and found.restore_status != "finalized",
        )

    # --- changing ---------------------------------------------------------------------------------------------------

    def _make_branch(self, target: BranchTarget, name: str) -> Branch:
        live = self._live_one(self._all()).id
        if target.snapshot is not None:
            path = f"snapshots/{quote_segment(target.snapshot)}/restore"
            body: dict[str, object] = {"name": name, "target_branch_id": live, "finalize_restore": False}
        else:
            path = "branches"
            branch = {"name": name, "parent_id": live}
            if target.lsn is not None:
                branch["parent_lsn"] = show_lsn(target.lsn)
            elif target.at is not None:
                branch["parent_timestamp"] = _format_iso(target.at)
            body = {"branch": branch, "endpoints": [{"type": "read_write"}]}
        self._change(path, body, name)
        made = self._find_by_name(name)
        if made is None:
            raise ProviderUnavailable("Neon answered, but shows no such branch", where=name, hint=_BRANCH_HINT)
        return made

    def _change(self, path: str, body: object, name: str) -> None:
        """Send a change that ends with a branch of that name, and wait for its operations; never send it twice."""
        try:
            changed = self._api.post(f"{self._project}/{path}", body, Changed)
        except Unknown:
            until = self._api.clock.now() + 10 * _POLL_S
            while self._find_by_name(name) is None:
                if self._api.clock.now() >= until:
                    raise
                self._api.clock.sleep(_POLL_S)
            return
        for operation in changed.operations:
            self._wait(operation)

    def _wait(self, operation: Operation) -> None:
        until = self._api.clock.now() + self._patience_s
        path = f"{self._project}/operations/{quote_segment(operation.id)}"
        while operation.status not in _ENDED:
            if operation.status == "cancelled" or self._api.clock.now() >= until:
                text = (
                    f"Neon's operation {operation.action} is {operation.status}: {operation.error or 'no reason given'}"
                )
                raise ProviderUnavailable(text, where=operation.id, hint=_BRANCH_HINT)
            self._api.clock.sleep(_POLL_S)
            operation = self._api.get(path, OperationAnswer).operation

    def _connectable(self, found: Branch) -> SideBranch:
        """Return the branch once it is ready and has a compute (one from a snapshot begins without)."""
        until = self._api.clock.now() + self._patience_s
        while found.current_state != "ready":
            if self._api.clock.now() >= until:
                text = f"the branch is still {found.current_state} after {self._patience_s:.0f} s"
                raise ProviderUnavailable(text, where=found.name, hint=_BRANCH_HINT)
            self._api.clock.sleep(_POLL_S)
            found = self._find_by_name(found.name) or found
        path = f"{self._project}/branches/{quote_segment(found.id)}/endpoints"
        if not self._api.get(path, Endpoints).endpoints:
            body = {"endpoint": {"branch_id": found.id, "type": "read_write"}}
            try:
                made = self._api.post(f"{self._project}/endpoints", body, Changed)
            except Unknown:
                if not self._api.get(path, Endpoints).endpoints:
                    raise
            else:
                for operation in made.operations:
                    self._wait(operation)
        return self._describe_branch(found, self._live_one(self._all()).id)


def _parse_lsn(text: str | None) -> int | None:
    try:
        return parse_lsn(text) if text else None
    except ValueError:
        return None


def _format_iso(at: float) -> str:
    return to_utc(at).isoformat(timespec="microseconds").replace("+00:00", "Z")
