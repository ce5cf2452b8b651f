"""`backout init --home hosts`: a first backout.toml for releases behind Caddy, and the unit that runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.cli.config.files import write_new_configuration
from backout.cli.support.style import Tone
from backout.errors import ConfigError

if TYPE_CHECKING:
    from backout.cli.support.shell import Shell


def set_up_hosts(shell: Shell, *, force: bool, dry_run: bool) -> int:
    """Write backout.toml and the unit's folder; a unit that is there stays, unless forced.

    Raises:
        DecisionNeeded: there is a backout.toml.
        ConfigError: what was written needs an edit first.
    """
    from backout import config
    from backout.config.init import hosts, project
    from backout.wiring.units import check_unit

    around = project.read_project(shell.folder)
    name = hosts.make_name(around.name or shell.folder.name)
    file, unit = shell.folder / "backout.toml", shell.folder / hosts.FOLDER / hosts.name_unit(name)
    text, unit_text = hosts.draft_hosts(name, around), hosts.format_unit(name, around)
    mistakes = config.find_mistakes(text, file)
    kept = unit.exists() and not force
    if not dry_run:
        write_new_configuration(file, text, force=force)
        if not kept:
            unit.parent.mkdir(exist_ok=True)
            unit.write_text(unit_text, encoding="utf-8")
    checked = check_unit(
        unit.read_text(encoding="utf-8") if kept else unit_text, unit.name, shell.environment.get("PATH")
    )
    payload = {"path": file, "written": not dry_run, "environments": (hosts.ENVIRONMENT,), "mistakes": mistakes}
    payload |= {"text": text, "redirected": None, "left_out": None}
    payload["unit"] = {
        "path": unit,
        "text": unit_text,
        "written": not dry_run and not kept,
        "checked": None if checked is None else not checked,
        "findings": checked or (),
    }
    out = shell.output
    if dry_run:
        out.result("init", payload, f"{text}\n# {unit.parent.name}/{unit.name}\n{unit_text}".rstrip("\n"))
    else:
        out.result("init", payload, out.style.badge(f"wrote backout.toml: {hosts.ENVIRONMENT}", Tone.GOOD))
        stays = "stays as it is" if kept else "written"
        out.say(f"{unit.parent.name}/{unit.name}: {stays}, {_describe_check(checked)}")
    for finding in checked or ():
        out.warn(f"systemd-analyze: {finding}")
    if not around.ignores_records:
        out.say("the journal is in .backout/, which must not be committed: echo .backout/ >> .gitignore")
    if mistakes:
        raise ConfigError(mistakes, hint="edit backout.toml, then: backout config check")
    where = f"-e {hosts.ENVIRONMENT}"
    out.next(
        "edit backout.toml: health, releases, access_log; install the unit as its first lines say",
        f"backout release route {where}  # what Caddy's configuration needs, once",
        f"backout release push DIR {where} --env-file FILE",
        f"backout init --pin {where}",
        f"backout doctor {where}  # what is missing, with the command for each gap",
    )
    return 0


def _describe_check(findings: tuple[str, ...] | None) -> str:
    if findings is None:
        return "not checked (there is no systemd-analyze here), and not run here"
    return f"{'checked' if not findings else 'not accepted'} by `systemd-analyze verify`, and not run here"
