"""First contact: about twenty harmless calls on a Worker made for them, to see whether the API answers as expected.

The Worker answers with its own version id, gets no visitors, and is always deleted at the end. Nothing else
in the account is touched; only its workers.dev subdomain is read.
"""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from backout import __version__
from backout.errors import AuthError, ConfigError, PartlyDone, ProviderUnavailable, Refused
from backout.model.bundle import BundleModule
from backout.model.conformance import Observation
from backout.providers.cloudflare.bundles import upload_form
from backout.providers.cloudflare.conformance_reply import (
    Call,
    Reply,
    as_number,
    as_text,
    count_items,
    get_first,
    get_safe_id,
    look_up,
    parse_body,
)
from backout.providers.cloudflare.credentials import clean_token
from backout.providers.exchange import Connection, ExchangeError, Limits, Origin, quote_segment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.model.conformance import Fact
    from backout.ports import Clock

PREFIX: Final = "backout-conformance-"
LONG: Final = "x" * 1200
"""Longer than any limit of a message that is known."""
REMARK: Final = "[backout rollback-1a2b3c4d auto hop=2 bad=1a2b3c4d/0123456789ab/abcdef1 sig=0123456789abcd]"
"""The longest remark of ours: a message that is cut shorter than this would lose our marks."""
_OVERRIDE: Final = "Cloudflare-Workers-Version-Overrides"
_MODULE: Final = """\
export default {
  async fetch(_request, env) {
    return Response.json({ mark: env.MARK, version: env.META ? env.META.id : null });
  },
};
"""
_DIMENSIONS: Final = (
    '{ __type(name: "AccountWorkersInvocationsAdaptiveDimensions") { fields { name } } }'  # the counts by version
)
_OK, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 401, 403, 404
_SUCCESS, _NO, _SERVER_ERROR = range(200, 300), range(400, 500), 500
_REACHED_S, _POLL_S = 30.0, 0.5


