"""The calls of a first contact about Durable Objects: which code they run after a switch, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.providers.cloudflare.conformance.reply import Call, Told, get_first, get_safe_id, look_into, look_up
from backout.providers.cloudflare.conformance.scratch import REACHED_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.model.conformance import Fact
    from backout.providers.cloudflare.conformance.reply import Reply
    from backout.providers.cloudflare.conformance.scratch import Scratch

MODULE: Final = """\
export class Kept {
  constructor(state, env) { this.env = env; }
  async fetch() { return Response.json({ mark: this.env.MARK }); }
}
export default {
  async fetch(request, env) {
    const object = env.KEPT.get(env.KEPT.idFromName("one"));
    const { mark } = await (await object.fetch("https://object.example/")).json();
    return Response.json({ mark: env.MARK, object: mark });
  },
};
"""
_OK: Final = 200
_BINDING: Final = {"type": "durable_object_namespace", "name": "KEPT", "class_name": "Kept"}
_STRATEGY: Final = ("`code_update_strategy` of a deployment",)


class Objects:
    """The calls; they come last, because a Worker with objects stays one."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._answers = False
        self._old = "missing"

    @property
    def calls(self) -> tuple[Call, ...]:
        """Those of them."""
        return (
            Call("object", "can a Worker be given a Durable Object?", self._upload, _STRATEGY),
            Call("object's code", "does an object go on with its code after a switch?", self._defer, _STRATEGY),
            Call("immediate switch", "does it take the code at once where the switch says so?", self._reset, _STRATEGY),
        )

    def _upload(self) -> Told:
        migrations = {"new_tag": "v1", "new_sqlite_classes": ["Kept"]}
        reply = self._scratch.upload(
            "PUT", self._scratch.base, "old", code=MODULE, bindings=[_BINDING], migrations=migrations
        )
        self._answers = "old" in self._hear_object("old", REACHED_S if reply.status == _OK else 0.0)
        self._old = get_safe_id(look_up(self._first_share(), "version_id")) or "missing"
        return Told(reply, {"it answers": self._answers})

    def _defer(self) -> Told:
        made = self._scratch.upload("POST", f"{self._scratch.base}/versions", "new", code=MODULE, bindings=[_BINDING])
        reply = self._deploy(get_safe_id(look_up(made.result, "id")) or "missing", None)
        keeps: Fact = next(self._hear_object("new", REACHED_S), None) == "old" if self._answers else None
        return Told(reply, {"the Worker is new and the object old": keeps})

    def _reset(self) -> Told:
        """Back to the code of before, then again to the new one, so that the object has something to take."""
        new = get_safe_id(look_up(self._first_share(), "version_id")) or "missing"
        self._deploy(self._old, "immediate")
        goes_back = self._answers and "old" in self._hear_object("old", REACHED_S)
        reply = self._deploy(new, "immediate")
        takes: Fact = goes_back and "new" in self._hear_object("new", REACHED_S) if self._answers else None
        echoed = look_into(reply.result, "code_update_strategy", "mode")
        return Told(
            reply, {"it is echoed": None if echoed is None else echoed == "immediate", "the object is new": takes}
        )

    def _deploy(self, version: str, mode: str | None) -> Reply:
        body: dict[str, object] = {
            "strategy": "percentage",
            "versions": [{"version_id": version, "percentage": 100}],
            "annotations": {"workers/message": "objects"},
            **({"code_update_strategy": {"mode": mode}} if mode else {}),
        }
        return self._scratch.call("POST", f"{self._scratch.base}/deployments", body)

    def _first_share(self) -> object:
        return get_first(look_up(self._scratch.read_live(), "versions"))

    def _hear_object(self, mark: str, within_s: float) -> Iterator[object]:
        """Yield the object's mark in each answer of the Worker with that mark, until so many seconds are over."""
        for reply in self._scratch.keep_visiting(within_s, {}):
            if look_up(reply.json, "mark") == mark:
                yield look_up(reply.json, "object")
