"""How a watch ended, for a pipeline: one word, name=value outputs, one line of status, a page of Markdown; pure.

It is made from the last line of guard's JSON stream, or from the error that replaced it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from backout.escaping import Markdown, cell, escape_line, join_parts, make_printable, md
from backout.model.guard.pipeline import PipelineState
from backout.model.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_REPORT_CHARACTERS = 300_000
"""Of the incident report; a page of this kind may have 1 MiB."""
_REFUSED, _UNMEASURED = 3, 7


class Word(StrEnum):
    """The word that a pipeline branches on."""

    HEALTHY = "healthy"
    REGRESSED = "regressed"  # and only observed
    ROLLED_BACK = "rolled_back"
    HELD = "held"  # nothing was changed although there was a reason to, or a person has to decide
    REFUSED = "refused"
    INCONCLUSIVE = "inconclusive"
    VOID = "void"  # another deployment took its place
    ERROR = "error"


_TITLES = {
    Word.HEALTHY: "✅ healthy",
    Word.REGRESSED: "❌ regressed, and still live",
    Word.ROLLED_BACK: "↩️ rolled back",
    Word.HELD: "✋ held: nothing was changed",
    Word.REFUSED: "⛔ refused by a safety rule",
    Word.INCONCLUSIVE: "❔ inconclusive",
    Word.VOID: "⏭️ overtaken by another deployment",
    Word.ERROR: "💥 guard ended with an error",
}
_COUNTS = (
    "say where requests are counted (`traffic.provider` in backout.toml; `backout init` proposes one): without counts "
    "nothing but /health is watched; with `guard.require_counts = true` such a run fails"
)
_STATES = {
    Word.HEALTHY: PipelineState.SUCCESS,
    Word.VOID: PipelineState.INACTIVE,
    Word.INCONCLUSIVE: PipelineState.ERROR,
    Word.ERROR: PipelineState.ERROR,
}


class Ending(Value, frozen=True):
    """How a watch ended.

    Args:
        sentence: why, in one line.
        facts: (name, value) for the table.
        ways_on: what is allowed, or what to type next.
        guarded: whether there was anything to judge by: False where nothing failed and no source of counts is set up.
        requires_counts: whether that is a failure all the same.
    """

    word: Word
    environment: str
    sentence: str
    exit_code: int
    live_version: str = ""
    report_path: str = ""
    run: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    ways_on: tuple[str, ...] = ()
    guarded: bool = True
    requires_counts: bool = False

    @property
    def state(self) -> PipelineState:
        """What the pipeline shows of the deployment; one that policy accepts is a success."""
        accepted = self.exit_code == 0 or not (self.guarded or self.requires_counts)
        if self.word is Word.INCONCLUSIVE and accepted:
            return PipelineState.SUCCESS
        return _STATES.get(self.word, PipelineState.FAILURE)


def make_ending(
    answer: Mapping[str, object] | None,
    error: Mapping[str, object] | None,
    *,
    environment: str,
    exit_code: int,
    counts: bool = True,
    requires_counts: bool = False,
) -> Ending:
    """Return the ending that guard's result line and the payload of `backout.error/1` tell; either may be missing.

    Args:
        counts: whether a source of counts is set up.
        requires_counts: as of `Ending`.
    """
    told = answer or {}
    failed = error or {}
    word = _describe_answer(told) if answer else _describe_error(failed)
    sentences = [_get_text(failed.get("what")) or _get_text(told.get("reason"))]
    if word is Word.ROLLED_BACK:
        sentences.insert(0, f"version {_get_text(told.get('live_version'))[:8]} is live again")
    elif word in (Word.HELD, Word.REGRESSED, Word.VOID) and not failed:
        sentences.append(_get_text(told.get("why")))
    guarded = counts or word is not Word.INCONCLUSIVE or exit_code != _UNMEASURED or not answer
    return Ending(
        word=word,
        guarded=guarded,
        requires_counts=requires_counts,
        environment=environment,
        sentence=": ".join(dict.fromkeys(sentence for sentence in sentences if sentence)) or "no reason was given",
        exit_code=exit_code,
        live_version=_get_text(told.get("live_version")),
        report_path=_get_text(told.get("report_path")),
        run=_get_text(told.get("run_id")),
        facts=_list_facts(told, failed),
        ways_on=_list_ways_on(failed) if guarded else (_COUNTS,),
    )


def _describe_answer(told: Mapping[str, object]) -> Word:
    action, verdict = _get_text(told.get("action")), _get_text(told.get("verdict"))
    if action == "rollback":
        switched = told.get("live_version") == told.get("to_version") and told.get("state") == "done"
        return Word.ROLLED_BACK if switched else Word.ERROR
    if action in ("refused", "void"):
        return Word(action)
    if verdict == "regressed":
        return Word.REGRESSED if told.get("mode") == "observe" else Word.HELD
    if verdict == "healthy":
        return Word.HEALTHY if action == "stable" else Word.HELD
    waits = action == "hold" and told.get("options")  # a person has to say whether a shift is intended
    return Word.HELD if waits else Word.INCONCLUSIVE


def _describe_error(failed: Mapping[str, object]) -> Word:
    if failed.get("error") == "WorldMoved":
        return Word.VOID
    return {_REFUSED: Word.REFUSED, _UNMEASURED: Word.INCONCLUSIVE}.get(_get_int(failed.get("exit_code")), Word.ERROR)


def _list_facts(told: Mapping[str, object], failed: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    found = told.get("decision")
    decision: Mapping[str, object] = found if isinstance(found, dict) else {}
    requests = _get_int(decision.get("requests"))
    verified = {True: "yes", False: "no"}.get(told.get("verified"), "")  # type: ignore[call-overload] # None is neither
    rows = (
        ("Verdict", _get_text(told.get("verdict"))),
        ("Watched version", _get_text(decision.get("version"))),
        ("Live version, as read back", _get_text(told.get("live_version"))),
        ("Requests", f"{requests:,}, {_get_int(decision.get('errors')):,} failed" if requests else ""),
        ("Watched for", f"{_get_float(decision.get('watched_s')):.0f} s" if decision else ""),
        ("Verified after the rollback", verified if told.get("action") == "rollback" else ""),
        ("Would", _get_text(told.get("would"))),
        ("Safety rule", _get_text(failed.get("rule")) or _get_text(told.get("rule"))),
        ("Where", _get_text(failed.get("where"))),
        ("Run", _get_text(told.get("run_id"))),
        ("Report", _get_text(told.get("report_path"))),
    )
    return tuple((name, value) for name, value in rows if value)


def _list_ways_on(failed: Mapping[str, object]) -> tuple[str, ...]:
    options, mistakes = failed.get("options"), failed.get("mistakes")
    lists = [str(item) for found in (options, mistakes) if isinstance(found, list | tuple) for item in found]
    hint = _get_text(failed.get("hint"))
    return (*lists, *([hint] if hint else []))


def format_markdown(ended: Ending, report: str = "") -> Markdown:
    """Return the page: what happened, the numbers, what may be done next, and the incident report, folded.

    The report is our own page, in which everything from outside is already escaped.
    """
    title = _TITLES[ended.word] if ended.guarded else "⚠️ not guarded: there are no counts"
    lines = [
        md("### backout guard, {}: {}", ended.environment, Markdown(title)),
        md("\n{}\n\n| | |\n|---|---|", ended.sentence),
        *(md("| {} | {} |", cell(name), cell(value)) for name, value in ended.facts),
        md("| Exit code | {} |\n", ended.exit_code),
    ]
    if ended.ways_on:
        lines += [md("What may be done now:\n"), *(md("- {}", way) for way in ended.ways_on), md("")]
    if report:
        folded = Markdown(_cut_to_lines(make_printable(report)))
        lines.append(md("<details><summary>The incident report</summary>\n\n{}\n\n</details>\n", folded))
    return join_parts([*lines, md("")])


def _cut_to_lines(report: str) -> str:
    """Return as many whole lines of a report as fit the page: half a line could leave markup open."""
    if len(report) > MAX_REPORT_CHARACTERS:
        report = report[:MAX_REPORT_CHARACTERS].rpartition("\n")[0]
    return report.rstrip()


def format_outputs(ended: Ending) -> str:
    """Return the lines that name what a pipeline can branch on."""
    values = {
        "result": str(ended.word),
        "live-version": ended.live_version,
        "report-path": ended.report_path,
        "run-id": ended.run,
        "guarded": str(ended.guarded).lower(),
        "requires-counts": str(ended.requires_counts).lower(),
    }
    return "".join(format_output(name, make_printable(value)) for name, value in values.items())


def format_output(name: str, value: str) -> str:
    r"""Return one value as `name=value`, or, with several lines, between two delimiters that do not occur in it.

    >>> format_output("run-id", "guard-1"), format_output("a", "b\nresult=healthy")
    ('run-id=guard-1\n', 'a<<END_0\nb\nresult=healthy\nEND_0\n')
    """
    if len(value.splitlines()) <= 1 and value == value.strip():
        return f"{name}={value}\n"
    number = 0
    while f"END_{number}" in value:
        number += 1
    return f"{name}<<END_{number}\n{value}\nEND_{number}\n"


def describe_ending(ended: Ending) -> str:
    """Return the ending as one line for the deployment's status."""
    word = str(ended.word).replace("_", " ") if ended.guarded else "not guarded"
    return escape_line(f"{word}: {ended.sentence}")


def _get_text(value: object) -> str:
    return "" if value is None else str(value)


def _get_int(value: object) -> int:
    return value if isinstance(value, int) else 0


def _get_float(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
