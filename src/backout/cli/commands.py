"""The table of all commands."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """One command: name, where it is ("module:attribute"), and its line in `--help`."""

    name: str
    home: str
    summary: str


COMMANDS: dict[str, tuple[Entry, ...]] = {
    "Set up": (
        Entry("init", "backout.cli.config.init:init", "Write backout.toml from the files in this folder."),
        Entry("config", "backout.cli.config.config:config", "Show the effective settings, or check the file."),
        Entry("doctor", "backout.cli.doctor:doctor", "Check readiness for an incident, and how to close each gap."),
        Entry("demo", "backout.cli.demo:demo", "See it all happen on a local twin."),
    ),
    "Watch and act": (
        Entry("preflight", "backout.cli.preflight:preflight", "Before a deployment: could it be taken back?"),
        Entry("status", "backout.cli.status:status", "Show what is live and how it is doing."),
        Entry("diagnose", "backout.cli.diagnose.group:diagnose", "Name the scenario, what caused it, and the proof."),
        Entry("guard", "backout.cli.guard.guard:guard", "Watch a new deployment; roll back if it regressed."),
        Entry("worker", "backout.cli.worker:worker", "Guard every environment, on any number of machines."),
        Entry("serve", "backout.cli.serve.group:serve", "Pages behind the notice: what happened, and three buttons."),
        Entry("watch", "backout.cli.watch:watch", "Watch health, errors, response times; it never acts."),
        Entry("rollback", "backout.cli.rollback:rollback", "Go back to the last stable version, or to TARGET."),
        Entry("roll-forward", "backout.cli.roll_forward:roll_forward", "Deploy a fix, and prove it."),
        Entry("panic", "backout.cli.panic:panic", "Roll back now: no questions, the safest allowed action."),
        Entry("hold", "backout.cli.hold:hold", "Stop every automatic action, on every machine."),
        Entry("unhold", "backout.cli.hold:unhold", "Allow automatic actions again."),
        Entry("deployments", "backout.cli.deployments:deployments", "List, show and release deployments."),
        Entry("release", "backout.cli.release.group:release", "Releases on this host behind Caddy."),
    ),
    "Data": (
        Entry("secrets", "backout.cli.secrets.group:secrets", "List and check secrets; set what is missing."),
        Entry("db", "backout.cli.db.group:db", "Database migrations, backups and restores."),
        Entry("unfence", "backout.cli.unfence:unfence", "Open the database that a recovery has fenced."),
        Entry("objects", "backout.cli.objects.group:objects", "Check the bucket; bring objects back to a moment."),
        Entry("recover", "backout.cli.recover:recover", "Take code, database, objects and secrets back."),
    ),
    "Look back": (
        Entry("runs", "backout.cli.runs:runs", "List, show, approve, pause, resume and abort runs."),
        Entry("timeline", "backout.cli.timeline:timeline", "What happened, who did it, and what was live at 03:00."),
        Entry("incident", "backout.cli.incident.group:incident", "Incidents: who was told, what was done; reports."),
        Entry("runbook", "backout.cli.runbook:runbook", "The runbook with real names; what of it is no longer so."),
        Entry("dora", "backout.cli.dora:dora", "Deployment frequency, lead time, failures, recovery."),
        Entry("audit", "backout.cli.audit:audit", "Check that the journal is intact and holds no secret."),
        Entry("journal", "backout.cli.journal:journal", "Move the journal to a server that a team shares."),
        Entry("notify", "backout.cli.notify:notify", "Test the channels; list what was sent and what waits."),
        Entry("card", "backout.cli.card:card", "One page of commands for when backout itself is gone."),
    ),
    "Try safely": (
        Entry("certify", "backout.cli.certify:certify", "Try the way back before it counts."),
        Entry("twin", "backout.cli.twin:twin", "A local cloud: start, stop, inspect, break."),
        Entry("drill", "backout.cli.drill.group:drill", "Break something on purpose, and measure what follows."),
        Entry("conformance", "backout.cli.conformance:conformance", "Compare the twin with a real account."),
    ),
    "Help": (
        Entry(
            "explain",
            "backout.cli.diagnose.explain_label:explain",
            "What a diagnosis label means, and what to do.",
        ),
        Entry("help", "backout.cli.help:help_", "Help on a command, or on exit-codes."),
        Entry("completion", "backout.cli.completion:completion", "Print the completion script for bash, zsh or fish."),
    ),
}


def list_entries() -> dict[str, Entry]:
    """Return all commands by name, in the order of `--help`."""
    return {entry.name: entry for section in COMMANDS.values() for entry in section}
