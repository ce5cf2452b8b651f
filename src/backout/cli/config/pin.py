"""`backout init --pin`: read who an environment is, and write it into backout.toml (safety rule 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import asdict

from backout import config as configuration
from backout.config.init.pinning import format_table, set_pin
from backout.errors import BackoutError, ConfigError, DecisionNeeded, Refused, Unmeasured
from backout.model.value import Value
from backout.private import rewrite
from backout.rules import SafetyRule
from backout.wiring.declared import explain_other_worker
from backout.wiring.identity import get_pinned_identity, make_identities
from backout.wiring.other_platform import find_other_platform

if TYPE_CHECKING:
    from pathlib import Path

    from backout.cli.support.shell import Shell
    from backout.config import Config

_PATIENCE_S = 10.0
"""How long a first `init` waits for the provider; without an answer the pin is left out."""


class Pinned(Value, frozen=True):
    """What was pinned before and now; `text` is the whole file."""

    environment: str
    path: Path
    old: dict[str, str | None]
    new: dict[str, str]
    text: str

    def record(self) -> dict[str, object]:
        """Return it as JSON values."""
        return {name: {"old": self.old[name], "new": self.new.get(name)} for name in self.old}


def pin(shell: Shell, *, force: bool, dry_run: bool) -> int:
    """Ask who the chosen environment is, show old and new, and write what is new."""
    loaded = shell.config()
    found = _ask_identities(loaded, force=force)
    if not dry_run:
        rewrite(found.path, found.text)
    out = shell.output
    if other := explain_other_worker(loaded):
        out.warn(other)
    rows = [(name, found.old[name] or "not pinned", found.new.get(name, "not readable")) for name in found.old]
    payload = {
        "path": found.path,
        "written": not dry_run,
        "environments": (found.environment,),
        "mistakes": (),
        "text": found.text,
        "pin": found.record(),
    }
    out.result("init", payload, out.table(("", "BEFORE", "NOW"), rows))
    out.say("\nnothing was changed (dry run)" if dry_run else f"\npinned in {found.path.name}")
    out.next(f"backout config check --online -e {found.environment}")
    return 0


def pin_new_file(shell: Shell, names: tuple[str, ...], file: Path) -> None:
    """Pin each environment of a file just written, as far as the provider tells; what is left out is said."""
    for name in names:
        try:
            loaded = configuration.load(shell.environment, start=shell.folder, path=file, environment=name)
            found = _ask_identities(loaded, force=False, within_s=_PATIENCE_S)
            rewrite(found.path, found.text)
        except BackoutError as error:
            why = "; ".join(error.mistakes) if isinstance(error, ConfigError) else error.what
            shell.output.say(f"{name}: not pinned: {why}")


def _ask_identities(loaded: Config, *, force: bool, within_s: float | None = None) -> Pinned:
    """Return what to write.

    Raises:
        Refused: another pin is there.
        Unmeasured: there is no such Worker.
        DecisionNeeded: the file cannot be edited.
        ConfigError: another environment has the same identity.
        AuthError, ProviderUnavailable: as the API says.
    """
    old = asdict(get_pinned_identity(loaded))
    read = asdict(make_identities(loaded, within_s).read())
    new = {name: value for name, value in read.items() if value is not None}
    if "script_tag" not in new:
        other = find_other_platform(loaded)
        if other is not None:
            raise other.explain_no_tag()
        script = loaded.environment.platform.script
        raise Unmeasured(
            f"there is no Worker called {script} in account {loaded.account_id}, so there is nothing to pin",
            where=f"environments.{loaded.name}.platform.script",
            hint="deploy once, then the same command again",
        )
    _refuse_change(loaded, old, new, force=force)
    with loaded.path.open(encoding="utf-8", newline="") as file:
        text = set_pin(file.read(), loaded.name, new)
    if text is None:
        raise DecisionNeeded(
            f"{loaded.path.name} is written in a way that backout does not edit; add this by hand: "
            + ", ".join(format_table(loaded.name, new)[1:]),
            where=f"environments.{loaded.name}.pin",
        )
    mistakes = configuration.find_mistakes(text, loaded.path)
    if mistakes:
        raise ConfigError(mistakes, hint="nothing was written; correct what the environments share")
    return Pinned(loaded.name, loaded.path, old, new, text)


def _refuse_change(loaded: Config, old: dict[str, str | None], new: dict[str, str], *, force: bool) -> None:
    changed = [name for name, value in new.items() if old[name] not in (None, value)]
    if not changed or force:
        return
    shown = "; ".join(f"{name}: pinned {old[name]}, found {new[name]}" for name in changed)
    raise Refused(
        f"another identity is pinned already: {shown}",
        where=f"environments.{loaded.name}.pin",
        rule=SafetyRule.IDENTITY,
        options=(
            "if the pin is right, correct what backout.toml names (account, script, database, bucket, health)",
            f"if the environment was rebuilt on purpose: `backout init --pin --force -e {loaded.name}`",
        ),
    )
