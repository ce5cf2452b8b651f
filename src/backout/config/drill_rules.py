"""What in the file of a drill does not fit together, although each key is right by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from backout.config.explain import Mistake, suggest_similar
from backout.config.schema.drill import OF_A_WORKER
from backout.model.drill import DrillAction, DrillGroup, DrillPlace

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from backout.config.schema.drill import DrillFile, FaultPart

_TAKEN: Final = {
    "target": (*OF_A_WORKER, "service-down", "storage-denied"),
    "share": ("errors", "latency"),
    "latency": ("latency", "api-slow"),
    "status": ("errors",),
}
"""What can be said about a fault, and of which kinds."""
_ELSEWHERE: Final = {DrillPlace.STAGING: "rehearsal", DrillPlace.PRODUCTION: "watch"}
"""How a drill goes on in an environment of the team's own."""


def check_across_keys(file: DrillFile, variants: Collection[str]) -> Iterator[Mistake]:
    """Yield what is right by itself and wrong beside the rest; `variants`: what can be deployed, none: not checked."""
    deploy, limits, action = file.deploy, file.limits, file.expect.action
    if variants and deploy.variant not in variants:
        yield Mistake(
            ("deploy", "variant"), f"no variant {deploy.variant!r}{suggest_similar(deploy.variant, variants)}"
        )
    yield from _check_place(file)
    for number, fault in enumerate(file.fault):
        if fault.kind == "service-down" and fault.target not in ("database", "storage", "email"):
            yield Mistake(("fault", number, "target"), "expected 'database', 'storage' or 'email'")
        for key in _list_useless(fault):
            yield Mistake(("fault", number, key), f"a fault of the kind {fault.kind!r} has none")
        if fault.lasting is not None and not fault.lasting:
            yield Mistake(("fault", number, "for"), "expected more than 0 s")
        if fault.when == "before" and fault.after:
            yield Mistake(("fault", number, "after"), "a fault from before the deployment has no time after it")
    if file.group is DrillGroup.MUST_NOT and action is DrillAction.ROLLBACK:
        yield Mistake(("expect", "action"), "a drill of the group 'must not' does not expect a rollback")
    if limits.rto is not None and not limits.rto:
        yield Mistake(("limits", "rto"), "expected more than 0 s")
    if not file.watch.lasts:
        yield Mistake(("watch", "for"), "expected more than 0 s")


def _list_useless(fault: FaultPart) -> Iterator[str]:
    """Yield the keys that are set and say nothing about a fault of this kind."""
    for key, kinds in _TAKEN.items():
        if getattr(fault, key) is not None and fault.kind not in kinds:
            yield key


def _check_place(file: DrillFile) -> Iterator[Mistake]:
    """Yield what cannot be done in an environment of the team's own."""
    place, procedure = file.environment, file.procedure
    if place is DrillPlace.HOSTS:
        yield Mistake(("environment",), "expected 'twin', 'staging' or 'production'; `--home hosts` is for `drill run`")
        return
    if place is DrillPlace.TWIN:
        if file.commands.good or file.commands.bad:
            yield Mistake(("commands",), "the twin's application has variants (deploy): commands are for staging")
        if procedure in _ELSEWHERE.values():
            yield Mistake(("procedure",), f"{procedure!r} is not for the twin")
        return
    if place is DrillPlace.PRODUCTION and (file.commands.good or file.commands.bad):
        yield Mistake(("commands",), "production is only watched: commands are for staging")
    what = "is only watched" if place is DrillPlace.PRODUCTION else "has no faults that could be set"
    yield from (Mistake(("fault", n), f"{place} {what}") for n in range(len(file.fault)))
    if procedure != _ELSEWHERE[place]:
        yield Mistake(("procedure",), f"in {place} it is {_ELSEWHERE[place]!r}")
    if place is DrillPlace.PRODUCTION and file.expect.action is not DrillAction.NONE:
        yield Mistake(("expect", "action"), "production is only watched: expected 'none'")
