"""The table of all commands and the frame around each: a command's module is imported only when that command runs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

import click
from click.shell_completion import CompletionItem

from backout import __version__
from backout.cli import errors
from backout.cli.options import Group
from backout.cli.shell import Shell
from backout.errors import BackoutError, Interrupted

if TYPE_CHECKING:
    from collections.abc import Sequence


class Entry(NamedTuple):
    """One command: name, where it is ("module:attribute"), and its line in `--help`."""

    name: str
    home: str
    summary: str


COMMANDS: dict[str, tuple[Entry, ...]] = {
    "Set up": (
        Entry("init", "backout.cli.init:init", "Write backout.toml from what lies in this folder."),
        Entry("config", "backout.cli.config:config", "Show the effective settings, or check the file."),
        Entry("doctor", "backout.cli.doctor:doctor", "Whether all is there for a bad night; what closes each gap."),
        Entry("demo", "backout.cli.demo:demo", "Watch all of it happen on a local twin."),
    ),
    "Watch and act": (
        Entry("status", "backout.cli.status:status", "What is live, and how it is doing."),
        Entry("diagnose", "backout.cli.diagnose:diagnose", "Which scenario it is, what caused it, and the proof."),
        Entry("guard", "backout.cli.guard:guard", "Watch the fresh deployment; roll back if it regressed."),
        Entry("rollback", "backout.cli.rollback:rollback", "Go back to the last stable version, or to TARGET."),
        Entry("roll-forward", "backout.cli.roll_forward:roll_forward", "Deploy what was mended, and prove it."),
        Entry("panic", "backout.cli.panic:panic", "Go back now: no questions, the safest allowed action."),
        Entry("hold", "backout.cli.hold:hold", "Stop every automatic action, on every machine."),
        Entry("unhold", "backout.cli.hold:unhold", "Allow automatic actions again."),
        Entry("deployments", "backout.cli.deployments:deployments", "List, show and release deployments."),
    ),
    "Data": (
        Entry("secrets", "backout.cli.secrets:secrets", "Which secrets are there; set what is missing."),
        Entry("db", "backout.cli.db:db", "Migrations, backups, restores of the database."),
    ),
    "Look back": (
        Entry("runs", "backout.cli.runs:runs", "List, show, resume and abort runs."),
        Entry("timeline", "backout.cli.timeline:timeline", "What happened, and who did it; what was live at 03:00."),
        Entry("incident", "backout.cli.incident:incident", "List and show incident reports."),
        Entry("audit", "backout.cli.audit:audit", "Whether the journal is whole, and holds no secret."),
        Entry("notify", "backout.cli.notify:notify", "Try the channels; what waits to be told."),
        Entry("card", "backout.cli.card:card", "One page of commands for when backout itself is gone."),
    ),
    "Try safely": (
        Entry("twin", "backout.cli.twin:twin", "A local cloud: start, stop, look, break."),
        Entry("conformance", "backout.cli.conformance:conformance", "Ask a real account what the twin believes."),
    ),
    "Help": (
        Entry("explain", "backout.cli.explain_label:explain", "What a label of a diagnosis means, and what to do."),
        Entry("help", "backout.cli.help:help_", "Help on a command, or on: exit-codes."),
        Entry("completion", "backout.cli.completion:completion", "The completion script of bash, zsh or fish."),
    ),
}

EXAMPLES = """
Examples:
  backout demo                                  the whole line on a local twin
  backout guard -e production                   watch the newest deployment
  backout rollback -e production -m "5xx on /api"
  backout rollback --dry-run -e production      the plan, and why this target
"""


def entries() -> dict[str, Entry]:
    """Return all commands by name, in the order of `--help`."""
    return {entry.name: entry for section in COMMANDS.values() for entry in section}


class Root(Group):
    """The root group; it knows its commands from the table and imports one when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Return the names of all commands."""
        return list(entries())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        entry = entries().get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.home.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise click.UsageError(f"`backout {cmd_name}` is not part of this build", ctx) from error
        if not isinstance(found, click.Command):
            raise TypeError(f"{entry.home} is not a command")
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the commands in sections, from the table alone."""
        width = max(map(len, entries()))
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(entry.name.ljust(width), entry.summary) for entry in section])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, the commands, then the options that every command takes."""
        formatter.write(EXAMPLES)
        self.format_commands(ctx, formatter)
        with formatter.section("Options of every command, before or after its name"):
            records = (param.get_help_record(ctx) for param in super().get_params(ctx))
            formatter.write_dl([record for record in records if record])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names from the table alone; options as every command does."""
        names = [CompletionItem(e.name, help=e.summary) for e in entries().values() if e.name.startswith(incomplete)]
        return names or click.Command.shell_complete(self, ctx, incomplete)


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"backout {__version__}")
        ctx.exit()


root = Root(
    "backout",
    params=[
        click.Option(
            ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="The version."
        )
    ],
    help="Watches a fresh deployment, rolls it back when it is bad, proves the system healthy and writes the report.",
    no_args_is_help=True,
)


def run(arguments: Sequence[str], shell: Shell | None = None) -> int:
    """Run one command line and return its exit code; nothing escapes but SystemExit of a second Ctrl-C."""
    if shell is None:
        shell = Shell.of_process()
        errors.mask_strays(shell.output)
    shell.begin(arguments)
    code = _answered(arguments, shell)
    shell.end()
    return code


def _answered(arguments: Sequence[str], shell: Shell) -> int:
    try:
        code = root.main(list(arguments), prog_name="backout", standalone_mode=False, obj=shell)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "backout"
        return errors.show_usage(error.format_message().rstrip("."), f"{path} --help", shell.output)
    except click.ClickException as error:
        return errors.show_usage(error.format_message(), "", shell.output)
    except BackoutError as error:
        return errors.show(shell.in_own_file(error), shell.output, shell.flags.environment)
    except (KeyboardInterrupt, click.Abort):
        return errors.show(Interrupted("interrupted"), shell.output)
    except ModuleNotFoundError as error:
        from backout.extras import lacking  # noqa: PLC0415 - only when one is missing

        part = lacking(error)
        return errors.show(part, shell.output) if part else errors.show_unexpected(error, shell.output)
    except Exception as error:  # noqa: BLE001 - the last net: a short message instead of a traceback
        return errors.show_unexpected(error, shell.output)
    return code if isinstance(code, int) else 0
