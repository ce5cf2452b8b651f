"""The calls of a first contact about versions and deployments."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

from backout.providers.cloudflare.conformance.reply import (
    Call,
    Told,
    as_number,
    as_text,
    count_items,
    get_first,
    list_items,
    look_into,
    look_up,
)
from backout.providers.cloudflare.conformance.scratch import MODULE, REACHED_S
from backout.providers.exchange import quote_segment

if TYPE_CHECKING:
    from backout.providers.cloudflare.conformance.reply import Reply
    from backout.providers.cloudflare.conformance.scratch import Scratch

LONG: Final = "x" * 1200
"""Longer than any limit of a message that is known."""
REMARK: Final = "[backout rollback-1a2b3c4d auto hop=2 bad=1a2b3c4d/0123456789ab/abcdef1 sig=0123456789abcd]"
"""The longest remark of ours: a message that is cut shorter than this would lose our marks."""
_COHORT: Final = "backout"
"""A cohort's name has at most ten characters (documentation, "Cohort-based deployments")."""
_AT_ZERO: Final = ("a deployment of a version at 0 % beside one at 100 %",)
_OVERRIDE: Final = "Cloudflare-Workers-Version-Overrides"


class Deploying:
    """The calls, in their order."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch

    @property
    def first(self) -> tuple[Call, ...]:
        """Those up to the first switch."""
        return (
            Call(
                "history",
                "what does the list of deployments show?",
                self._history,
                ("the newest ten deployments are listed",),
            ),
            Call("version upload", "does an upload without deploying give a version?", self._version),
            Call(
                "version detail",
                "does a version show its code's hash and its bindings?",
                self._detail,
                ("the hash of a version's code",),
            ),
            Call(
                "message limit",
                "how much of a deployment's message is kept?",
                self._message,
                ("messages of deployments up to 1000 bytes",),
            ),
            Call("0 % deployment", "may a version be deployed at 0 %?", self._at_zero, _AT_ZERO),
            Call(
                "override",
                "does a version at 0 % answer when it is asked for by name?",
                self._override,
                _AT_ZERO,
            ),
            Call("three versions", "how is a deployment of three versions refused?", self._three),
            Call("wrong sum", "how are percentages refused that do not sum to 100?", self._wrong_sum),
            Call("cohorts", "can a cohort have its own split?", self._cohorts, ("`cohorts` of a deployment",)),
            Call(
                "switch",
                "is a version at 100 % live at once?",
                self._switch,
                ("the newest ten deployments are listed",),
            ),
            Call(
                "list of Workers",
                "does the list of all Workers say when each was deployed last?",
                self._list_workers,
                ("`GET workers/workers` (beta) ordered",),
            ),
        )

    @property
    def last(self) -> tuple[Call, ...]:
        """Those after the secrets."""
        return (
            Call("versions", "what does the list of deployable versions show?", self._list),
            Call("code", "is the code of a version given back?", self._code, ("the code of a version",)),
        )

    def _history(self) -> Told:
        reply = self._scratch.call("GET", f"{self._scratch.base}/deployments")
        live = get_first(look_up(reply.result, "deployments"))
        is_named = self._scratch.note_version(look_up(get_first(look_up(live, "versions")), "version_id"))
        one = count_items(look_up(reply.result, "deployments")) == 1
        return Told(reply, {"one deployment": one, "names its version": is_named})

    def _version(self) -> Told:
        reply = self._scratch.upload("POST", f"{self._scratch.base}/versions", "two", message=LONG)
        self._scratch.note_version(look_up(reply.result, "id"))
        return Told(reply, {"number": as_number(look_up(reply.result, "number"))})

    def _detail(self) -> Told:
        reply = self._scratch.call("GET", f"{self._scratch.base}/versions/{self._scratch.name_version(1)}")
        message = look_into(reply.result, "annotations", "workers/message")
        facts = {
            "hash of the code": bool(look_into(reply.result, "resources", "script", "etag")),
            "bytes of a version's message kept": len(message) if isinstance(message, str) else None,
        }
        return Told(reply, facts)

    def _message(self) -> Told:
        made = self._scratch.deploy([(0, 100)], f"{REMARK} {LONG}")
        kept = look_into(self._scratch.read_live(), "annotations", "workers/message")
        text = kept if isinstance(kept, str) else ""
        return Told(made, {"bytes kept": len(text.encode()), "our longest remark survives": text.startswith(REMARK)})

    def _at_zero(self) -> Told:
        reply = self._scratch.deploy([(0, 100), (1, 0)], "at 0 %")
        return Told(reply, {"versions": count_items(look_up(reply.result, "versions"))})

    def _override(self) -> Told:
        wanted = self._scratch.name_version(1)
        within_s = REACHED_S if wanted in self._scratch.versions else 0.0
        header = {_OVERRIDE: f'{self._scratch.script}="{wanted}"'}
        for reply in self._scratch.keep_visiting(within_s, header):
            if look_up(reply.json, "version") == wanted:
                break
        plain = self._scratch.visit({})
        facts = {
            "the version at 0 % answers": look_up(reply.json, "version") == wanted,
            "without the header the other one does": look_up(plain.json, "version") == self._scratch.name_version(0),
        }
        return Told(reply, facts)

    def _three(self) -> Told:
        return Told(self._scratch.deploy([(0, 50), (1, 25), (0, 25)], "three"))

    def _wrong_sum(self) -> Told:
        return Told(self._scratch.deploy([(0, 50), (1, 20)], "wrong sum"))

    def _cohorts(self) -> Told:
        """One that has all of the version that others have nothing of; the switch that follows names none."""
        cohort = {"name": _COHORT, "versions": self._scratch.render_shares([(1, 100), (0, 0)])}
        reply = self._scratch.deploy([(0, 100), (1, 0)], "a cohort", more={"cohorts": [cohort]})
        listed = get_first(look_up(self._scratch.read_live(), "cohorts"))
        return Told(reply, {"read back": look_up(listed, "name") == _COHORT})

    def _switch(self) -> Told:
        reply = self._scratch.deploy([(1, 100)], "switch")
        live = self._scratch.read_live()
        facts = {
            "listed first at once": look_up(live, "id") == look_up(reply.result, "id"),
            "who did it": as_text(look_into(live, "annotations", "workers/triggered_by")),
        }
        cohorts = {"a cohort that it does not name is kept": bool(list_items(look_up(live, "cohorts")))}
        return Told(reply, facts, cohorts)

    def _list_workers(self) -> Told:
        path = f"{self._scratch.account}/workers/workers"
        reply = self._scratch.call("GET", path, query="order_by=deployed_on&order=desc&per_page=100&page=1")
        first, live = get_first(reply.result), self._scratch.read_live()
        facts = {
            "the one deployed last comes first": look_up(first, "name") == self._scratch.script,
            "its time is that of the deployment": _is_same_second(first, live),
        }
        shown = {"result": [first], "success": look_up(reply.json, "success")}  # the others are the account's own
        return Told(_replace_json(reply, shown), facts)

    def _list(self) -> Told:
        reply = self._scratch.call("GET", f"{self._scratch.base}/versions", query="deployable=true")
        return Told(reply, {"versions": count_items(look_up(reply.result, "items"))})

    def _code(self) -> Told:
        worker = f"{self._scratch.account}/workers/workers/{quote_segment(self._scratch.script)}"
        reply = self._scratch.call("GET", f"{worker}/versions/{self._scratch.name_version(1)}", query="include=modules")
        content = as_text(look_up(get_first(look_up(reply.result, "modules")), "content_base64")) or ""
        return Told(reply, {"byte for byte": content == base64.b64encode(MODULE.encode()).decode()})


def _is_same_second(worker: object, deployment: object) -> bool:
    told, made = as_text(look_up(worker, "deployed_on")), as_text(look_up(deployment, "created_on"))
    return told is not None and made is not None and told[:19] == made[:19]


def _replace_json(reply: Reply, json: object) -> Reply:
    return type(reply)(reply.status, json, reply.trouble, reply.headers)