class FirstContact:
    """The calls, in order.

    Args:
        base_url: ends in /client/v4.
        token: returns the token.
        account_id: whose.
        ingress_url: where the Worker answers (None: its workers.dev address).
        script: its name, made up when None.
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
        shape_of: Callable[[object], dict[str, str]],
    ) -> None:
        self.script = script or f"{PREFIX}{secrets.token_hex(4)}"
        self._prefix = urlsplit(base_url).path.rstrip("/")
        self._connection = Connection(_make_origin(base_url), Limits(total_s=60.0))
        if ingress_url is not None:
            _make_origin(ingress_url)
        self._token = token
        self._account = f"accounts/{quote_segment(account_id)}"
        self._base = f"{self._account}/workers/scripts/{quote_segment(self.script)}"
        self._clock = clock
        self._ingress_url = ingress_url
        self._shape_of = shape_of
        self._versions: list[str] = []
        self._may_be_there = False  # from the moment on at which it is made

    @property
    def calls(self) -> tuple[Call, ...]:
        """All calls, in the order in which they are made."""
        return (
            Call("token", "is the token valid?", self._verify, ("result.expires_on", "result.not_before")),
            Call("unknown Worker", "how is a Worker answered that is not there?", self._ask_unknown_worker),
            Call("first upload", "can a Worker be made with one upload?", self._upload),
            Call("address", "can it be asked under workers.dev?", self._address),
            Call("history", "what does the list of deployments show?", self._history),
            Call("version upload", "does an upload without deploying give a version?", self._version),
            Call("version detail", "does a version show its code's hash and its bindings?", self._detail),
            Call("message limit", "how much of a deployment's message is kept?", self._message),
            Call("0 % deployment", "may a version be deployed at 0 %?", self._at_zero),
            Call("override", "does a version at 0 % answer when it is asked for by name?", self._override),
            Call("three versions", "how is a deployment of three versions refused?", self._three),
            Call("wrong sum", "how are percentages refused that do not sum to 100?", self._wrong_sum),
            Call("switch", "is a version at 100 % live at once?", self._switch),
            Call("secret put", "does a new secret make a new live version?", self._secret),
            Call("rollback over a secret", "is it refused with 10220, and does it name the secret?", self._over_secret),
            Call("forced rollback", "does force pass it?", self._force_rollback),
            Call("secret behind a rollback", "is it refused with 10215?", self._secret_behind),
            Call("versions", "what does the list of deployable versions show?", self._list),
            Call("code", "is the code of a version given back?", self._code),
            Call("tail", "can a tail be opened?", self._tail),
            Call("schedules", "can schedules be set and read?", self._schedules),
            Call("counts", "do the analytics know versions and outcomes?", self._graphql),
            Call("delete", "is the Worker gone afterwards?", self._delete),
        )

    def observe(self, told: Callable[[Observation], None]) -> tuple[Observation, ...]:
        """Make all calls and return what came back; `told` is called with each. The Worker is deleted in any case.

        Raises:
            AuthError: the token is refused.
            Refused: a Worker of that name is there already; it is left alone.
            ProviderUnavailable: no answer before anything was made.
            PartlyDone: the Worker could not be deleted.
        """
        found: list[Observation] = []
        try:
            for call in self.calls:
                found.append(self._observe_call(call))
                told(found[-1])
                self._stop_early(found[-1])
        finally:
            refused = found[-1:] and found[-1].name == "first upload" and found[-1].status in _NO
            if self._may_be_there and not self._is_deleted() and not refused:
                raise PartlyDone(
                    f"the Worker {self.script} could not be deleted",
                    where=str(self._connection.origin),
                    hint=f"delete it by hand: npx wrangler delete --name {self.script}",
                )
            self._connection.close()
        return tuple(found)

    def _is_deleted(self) -> bool:
        return self._remove().status in (_OK, _NOT_FOUND)

    def _remove(self) -> Reply:
        reply = self._call("DELETE", self._base, query="force=true")
        self._may_be_there = reply.status not in (_OK, _NOT_FOUND)
        return reply

    def _observe_call(self, call: Call) -> Observation:
        reply, facts = call.ask()
        shape = self._shape(reply.json)
        shape = {path: kinds for path, kinds in shape.items() if path not in call.optional}
        return Observation(call.name, call.asks, reply.status, reply.code, facts, shape, reply.trouble)

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
            raise ProviderUnavailable(why, where=str(self._connection.origin), hint="the same command again")
        if (before or seen.name == "first upload") and seen.status in (_UNAUTHORIZED, _FORBIDDEN):
            raise AuthError(
                f"the API refuses the token ({seen.status}, code {seen.code})",
                where=str(self._connection.origin),
                hint="a token of your own with 'Workers Scripts Write' for a throwaway account",
            )
        if seen.name == "unknown Worker" and seen.status in _SUCCESS:
            raise Refused(f"a Worker named {self.script} is there already; nothing was changed", where=self.script)

    # --- the calls ---

    def _verify(self) -> tuple[Reply, dict[str, Fact]]:
        reply = self._call("GET", "user/tokens/verify")
        return reply, {"active": look_up(reply.result, "status") == "active"}

    def _ask_unknown_worker(self) -> tuple[Reply, dict[str, Fact]]:
        return self._call("GET", f"{self._base}/deployments"), {}

    def _upload(self) -> tuple[Reply, dict[str, Fact]]:
        self._may_be_there = True
        reply = self._multipart("PUT", self._base, "one")
        return reply, {"names a version": bool(look_up(reply.result, "deployment_id"))}

    def _address(self) -> tuple[Reply, dict[str, Fact]]:
        reply = self._call("POST", f"{self._base}/subdomain", {"enabled": True, "previews_enabled": False})
        if self._ingress_url is None:
            name = get_safe_id(look_up(self._call("GET", f"{self._account}/workers/subdomain").result, "subdomain"))
            self._ingress_url = f"https://{self.script}.{name}.workers.dev/" if name else None
        return reply, {
            "enabled": look_up(reply.result, "enabled") is True,
            "has an address": self._ingress_url is not None,
        }

    def _history(self) -> tuple[Reply, dict[str, Fact]]:
        reply = self._call("GET", f"{self._base}/deployments")
        live = get_first(look_up(reply.result, "deployments"))
        version = get_safe_id(look_up(get_first(look_up(live, "versions")), "version_id"))
        self._versions += [version] if version else []
        return reply, {
            "one deployment": count_items(look_up(reply.result, "deployments")) == 1,
            "names its version": bool(version),
        }

    def _version(self) -> tuple[Reply, dict[str, Fact]]:
        reply = self._multipart("POST", f"{self._base}/versions", "two", message=LONG)
        version = get_safe_id(look_up(reply.result, "id"))
        self._versions += [version] if version else []
        return reply, {"number": as_number(look_up(reply.result, "number"))}

    def _detail(self) -> tuple[Reply, dict[str, Fact]]:
        reply = self._call("GET", f"{self._base}/versions/{self._version_id(1)}")
        resources = look_up(reply.result, "resources")
        message = look_up(look_up(reply.result, "annotations"), "workers/message")
        return reply, {
            "hash of the code": bool(look_up(look_up(resources, "script"), "etag")),
            "bytes of a version's message kept": len(message) if isinstance(message, str) else None,
        }

    def _message(self) -> tuple[Reply, dict[str, Fact]]:
        made = self._deploy([(0, 100)], f"{REMARK} {LONG}")
        kept = look_up(
            look_up(get_first(look_up(self._list_deployments(), "deployments")), "annotations"), "workers/message"
        )
        text = kept if isinstance(kept, str) else ""
        return made, {"bytes kept": len(text.encode()), "our longest remark survives": text.startswith(REMARK)}

    def _at_zero(self) -> tuple[Reply, dict[str, Fact]]:
        reply = self._deploy([(0, 100), (1, 0)], "at 0 %")
        return reply, {"versions": count_items(look_up(reply.result, "versions"))}

    def _override(self) -> tuple[Reply, dict[str, Fact]]:
        """Ask until the version at 0 % answers: the edge needs a moment."""
        wanted = self._version_id(1)
        deadline = self._clock.now() + (_REACHED_S if wanted in self._versions else 0)
        while True:
            reply = self._visit({_OVERRIDE: f'{self.script}="{wanted}"'})
            if look_up(reply.json, "version") == wanted or self._clock.now() >= deadline:
                break
            self._clock.sleep(_POLL_S)
        plain = self._visit({})
        return reply, {
            "the version at 0 % answers": look_up(reply.json, "version") == wanted,
            "without the header the other one does": look_up(plain.json, "version") == self._version_id(0),
        }

    def _three(self) -> tuple[Reply, dict[str, Fact]]:
        return self._deploy([(0, 50), (1, 25), (0, 25)], "three"), {}

    def _wrong_sum(self) -> tuple[Reply, dict[str, Fact]]:
        return self._deploy([(0, 50), (1, 20)], "wrong sum"), {}

    def _switch(self) -> tuple[Reply, dict[str, Fact]]:
        reply = self._deploy([(1, 100)], "switch")
        live = get_first(look_up(self._list_deployments(), "deployments"))
        return reply, {
            "listed first at once": look_up(live, "id") == look_up(reply.result, "id"),
            "who did it": as_text(look_up(look_up(live, "annotations"), "workers/triggered_by")),
        }

    def _secret(self) -> tuple[Reply, dict[str, Fact]]:
        reply = self._put_secret()
        live = get_first(look_up(self._list_deployments(), "deployments"))
        version = look_up(get_first(look_up(live, "versions")), "version_id")
        return reply, {"a new version is live": isinstance(version, str) and version not in self._versions}

    def _over_secret(self) -> tuple[Reply, dict[str, Fact]]:
        reply = self._deploy([(1, 100)], "back")
        message = look_up(get_first(look_up(reply.json, "errors")), "message")
        return reply, {"names the secret": isinstance(message, str) and "CONFORMANCE" in message}

    def _force_rollback(self) -> tuple[Reply, dict[str, Fact]]:
        return self._deploy([(1, 100)], "back", query="force=true"), {}

    def _secret_behind(self) -> tuple[Reply, dict[str, Fact]]:
        return self._put_secret(), {}

    def _list(self) -> tuple[Reply, dict[str, Fact]]:
        reply = self._call("GET", f"{self._base}/versions", query="deployable=true")
        return reply, {"versions": count_items(look_up(reply.result, "items"))}

    def _code(self) -> tuple[Reply, dict[str, Fact]]:
        path = f"{self._account}/workers/workers/{quote_segment(self.script)}/versions/{self._version_id(1)}"
        reply = self._call("GET", path, query="include=modules")
        module = get_first(look_up(reply.result, "modules"))
        content = as_text(look_up(module, "content_base64")) or ""
        return reply, {"byte for byte": content == base64.b64encode(_MODULE.encode()).decode()}

    def _tail(self) -> tuple[Reply, dict[str, Fact]]:
        reply = self._call("POST", f"{self._base}/tails", {"filters": []})
        tail = look_up(reply.result, "id")
        url = look_up(reply.result, "url")
        if isinstance(tail, str):
            self._call("DELETE", f"{self._base}/tails/{quote_segment(tail)}")
        return reply, {"a websocket": isinstance(url, str) and url.startswith(("ws://", "wss://"))}

    def _schedules(self) -> tuple[Reply, dict[str, Fact]]:
        self._call("PUT", f"{self._base}/schedules", [{"cron": "0 3 * * *"}])
        reply = self._call("GET", f"{self._base}/schedules")
        self._call("PUT", f"{self._base}/schedules", [])
        return reply, {"cron": as_text(look_up(get_first(look_up(reply.result, "schedules")), "cron"))}

    def _graphql(self) -> tuple[Reply, dict[str, Fact]]:
        reply = self._call("POST", "graphql", {"query": _DIMENSIONS})
        fields = look_up(look_up(look_up(reply.json, "data"), "__type"), "fields")
        names = {as_text(look_up(field, "name")) for field in fields} if isinstance(fields, list) else set()
        return reply, {name: name in names for name in ("scriptVersion", "status", "scriptName", "datetime")}

    def _delete(self) -> tuple[Reply, dict[str, Fact]]:
        reply = self._remove()
        gone = self._call("GET", f"{self._base}/deployments")
        return reply, {"gone": gone.status == _NOT_FOUND}

    # --- how they are made ---

    def _version_id(self, index: int) -> str:
        return self._versions[index] if index < len(self._versions) else "missing"

    def _deploy(self, shares: list[tuple[int, float]], message: str, query: str = "") -> Reply:
        versions = [{"version_id": self._version_id(index), "percentage": share} for index, share in shares]
        body = {"strategy": "percentage", "versions": versions, "annotations": {"workers/message": message}}
        return self._call("POST", f"{self._base}/deployments", body, query=query)

    def _list_deployments(self) -> object:
        return self._call("GET", f"{self._base}/deployments").result

    def _put_secret(self) -> Reply:
        body = {"name": "CONFORMANCE", "text": secrets.token_hex(8), "type": "secret_text"}
        return self._call("PUT", f"{self._base}/secrets", body)

    def _multipart(self, method: str, path: str, mark: str, message: str = "") -> Reply:
        metadata: dict[str, object] = {
            "main_module": "index.js",
            "compatibility_date": "2026-01-01",
            "bindings": [
                {"type": "plain_text", "name": "MARK", "text": mark},
                {"type": "version_metadata", "name": "META"},
            ],
            **({"annotations": {"workers/message": message}} if message else {}),
        }
        form = upload_form(metadata, (BundleModule("index.js", "application/javascript+module", _MODULE.encode()),))
        return self._send(method, path, form.data, form.content_type, "")

    def _call(self, method: str, path: str, body: object = None, *, query: str = "") -> Reply:
        data = None if body is None else msgspec.json.encode(body)
        return self._send(method, path, data, "application/json", query)

    def _send(self, method: str, path: str, body: bytes | None, kind: str, query: str) -> Reply:
        headers = {
            "Authorization": f"Bearer {clean_token(self._token())}",
            "User-Agent": f"backout/{__version__}",
            **({"Content-Type": kind} if body is not None else {}),
        }
        target = f"{self._prefix}/{path}" + (f"?{query}" if query else "")
        try:
            answer = self._connection.exchange(method, target, headers=headers, body=body)
        except ExchangeError as error:
            return Reply(0, trouble=f"no answer: {error.failure}: {error}")
        return Reply(answer.status, parse_body(answer.body))

    def _visit(self, headers: Mapping[str, str]) -> Reply:
        if self._ingress_url is None:
            return Reply(0, trouble="it has no address under workers.dev")
        parts = urlsplit(self._ingress_url)
        connection = Connection(Origin.of(self._ingress_url), Limits(total_s=10.0))
        own_host = (
            {} if parts.hostname and parts.hostname.endswith(".workers.dev") else {"Host": f"{self.script}.localhost"}
        )
        try:
            answer = connection.exchange("GET", parts.path or "/", headers={**headers, **own_host})
        except ExchangeError as error:
            return Reply(0, trouble=f"the Worker did not answer: {error.failure}: {error}")
        finally:
            connection.close()
        return Reply(answer.status, parse_body(answer.body))


def _make_origin(url: str) -> Origin:
    try:
        return Origin.of(url)
    except ValueError as error:
        raise ConfigError((f"{url!r} is {error}",)) from error
