"""First contact: some fifty harmless calls on things made for them, to see whether the API answers as expected.

The Worker answers with its own version id, gets no visitors but these calls', and is always deleted at the end, as are
a queue and a Hyperdrive configuration. Nothing else in the account is touched; only its workers.dev subdomain and the
lists of its Workers and queues are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.errors import AuthError, PartlyDone, ProviderUnavailable, Refused
from backout.model.conformance import Observation
from backout.providers.cloudflare.conformance.deploying import Deploying
from backout.providers.cloudflare.conformance.objects import Objects
from backout.providers.cloudflare.conformance.recovering import Recovering
from backout.providers.cloudflare.conformance.reply import Call, Told, get_safe_id, look_up
from backout.providers.cloudflare.conformance.scratch import Scratch
from backout.providers.cloudflare.conformance.secrets import Secrets
from backout.providers.cloudflare.conformance.watching import Watching

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.ports import Clock

_OK, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 401, 403, 404
_DRAFT: Final = "code_update_strategy"
"""What no answer has to show: a fact of the immediate switch."""
_SUCCESS, _NO, _SERVER_ERROR = range(200, 300), range(400, 500), 500


class FirstContact:
    """The calls, in order.

    Args:
        base_url: ends in /client/v4.
        token: returns the token.
        account_id: whose.
        ingress_url: where the Worker answers (None: its workers.dev address).
        script: its name, made up when None.
        database: as of `Recovering`.
    """

    def __init__(
        self,
        *,
        base_url: str,
        token: Callable[[], str],
        account_id: str,
        clock: Clock,
        ingress_url: str | None = None,
        script: str | None = None,
        database: Callable[[], Mapping[str, str]] | None = None,
        shape_of: Callable[[object], dict[str, str]],
    ) -> None:
        self._scratch = Scratch(
            base_url=base_url,
            token=token,
            account_id=account_id,
            clock=clock,
            ingress_url=ingress_url,
            script=script,
        )
        self._shape_of = shape_of
        self._deploying, self._watching = Deploying(self._scratch), Watching(self._scratch)
        self._secrets, self._objects = Secrets(self._scratch), Objects(self._scratch)
        self._recovering = Recovering(self._scratch, database)

    @property
    def script(self) -> str:
        """The Worker's name."""
        return self._scratch.script

    @property
    def calls(self) -> tuple[Call, ...]:
        """All calls, in the order in which they are made."""
        history, *deployments = self._deploying.first
        return (
            Call(
                "token",
                "is the token valid?",
                self._verify,
                ("a token may verify itself",),
                ("result.expires_on", "result.not_before"),
            ),
            Call("unknown Worker", "how is a Worker answered that is not there?", self._ask_unknown_worker),
            Call("first upload", "can a Worker be made with one upload?", self._upload),
            Call("address", "can it be asked under workers.dev?", self._address),
            history,
            *self._watching.visits,
            *deployments,
            *self._secrets.calls,
            *self._deploying.last,
            *self._watching.others,
            *self._recovering.calls,
            *self._objects.calls,
            Call("delete", "is the Worker gone afterwards?", self._delete),
        )

    def observe(self, told: Callable[[Observation], None]) -> tuple[Observation, ...]:
        """Make all calls and return what came back; `told` is called with each. What was made is deleted in any case.

        Raises:
            AuthError: the token is refused.
            Refused: a Worker of that name is there already; it is left alone.
            ProviderUnavailable: no answer before anything was made.
            PartlyDone: something that was made could not be deleted.
        """
        found: list[Observation] = []
        try:
            for call in self.calls:
                found.append(self._observe_call(call))
                told(found[-1])
                self._stop_early(found[-1])
        finally:
            left = self._scratch.remove_things()
            refused = found[-1:] and found[-1].name == "first upload" and found[-1].status in _NO
            if self._scratch.may_be_there and not self._is_deleted() and not refused:
                left.append(f"the Worker {self.script}")
            self._scratch.close()
            if left:
                raise PartlyDone(
                    f"{' and '.join(left)} could not be deleted",
                    where=self._scratch.where,
                    hint=f"delete by hand what is named so: npx wrangler delete --name {self.script}",
                )
        return tuple(found)

    def _is_deleted(self) -> bool:
        return self._scratch.remove().status in (_OK, _NOT_FOUND)

    def _observe_call(self, call: Call) -> Observation:
        told = call.ask()
        reply = told.reply
        shape = self._shape(reply.json)
        shape = {at: kinds for at, kinds in shape.items() if at not in call.optional and _DRAFT not in at}
        return Observation(
            call.name, call.asks, reply.status, reply.code, told.facts, shape, reply.trouble, told.measured
        )

    def _shape(self, json: object) -> dict[str, str]:
        try:
            return self._shape_of(json) if json is not None else {}
        except RecursionError:
            return {}

    def _stop_early(self, seen: Observation) -> None:
        """Go on only while the API answers, accepts the token, and has shown that no Worker of this name exists."""
        before = seen.name in ("token", "unknown Worker")
        if before and (seen.trouble or seen.status >= _SERVER_ERROR):
            why = seen.trouble or f"the API answered {seen.status}"
            raise ProviderUnavailable(why, where=self._scratch.where, hint="the same command again")
        if (before or seen.name == "first upload") and seen.status in (_UNAUTHORIZED, _FORBIDDEN):
            raise AuthError(
                f"the API refuses the token ({seen.status}, code {seen.code})",
                where=self._scratch.where,
                hint="a token of your own with 'Workers Scripts Write' for a throwaway account",
            )
        if seen.name == "unknown Worker" and seen.status in _SUCCESS:
            raise Refused(f"a Worker named {self.script} is there already; nothing was changed", where=self.script)

    # --- the calls ---

    def _verify(self) -> Told:
        reply = self._scratch.call("GET", "user/tokens/verify")
        return Told(reply, {"active": look_up(reply.result, "status") == "active"})

    def _ask_unknown_worker(self) -> Told:
        return Told(self._scratch.call("GET", f"{self._scratch.base}/deployments"))

    def _upload(self) -> Told:
        self._scratch.may_be_there = True
        reply = self._scratch.upload("PUT", self._scratch.base, "one", observability={"enabled": True})
        return Told(reply, {"names a version": bool(look_up(reply.result, "deployment_id"))})

    def _address(self) -> Told:
        scratch = self._scratch
        reply = scratch.call("POST", f"{scratch.base}/subdomain", {"enabled": True, "previews_enabled": False})
        if scratch.ingress_url is None:
            found = scratch.call("GET", f"{scratch.account}/workers/subdomain").result
            name = get_safe_id(look_up(found, "subdomain"))
            scratch.ingress_url = f"https://{scratch.script}.{name}.workers.dev/" if name else None
        enabled = look_up(reply.result, "enabled") is True
        return Told(reply, {"enabled": enabled, "has an address": scratch.ingress_url is not None})

    def _delete(self) -> Told:
        reply = self._scratch.remove()
        gone = self._scratch.call("GET", f"{self._scratch.base}/deployments")
        return Told(reply, {"gone": gone.status == _NOT_FOUND})
