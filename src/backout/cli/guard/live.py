"""The live line of a watch, and the steps of a run, as they happen: on stderr, or as JSON lines on stdout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.cli.support.style import Tone, measure_width
from backout.model.guard.probes import NOT_PROVED
from backout.model.guard.verdict import CriterionState, Verdict
from backout.report.event_records import make_criterion_record, make_event_record
from backout.report.guard.monitoring import describe_health
from backout.report.times import format_clock, format_duration, format_percent, format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from backout.cli.support.output import Output
    from backout.model.guard.signals import HealthReport
    from backout.model.guard.verdict import CriterionResult
    from backout.model.incident.incident import Event
    from backout.model.plan import Json, Plan, Step
    from backout.runbook.guard.guard import Tick

QUIET_EVERY_S = 10.0
"""How often an unchanged watch prints a line without a terminal."""
_ACTIONS = {
    "stable": (Tone.GOOD, "marked stable"),
    "accept": (Tone.WARN, "accepted by policy, not marked stable"),
    "rollback": (Tone.NOTE, "rolling back"),
    "ramp": (Tone.GOOD, "moving it up"),
    "hold": (Tone.WARN, "nothing was changed"),
}
FEW = 3
"""Open criteria are named when there are at most this many."""
_TONES = {
    Verdict.HEALTHY: Tone.GOOD,
    Verdict.REGRESSED: Tone.BAD,
    Verdict.INCONCLUSIVE: Tone.WARN,
    Verdict.UNMEASURED: Tone.WARN,
}


class Live:
    """Shows ticks, criteria and events. It decides nothing, and remembers only what was shown last.

    Args:
        name: of the JSON stream's schema.
        stream: whether `--json` gets a line for each tick (guard).
    """

    def __init__(self, output: Output, name: str, plan: Plan | None = None, *, stream: bool = False) -> None:
        self._out = output
        self._name = name
        self._plan = plan
        self._stream = stream and output.json
        self._is_terminal = output.stderr.isatty() and not output.quiet and not output.json
        self._open_line = False
        self._said_at = 0.0
        self._said: object = None
        self._began: dict[int, float] = {}
        self._said_once: set[str] = set()

    def watching(self, news: object) -> None:
        """Show one tick of a watch, or the criteria of a verification."""
        if isinstance(news, tuple):
            self._criteria(news)
        else:
            self._tick(news)  # type: ignore[arg-type] # the toolbox's hook carries exactly these two

    def _tick(self, tick: Tick) -> None:
        decision = tick.decision
        if self._stream:
            self._out.line(self._name, {"type": "tick", **_make_tick_record(tick)})
            return
        style = self._out.talk
        verdict = style.badge(decision.verdict, _TONES[decision.verdict])
        share = f" ({format_percent(decision.errors / decision.requests)})" if decision.requests else ""
        counted = (
            f"{decision.requests:,} requests, {decision.errors:,} failed{share}" if tick.source_ok else "no counts"
        )
        head = f"{format_clock(tick.at)} +{format_duration(tick.elapsed_s)}/{format_duration(tick.for_s)}"
        self._show(
            f"{style.dim(head)}  {counted}  health {_describe_health(tick.health)}  {verdict}",
            decision.verdict,
            tick.at,
        )

    def _criteria(self, results: tuple[CriterionResult, ...]) -> None:
        if self._stream:
            self._out.line(self._name, {"type": "criteria", "criteria": [make_criterion_record(r) for r in results]})
            return
        states = tuple(result.state for result in results)
        waiting = [result.name for result in results if result.state is CriterionState.WAITING]
        absent = [result.name for result in results if result.state is CriterionState.NOT_SET_UP]
        passed = sum(state is CriterionState.PASSED for state in states)
        text = f"{passed} of {len(states) - len(absent)} criteria passed"
        left = f", waiting for: {', '.join(waiting)}" if 0 < len(waiting) <= FEW else ""
        left += f"; not set up: {', '.join(absent)}" if absent else ""
        self._show(text + left, states, None)

    def _show(self, text: str, what: object, at: float | None) -> None:
        """Rewrite the one line on a terminal; elsewhere print when something changed, or every ten seconds."""
        if self._is_terminal:
            width, text = self._out.talk.width - 1, self._out.redactor.redact(text)
            line = text if measure_width(text) <= width else self._out.talk.shorten(text, width)
            self._out.stderr.write("\r\x1b[K" + self._out.talk.plain(line))
            self._out.stderr.flush()
            self._open_line = True
        elif what != self._said or (at is not None and at - self._said_at >= QUIET_EVERY_S):
            self._said, self._said_at = what, at or self._said_at
            self._out.say(text)

    def progress(self, text: str, at: float) -> None:
        """Show the progress of a step: on a terminal at once, elsewhere every ten seconds."""
        self._show(text, self._said, at)

    def event(self, event: Event) -> None:
        """Show a step's end, a resumption, a failure."""
        if self._stream:
            self._out.line(self._name, {"type": "event", **make_event_record(event)})
        if event.kind == "run.submitted":
            self._new_run(event)
        if event.kind == "step.start" and event.step is not None:
            self._began[event.step] = event.at
            if _get_int(event.data, "attempt") > 1:
                self.say(self._describe_resume(event.step))
        elif event.kind == "step.ok" and event.step is not None:
            self._step_done(event, event.step)
        elif event.kind in ("change.began", "change.ended"):
            tone = Tone.BAD if event.kind == "change.began" else Tone.GOOD
            self.say(self._out.talk.badge(f"{event.data['sentence']}", tone))
        elif event.kind in ("step.failed", "run.blocked"):
            self.say(self._out.talk.badge(self._describe_stop(event), Tone.BAD))

    def follow(self, plan: Plan) -> None:
        """Name the steps of this plan from now on."""
        self._plan = plan

    def _new_run(self, event: Event) -> None:
        self._began.clear()
        reason = event.data.get("reason")
        self.say(f"run {event.run}" + (f": {reason}" if reason else ""))

    def _describe_stop(self, event: Event) -> str:
        if self._plan is None or event.step is None or event.step >= len(self._plan.steps):
            return "stopped"
        title = self._plan.steps[event.step].title
        return f"{title}: " + ("failed" if event.kind == "step.failed" else "it is not known whether it happened")

    def _describe_resume(self, step: int) -> str:
        if self._plan is None or step >= len(self._plan.steps):
            return f"going on with step {step + 1}"
        again = self._plan.steps[step]
        asked = "the provider says that it did not happen yet; " if again.action == "activate" else ""
        return f"{asked}going on: {again.title}"

    def _step_done(self, event: Event, step: int) -> None:
        if self._plan is None or step >= len(self._plan.steps):
            return
        took = event.at - self._began.get(step, event.at)
        tone, text = _describe_outcome(self._plan.steps[step], event)
        self.say(f"{self._out.talk.badge(text, tone)}  {self._out.talk.dim(format_duration(took))}")

    def say(self, text: str) -> None:
        """Say something on a line of its own."""
        self.end()
        self._out.say(text)

    def say_once(self, text: str) -> None:
        """Say something unless it was said already: each change that a run makes may find the same."""
        if text not in self._said_once:
            self._said_once.add(text)
            self.say(text)

    def end(self) -> None:
        """Finish an open live line."""
        if self._open_line:
            self._out.stderr.write("\n")
            self._open_line = False


