"""A certificate as text, and as the record `backout.certify/1`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.analysis.certify.wording import describe_seen
from backout.report.text import wrap_text
from backout.report.times import format_time

if TYPE_CHECKING:
    from backout.model.database.certificate import Certificate

_NAMES = {"old": "old code", "migrate": "migrations", "new": "new code", "old_again": "old code again"}


def make_record(certificate: Certificate) -> dict[str, object]:
    """Return the keys of `backout.certify/1`."""
    coverage = certificate.coverage
    return {
        "place": certificate.place or "twin",
        "from": certificate.old,
        "to": certificate.new,
        "from_code": certificate.old_code,
        "to_code": certificate.new_code,
        "head": certificate.head or None,
        "migrations": [name for name, _ in certificate.migrations],
        "steps": [{"name": step.name, "requests": step.requests, "failed": step.failed} for step in certificate.steps],
        "coverage": {
            "routes_seen": coverage.routes_seen,
            "routes": coverage.routes,
            "statements_seen": coverage.statements_seen,
            "statements": coverage.statements,
            "rows_read_again": coverage.rows_read_again,
        },
        "not_exercised": list(certificate.not_exercised),
        "reversible": certificate.reversible,
        "blocker": certificate.blocker,
        "reasons": list(certificate.reasons),
        "expires_at": format_time(certificate.expires_at),
    }


def format_text(certificate: Certificate, *, width: int = 100) -> str:
    """Return what was seen, step by step, then what follows from it."""
    place = f"In {certificate.place}: " if certificate.place else ""
    lines = [f"{place}{certificate.old} -> {certificate.new}, after migration {certificate.head or 'none'}", ""]
    for step in certificate.steps:
        what = "migration" if step.name == "migrate" else "request"
        counted = f"{step.requests} {what}{'s' * (step.requests != 1)}, {step.failed} failed"
        lines.append(f"  {_NAMES[step.name]:15} {counted}")
    lines.append("")
    for text in _list_sentences(certificate):
        lines += wrap_text(text, width)
    for text in certificate.reasons:
        lines += wrap_text(text, width, indent="  - ", hanging="    ")
    if certificate.not_exercised:
        lines += ["", "Not exercised:", *(f"  {what}" for what in certificate.not_exercised)]
    return "\n".join(lines)


def _list_sentences(certificate: Certificate) -> list[str]:
    seen = describe_seen(certificate)
    until = f"It counts until {format_time(certificate.expires_at)}, for this code and these migrations."
    if certificate.reversible is False:
        return [f"There is no way back to the old code. {certificate.blocker}"]
    if certificate.reversible is None:
        return [f"Whether there is a way back is not known. {seen}"]
    return [f"The old code runs again. {seen} {until}"]
