"""The calls of a first contact about secrets, and about code that is uploaded again with them."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from backout.providers.cloudflare.conformance.reply import (
    Call,
    Told,
    as_text,
    get_first,
    get_safe_id,
    list_items,
    look_into,
    look_up,
)

if TYPE_CHECKING:
    from backout.providers.cloudflare.conformance.reply import Reply
    from backout.providers.cloudflare.conformance.scratch import Scratch

NAME: Final = "CONFORMANCE"
_MORE: Final = ("CONFORMANCE_A", "CONFORMANCE_B")
_INHERITS: Final = ("an upload that inherits",)
_BULK: Final = ("`secrets-bulk` makes one version",)


class Secrets:
    """The calls, in their order; the version with the index 1 is live before them and after them."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._with_all = "missing"  # the version that has all secrets

    @property
    def calls(self) -> tuple[Call, ...]:
        """Those of them."""
        over = ("10220 if a secret has changed",)
        return (
            Call("secret put", "does a new secret make a new live version?", self._put),
            Call("secrets-bulk", "do several secrets make one new live version?", self._put_several, _BULK),
            Call(
                "taken name",
                "is a secret refused under a variable's name, with 10053?",
                self._take_name,
                ("10053 for a name that is bound",),
            ),
            Call(
                "rollback over a secret", "is it refused with 10220, and does it name the secret?", self._go_back, over
            ),
            Call("forced rollback", "does force pass it?", self._force, over),
            Call(
                "secret behind a rollback",
                "is it refused with 10215?",
                self._put_behind,
                ("10215 (or 10214) for secrets set behind a rollback",),
            ),
            Call("inherited upload", "does an upload inherit secrets of a version?", self._inherit, _INHERITS),
            Call(
                "nothing to inherit", "is it refused where there is no such secret?", self._inherit_nothing, _INHERITS
            ),
        )

    def _put(self) -> Told:
        before = self._read_live_version()
        reply = self._send_secret()
        return Told(reply, {"a new version is live": self._read_live_version() not in (None, before)})

    def _put_several(self) -> Told:
        before = self._read_live_version()
        given = {name: {"name": name, "type": "secret_text", "text": secrets.token_hex(8)} for name in _MORE}
        reply = self._scratch.call("PATCH", f"{self._scratch.base}/secrets-bulk", {"secrets": given})
        live = self._read_live_version()
        self._with_all = live or "missing"
        listed = self._scratch.call("GET", f"{self._scratch.base}/secrets").result
        names = {as_text(look_up(each, "name")) for each in list_items(listed)}
        detail = self._read_version(live)
        number, versions = look_up(detail.result, "number"), self._list_numbers()
        facts = {
            "a new version is live": live not in (None, before),
            "it is one": number == max(versions, default=None) and len(versions) == 4,
            "all names are listed": names == {NAME, *_MORE},
        }
        return Told(reply, facts)

    def _take_name(self) -> Told:
        given = {"MARK": {"name": "MARK", "type": "secret_text", "text": secrets.token_hex(8)}}
        return Told(self._scratch.call("PATCH", f"{self._scratch.base}/secrets-bulk", {"secrets": given}))

    def _go_back(self) -> Told:
        reply = self._scratch.deploy([(1, 100)], "back")
        message = look_up(get_first(look_up(reply.json, "errors")), "message")
        return Told(reply, {"names the secret": isinstance(message, str) and NAME in message})

    def _force(self) -> Told:
        return Told(self._scratch.deploy([(1, 100)], "back", query="force=true"))

    def _put_behind(self) -> Told:
        return Told(self._send_secret())

    def _inherit(self) -> Told:
        """As a carry does: what the code needs, and what it never knew, from the version that has it."""
        names = (NAME, *_MORE)
        inherited = [{"type": "inherit", "name": name, "version_id": self._with_all} for name in names]
        reply = self._upload_again(inherited)
        detail = self._read_version(get_safe_id(look_up(reply.result, "id")))
        return Told(reply, {"it has every secret": set(names) <= _list_secrets(detail)})

    def _inherit_nothing(self) -> Told:
        return Told(self._upload_again([{"type": "inherit", "name": "NOT_THERE", "version_id": self._with_all}]))

    def _upload_again(self, bindings: list[dict[str, str]]) -> Reply:
        path = f"{self._scratch.base}/versions"
        return self._scratch.upload("POST", path, "two", query="bindings_inherit=strict", bindings=bindings)

    def _send_secret(self) -> Reply:
        body = {"name": NAME, "text": secrets.token_hex(8), "type": "secret_text"}
        return self._scratch.call("PUT", f"{self._scratch.base}/secrets", body)

    def _read_live_version(self) -> str | None:
        return get_safe_id(look_up(get_first(look_up(self._scratch.read_live(), "versions")), "version_id"))

    def _read_version(self, version: str | None) -> Reply:
        return self._scratch.call("GET", f"{self._scratch.base}/versions/{version or 'missing'}")

    def _list_numbers(self) -> list[int]:
        reply = self._scratch.call("GET", f"{self._scratch.base}/versions", query="deployable=true")
        numbers = (look_up(item, "number") for item in list_items(look_up(reply.result, "items")))
        return [number for number in numbers if isinstance(number, int)]


def _list_secrets(version: Reply) -> set[str | None]:
    bindings = list_items(look_into(version.result, "resources", "bindings"))
    return {as_text(look_up(each, "name")) for each in bindings if look_up(each, "type") == "secret_text"}