def _describe_outcome(step: Step, event: Event) -> tuple[Tone, str]:
    """Return how a finished step ended: for a judgement its result, for all others what was done."""
    result = event.data.get("result")
    if not isinstance(result, dict):
        return Tone.GOOD, step.title
    if step.action == "watch" and result.get("moved"):
        return Tone.WARN, "overtaken by another deployment"
    if step.action == "watch":
        decision = result.get("decision")
        reason = decision["reason"] if isinstance(decision, dict) else ""
        return _TONES[Verdict(str(result["verdict"]))], f"{result['verdict']}: {reason}"
    if step.action == "conclude":
        action = str(result.get("action"))
        return _ACTIONS.get(action, (Tone.WARN, f"{action}: {result.get('why')}"))
    if step.action == "prove":
        return _describe_proof(result)
    if step.action == "activate":  # of another version than planned when the first target was bad, or carried
        return Tone.GOOD, f"make version {str(result.get('version'))[:8]} live at 100 %"
    if step.action == "restore_schedules" and result.get("restored") is not True:
        return Tone.WARN, f"the schedules were not restored: {result.get('why')}"
    if step.action in ("settle", "settle_forward") and result.get("told") is False:
        return Tone.WARN, "no notice was sent: no channel is set up in [notify]"
    if step.action == "verify" and result.get("verified") is not True:
        return Tone.BAD, f"not verified: {result.get('summary')}"
    return Tone.GOOD, step.title


def _describe_proof(result: Mapping[str, Json]) -> tuple[Tone, str]:
    version, why = str(result.get("version"))[:8], str(result.get("why"))
    if result.get("proved") is True:
        return Tone.GOOD, f"version {version} is proved at 0 % of the traffic: {why}"
    return Tone.WARN, f"version {version} is not proved: {why.removeprefix(NOT_PROVED)}"


def _describe_health(health: HealthReport | None) -> str:
    return "-" if health is None else describe_health(health)


def _make_tick_record(tick: Tick) -> dict[str, object]:
    decision = tick.decision
    return {
        "at": format_time(tick.at),
        "elapsed_s": round(tick.elapsed_s, 3),
        "for_s": tick.for_s,
        "version": tick.version,
        "verdict": decision.verdict,
        "reason": decision.reason,
        "requests": decision.requests,
        "errors": decision.errors,
        "health": _describe_health(tick.health),
        "source_ok": tick.source_ok,
    }


def _get_int(data: Mapping[str, Json], key: str) -> int:
    value = data.get(key)
    return value if isinstance(value, int) else 0
