"""How a command is declared: `command`, `group` and the options that every command takes, before or after its name."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from backout.cli.support.shell import Shell
from backout.escaping import fold_blanks

if TYPE_CHECKING:
    from collections.abc import Callable

pass_shell = click.make_pass_decorator(Shell)
F = TypeVar("F", bound="Callable[..., Any]")

EVERYWHERE = """
Every command takes -e ENV, --config FILE, --json, --color WHEN, --yes,
--no-input, --no-commands, -q and -v; see `backout --help`.
"""


def _keep(ctx: click.Context, param: click.Parameter, value: object) -> None:
    shell = ctx.find_object(Shell)
    if shell and param.name and ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE:
        shell.take(**{param.name: value})


class _Reason(click.ParamType[str]):
    """A person's reason: one line, whatever was pasted, because it appears in lists, pages and commands to copy."""

    name = "why"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002 - click's signature
        """Return it with its line breaks folded."""
        return fold_blanks(str(value))


REASON = _Reason()
"""The type of every `-m WHY`."""


class Amount(click.FloatRange):
    """A number of a range: finite, so that "nan", which lies in every range, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number. Raises click.BadParameter: it is none, or out of range."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class FolderName(click.ParamType[Path]):
    """A folder's name; an empty one, as of a variable that is not set, is none: `Path("")` is where one stands."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path. Raises click.BadParameter: it is empty."""
        if not str(value):
            self.fail("it is empty.", param, ctx)
        return Path(value)


def _make_option(*names: str, help: str, **kwargs: Any) -> click.Option:
    return click.Option(names, help=help, expose_value=False, callback=_keep, **kwargs)


def make_global_options() -> list[click.Parameter]:
    """Return fresh global options; the one typed last wins."""
    return [
        _make_option("-e", "--environment", metavar="ENV", help="The environment in backout.toml."),
        _make_option("--config", metavar="FILE", help="Default: backout.toml here or in a folder above."),
        _make_option("--json", is_flag=True, is_eager=True, help="One JSON object (or JSON lines) on stdout."),
        _make_option(
            "--color",
            type=click.Choice(["auto", "always", "never"]),
            is_eager=True,
            help="When to use colour; default: auto.",
        ),
        _make_option("--yes", is_flag=True, help="Answer yes to questions; never overrides a refusal."),
        _make_option("--no-input", is_flag=True, help="Never ask; exit 3 where an answer is needed."),
        _make_option("--no-commands", is_flag=True, help="Do not run programs that backout.toml names."),
        _make_option("-q", "--quiet", is_flag=True, is_eager=True, help="Only data and errors."),
        _make_option("-v", "--verbose", count=True, is_eager=True, help="More output; tracebacks."),
    ]


HELP = ("-h", "--help")


class Command(click.Command):
    """A command that also takes the global options."""

    def get_help_option_names(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Return both, in whatever context it is asked first: click keeps the option of the first one."""
        return [*HELP]

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return its own options, then the global ones."""
        return [*super().get_params(ctx), *make_global_options()]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write its own options, and one sentence about the global ones."""
        _write_own_options(self, ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the examples as they are typed."""
        _write_examples(self.epilog, formatter)


class Group(click.Group):
    """A group whose commands, and which itself, take the global options."""

    command_class = Command

    def get_help_option_names(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Return both, in whatever context it is asked first: click keeps the option of the first one."""
        return [*HELP]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command.

        Raises:
            click.UsageError: there is no such command; the nearest known one is named.
        """
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], known, n=1)
            hint = f", did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
            raise click.UsageError(f"no command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return its own options, then the global ones."""
        return [*super().get_params(ctx), *make_global_options()]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, its own options, and one sentence about the global ones."""
        self.format_commands(ctx, formatter)
        _write_own_options(self, ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """Write the examples as they are typed."""
        _write_examples(self.epilog, formatter)


Group.group_class = Group


def command(name: str, **kwargs: Any) -> Callable[[F], Command]:
    """Declare a top-level command: returns an int exit code or None for 0."""
    return click.command(name, cls=Command, **kwargs)


def group(name: str, **kwargs: Any) -> Callable[[F], Group]:
    """Declare a group; its commands come from `@name.command("...")`."""
    return click.group(name, cls=Group, **kwargs)


def _write_own_options(self: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    shared = {param.name for param in make_global_options()}
    records = [param.get_help_record(ctx) for param in self.get_params(ctx) if param.name not in shared]
    own = [record for record in records if record and record[1]]  # an argument without help is in the usage line
    if own:
        with formatter.section("Options"):
            formatter.write_dl(own)
    formatter.write(EVERYWHERE)


def _write_examples(text: str | None, formatter: click.HelpFormatter) -> None:
    if text:
        formatter.write_paragraph()
        formatter.write(text.strip("\n") + "\n")
