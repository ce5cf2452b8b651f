"""The frame around each command, whose module is imported only when that command runs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from backout import __version__
from backout.cli.commands import COMMANDS, list_entries
from backout.cli.support import errors
from backout.cli.support.options import Group
from backout.cli.support.shell import Shell
from backout.errors import BackoutError, Interrupted

if TYPE_CHECKING:
    from collections.abc import Sequence


EXAMPLES = """
Examples:
  backout demo                                  # all of it on a local twin
  backout guard -e production                   # watch the newest deployment
  backout rollback -e production -m "5xx on /api"
  backout rollback --dry-run -e production      # the plan, and why this target
"""


class Root(Group):
    """The root group; it knows its commands from the table and imports one when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Return the names of all commands."""
        return list(list_entries())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command.

        Raises:
            click.UsageError: the module of the command is not part of this build.
            TypeError: the entry names something that is not a command.
        """
        entry = list_entries().get(cmd_name)
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
        width = max(map(len, list_entries()))
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(entry.name.ljust(width), entry.summary) for entry in section])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, the commands, then the options that every command takes."""
        formatter.write(EXAMPLES)
        self.format_commands(ctx, formatter)
        with formatter.section("Options for every command, before or after its name"):
            records = (param.get_help_record(ctx) for param in super().get_params(ctx))
            formatter.write_dl([record for record in records if record])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names from the table alone; options as every command does."""
        names = [
            CompletionItem(e.name, help=e.summary) for e in list_entries().values() if e.name.startswith(incomplete)
        ]
        return names or click.Command.shell_complete(self, ctx, incomplete)


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"backout {__version__}")
        ctx.exit()


root = Root(
    "backout",
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print_version,
            help="Show the version and exit.",
        )
    ],
    help="Watches a new deployment, rolls it back when it is bad, proves the system healthy and writes the report.",
    no_args_is_help=True,
)


def run(arguments: Sequence[str], shell: Shell | None = None) -> int:
    """Run one command line and return its exit code; only the SystemExit of a second Ctrl-C escapes."""
    if shell is None:
        shell = Shell.of_process()
        errors.mask_strays(shell.output)
    shell.begin(arguments)
    code = _run_and_answer(arguments, shell)
    shell.end()
    return code


def _run_and_answer(arguments: Sequence[str], shell: Shell) -> int:
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
        from backout.extras import explain_missing

        part = explain_missing(error)
        return errors.show(part, shell.output) if part else errors.show_unexpected(error, shell.output)
    except Exception as error:  # noqa: BLE001 - the last net: a short message instead of a traceback
        return errors.show_unexpected(error, shell.output)
    return code if isinstance(code, int) else 0
