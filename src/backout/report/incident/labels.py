"""What the catalogue says about a label, for a person and as a record; pure."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from backout.report.incident.diagnosis import ADVICE

if TYPE_CHECKING:
    from collections.abc import Callable

    from backout.model.incident.diagnosis import Catalogue, Cause, Signature

_SEVERITY = ("none of the deployment's", "low", "middle", "high: nothing works without it")


def format_text(catalogue: Catalogue, cause: Cause, *, width: int, strong: Callable[[str], str] = str) -> str:
    """Return the page of one label."""
    signatures = list_signatures(catalogue, cause)
    scenarios = [cause.scenario.value, *(f"{each} in a {kind} log" for kind, each in cause.scenario_by_kind.items())]
    service = "what the text names" if cause.service == "named" else cause.service
    rows = [
        ("scenario", ", ".join(scenarios)),
        ("service", service),
        ("severity", _SEVERITY[cause.severity]),
        ("rollback", ADVICE[cause.rollback]),
        ("brings with it", ", ".join(cause.explains)),
        ("confirmed by", cause.confirm),
    ]
    lines = [f"{strong(cause.label)}: {cause.title}", "", *textwrap.wrap(cause.about, width), ""]
    lines += [f"{name:15}{value}" for name, value in rows if value]
    lines += [
        "",
        strong("What to do"),
        *(f"  {step.replace('{environment}', 'ENV').replace('{title}', 'WHY')}" for step in cause.steps),
    ]
    lines += ["", strong(f"How it shows ({len(signatures)} signatures)")]
    lines += [f"  {one.id:34} {' '.join(one.examples[0].split())[: max(width - 38, 30)]}" for one in signatures]
    return "\n".join(lines)


def format_listing(catalogue: Catalogue) -> str:
    """Return all labels by scenario, a line each."""
    lines: list[str] = []
    for scenario in sorted({cause.scenario for cause in catalogue.causes.values()}):
        lines.append(scenario)
        lines += [f"  {c.label:28} {c.title}" for c in catalogue.causes.values() if c.scenario == scenario]
    return "\n".join(lines)


def make_record(catalogue: Catalogue, cause: Cause) -> dict[str, object]:
    """Return the payload of `backout.explain/1`."""
    return {
        "label": cause.label,
        "title": cause.title,
        "about": cause.about,
        "scenario": cause.scenario,
        "scenario_by_kind": {kind.value: scenario.value for kind, scenario in cause.scenario_by_kind.items()},
        "service": cause.service,
        "severity": cause.severity,
        "rollback": cause.rollback,
        "steps": list(cause.steps),
        "confirm": cause.confirm,
        "explains": list(cause.explains),
        "signatures": [
            {"id": one.id, "specificity": one.specificity, "kinds": list(one.kinds), "examples": list(one.examples)}
            for one in list_signatures(catalogue, cause)
        ],
    }


def list_signatures(catalogue: Catalogue, cause: Cause) -> tuple[Signature, ...]:
    """Return a label's signatures, the most specific first."""
    found = [one for one in catalogue.signatures if one.label == cause.label]
    return tuple(sorted(found, key=lambda one: (-one.specificity, one.id)))
