"""`backout diagnose classify`: a label for each text of a file of JSON lines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from backout.cli.support.options import Command, pass_shell
from backout.cli.support.piped import open_piped
from backout.errors import BackoutError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backout.analysis.diagnosis.signatures import Classifier
    from backout.cli.support.shell import Shell


@click.command(
    "classify",
    cls=Command,
    short_help="Label error texts, one JSON object a line.",
    epilog="""
Examples:
  backout diagnose classify errors.jsonl
  backout diagnose classify - < errors.jsonl
  backout diagnose classify errors.jsonl --signatures ours/
""",
)
@click.argument("file")
@click.option(
    "--signatures",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="A folder of signatures to add to the built-in ones.",
)
@pass_shell
def classify(shell: Shell, *, file: str, signatures: Path | None) -> int:
    """Read {"id", "text", "kind"} (JSON lines) from FILE or `-`; answer each with label, service, scenario, confidence.

    `kind` is runtime (the default), build or migration. `unknown` has a confidence below 0.5. `backout explain LABEL`
    says what a label means. Exit code 0; 2 when there is no such file.
    """
    import msgspec

    from backout.wiring.diagnosis import make_classifier

    known = make_classifier(None if signatures is None else shell.folder / signatures)
    for line in _read_lines(shell, file):
        shell.output.raw(msgspec.json.encode(_make_answer(known, line)).decode())
    return 0


def _read_lines(shell: Shell, file: str) -> Iterator[bytes]:
    try:
        stream = open_piped() if file == "-" else (shell.folder / file).open("rb")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UsageError("no such file", where=file) from error
    except OSError as error:
        raise BackoutError(f"cannot be read: {error.strerror}", where=file) from error
    with stream:
        yield from (line for line in stream if line.strip())


def _make_answer(known: Classifier, line: bytes) -> dict[str, object]:
    """Return the answer to one line; an unreadable line gets an answer too, so that none is lost."""
    from backout.decoding import Undecodable, decode_json
    from backout.model.incident.diagnosis import UNKNOWN, LogKind

    try:
        row = decode_json(line, what="it")
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise ValueError("no text")  # noqa: TRY004, TRY301 - one answer for all that is wrong with a line
        kind = LogKind(row.get("kind") or LogKind.RUNTIME)
    except (Undecodable, ValueError) as error:
        nothing = {"label": UNKNOWN, "service": None, "scenario": None, "confidence": 0.0}
        return {"id": None, **nothing, "error": f"not a line of {{id, text, kind}}: {error}"[:200]}
    found = known.classify(row["text"], kind)
    return {
        "id": row.get("id"),
        "label": found.label,
        "service": found.service,
        "scenario": found.scenario,
        "confidence": round(found.confidence, 4),
    }
