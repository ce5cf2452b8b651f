"""`backout init --workflow`: a workflow of GitHub Actions that deploys, with guard in it; none is overwritten."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import TYPE_CHECKING, Final

from backout.cli.support.style import Tone
from backout.config.schema.environment import TOKEN_ENV
from backout.config.secret_names import list_secret_variables
from backout.errors import DecisionNeeded, UsageError

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell
    from backout.config import Config

_PLACE: Final = ".github/workflows/backout.yml"
_PLAIN: Final = re.compile(r"[A-Za-z][\w-]*", re.ASCII)
_ACCOUNT: Final = "CLOUDFLARE_ACCOUNT_ID"
_TAG: Final = '--tag "${GITHUB_SHA:0:12}"'


def add_workflow(shell: Shell, *, force: bool, dry_run: bool) -> int:
    """Write it for the chosen environment of the backout.toml that is there.

    Raises:
        UsageError: the environment is not on Cloudflare.
        DecisionNeeded: there is a file of that name, and it is not to be overwritten.
    """
    config = shell.config()
    if not config.environment.platform.is_cloudflare:
        raise UsageError(
            f"the workflow deploys with wrangler, and {config.name} is not on Cloudflare",
            hint="docs/github.md has the steps around your own deployment",
        )
    file, text = shell.folder / _PLACE, format_workflow(config)
    payload = {"path": file, "written": not dry_run, "environments": [config.name], "text": text}
    if dry_run:
        shell.output.result("init", payload, text.rstrip("\n"))
        return 0
    if file.exists() and not force:
        raise DecisionNeeded(
            f"{_PLACE} is there already; nothing was changed",
            where=str(file),
            hint="backout init --workflow --dry-run shows the new one, backout init --workflow --force overwrites",
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    shell.output.result("init", payload, shell.output.style.badge(f"wrote {_PLACE}", Tone.GOOD))
    shell.output.say("it runs only when you start it; its first lines say what to fill in")
    return 0


def format_workflow(config: Config) -> str:
    """Return the workflow of an environment: its deployment, and the variables that backout.toml names."""
    text = (resources.files("backout") / "catalogue" / "workflow.yml").read_text(encoding="utf-8")
    name = config.name if _PLAIN.fullmatch(config.name) else json.dumps(config.name)
    lines = "\n".join(f"      {each}" for each in _list_variables(config))
    path, root = config.settings.journal.path, config.path.parent
    journal = f"{path.relative_to(root) if path.is_relative_to(root) else path}*"
    deploy = "\n          ".join(_list_commands(config))
    return (
        text.replace("@NAME@", name)
        .replace("@VARIABLES@", lines)
        .replace("@DEPLOY@", deploy)
        .replace("@JOURNAL@", journal)
    )


def _list_variables(config: Config) -> list[str]:
    settings, environment = config.settings, config.environment
    read = list_secret_variables([environment, settings.notify, settings.marks, settings.journal])
    names = {name for name in read if not name.endswith("_FILE")}
    if environment.platform.token_env is None and environment.platform.token_file is None:
        names.add(TOKEN_ENV)
    account = [] if environment.platform.account_id else [f"{_ACCOUNT}: ${{{{ vars.{_ACCOUNT} }}}}"]
    return [*account, *(f"{name}: ${{{{ secrets.{name} }}}}" for name in sorted(names))]


def _list_commands(config: Config) -> list[str]:
    """Return the lines that deploy; each version bears its commit, where it is known how to say so."""
    given = config.environment.deploy.command
    command = "npx wrangler deploy" if given is None else str(given)
    if re.search(r"[&|;<>\n]", command):
        return command.splitlines()  # what is behind may be another program's
    if re.match(r"(npm|pnpm|yarn) run ", command):
        command += f" -- {_TAG}"
    elif "wrangler deploy" in command:
        command += f" {_TAG}"
    return command.splitlines()
