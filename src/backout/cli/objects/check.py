"""`backout objects check`: what the access key may do, and whether a bad moment could be taken back."""

from __future__ import annotations

from math import isinf
from typing import TYPE_CHECKING

import click

from backout.cli.support.options import Command, pass_shell

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell


@click.command(
    "check",
    cls=Command,
    short_help="Check what the access key may do, and whether versions are kept.",
    epilog="""
Examples:
  backout objects check -e production
  backout objects check -e production --json
""",
)
@pass_shell
def check(shell: Shell) -> int:
    """List the bucket; write, read and delete an object of backout's own; ask whether older versions are kept.

    Where they are, what a restore does with them is tried on that object, too. It has a random name below
    .backout-check/ and is deleted again, with its versions where the key may.
    Exit codes: 0 everything is permitted and versions are kept; 1 something is missing.
    """
    from backout.analysis.checkup.objects import describe_lock
    from backout.cli.objects.restore import open_object_tools
    from backout.cli.support.style import Tone
    from backout.model.objects.checks import History, describe_permission
    from backout.report.checkup import make_check_record
    from backout.runbook.objects.check import judge_bucket

    tools, _ = open_object_tools(shell)
    found = judge_bucket(tools)
    look, style = found.look, shell.output.style
    rows = []
    words = dict(look.why)
    for name, is_allowed in look.allowed.items():
        state = "not tried" if is_allowed is None else "yes" if is_allowed else "no"
        tone = Tone.GOOD if is_allowed else Tone.WARN if is_allowed is None else Tone.BAD
        rows.append((describe_permission(name), style.badge(state, tone), words.get(name, "")))
    tone = Tone.GOOD if found.history is not History.NONE else Tone.BAD
    rows.append(("history", style.badge(found.history, tone), found.kept.why))
    if found.lock is not None:
        locked = {True: ("locked", Tone.GOOD), False: ("not locked", Tone.WARN), None: ("not known", Tone.WARN)}
        rows.append(("history is", style.badge(*locked[found.lock.is_locked]), describe_lock(found.lock)))
    human = shell.output.table(("MAY", "", ""), rows, whole=True)
    payload = {
        "environment": tools.environment,
        "bucket": tools.bucket,
        "permissions": dict(look.allowed),
        "why": words,
        "history": found.history,
        "newest_history_age_s": found.newest_age_s,
        "lock": None
        if found.lock is None
        else {
            "locked": found.lock.is_locked,
            "for_s": None if found.lock.for_s is None or isinf(found.lock.for_s) else found.lock.for_s,
            "why": describe_lock(found.lock),
        },
        "clock_ahead_s": found.facts.clock_ahead_s,
        "left": look.left or None,
        "problems": list(found.problems),
        "checks": [make_check_record(each) for each in found.checks],
    }
    shell.output.result("objects", payload, "\n".join([human, *found.problems]))
    return 1 if found.problems else 0
