"""`backout conformance`: ask the real platform, once, the questions that all of this depends on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from backout.cli.support.options import command, pass_shell
from backout.errors import BackoutError, UsageError, WorldMoved

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from backout.cli.support.shell import Shell
    from backout.config import Config
    from backout.model.conformance import Difference, Observation, Trial
    from backout.wiring.conformance import FirstContact, Reach


@command(
    "conformance",
    short_help="Try the real platform: an account, or an environment.",
    epilog="""
Examples:
  backout conformance --dry-run                 # the calls, nothing else
  backout conformance                           # asks, then makes and deletes one Worker of its own
  backout conformance --yes --write conformance.md
  backout conformance --database-env NEON_URL   # also asks about Hyperdrive, which connects to that database
  backout conformance -e production             # of an environment that is not on Cloudflare
""",
)
@click.option("--account-id", metavar="ID", help="Default: CLOUDFLARE_ACCOUNT_ID.")
@click.option("--api-base-url", metavar="URL", help="Default: CLOUDFLARE_API_BASE_URL, else Cloudflare's own.")
@click.option("--ingress-url", metavar="URL", help="Where its Worker answers. Default: its workers.dev address.")
@click.option(
    "--database-env", metavar="NAME", help="The variable with the URL of a Postgres that Hyperdrive can reach."
)
@click.option("-n", "--dry-run", is_flag=True, help="List the calls without making them.")
@click.option("--write", "page_file", type=click.Path(path_type=Path), metavar="FILE", help="Write the dated page.")
@pass_shell
def conformance(
    shell: Shell,
    *,
    account_id: str | None,
    api_base_url: str | None,
    ingress_url: str | None,
    database_env: str | None,
    dry_run: bool,
    page_file: Path | None,
) -> int:
    """Make about fifty harmless calls on a Worker and a queue made for them, and compare every answer with the twin's.

    An environment with `platform.provider = "command"` or "caddy" is tried itself: what is live is made live again a
    few times, which moves no traffic. Commands that pass are pinned; until then guard only observes.

    The token is CLOUDFLARE_API_TOKEN, preferably of a separate account; a free one will do. What is made has an unused
    name, gets no visitors, and is deleted at the end. Exit codes: 0 nothing that matters differs, 1 something does.
    """
    from backout.config import scalars
    from backout.wiring import conformance as wired

    config = None if account_id else _find_elsewhere(shell)
    if config is not None:
        return _try(shell, config, dry_run=dry_run, page_file=page_file)
    account = account_id or shell.environment.get("CLOUDFLARE_ACCOUNT_ID")
    if account is None:
        raise UsageError("which account? CLOUDFLARE_ACCOUNT_ID is not set", hint="add --account-id ID")
    base_url = api_base_url or shell.environment.get("CLOUDFLARE_API_BASE_URL") or scalars.API_BASE_URL
    reach = wired.Reach(account, base_url, ingress_url, database_env)
    contact = wired.plan_first_contact(shell.environment, reach)
    if dry_run:
        return _list(shell, contact)
    from backout.cli.support.confirm import ask

    ask(shell, f"Make a Worker and a queue in account {reach.account_id}, and delete them at the end?", flag="--yes")
    shell.output.say(f"makes and deletes the Worker {contact.script}, and a queue, in account {reach.account_id}")
    return _run(shell, contact, reach, page_file)


def _find_elsewhere(shell: Shell) -> Config | None:
    """Return the configuration of an environment that is not on Cloudflare, None where there is none."""
    try:
        config = shell.config()
        is_elsewhere = not config.environment.platform.is_cloudflare
    except BackoutError:  # a first contact needs no file
        if shell.flags.environment:
            raise
        return None
    return config if is_elsewhere else None


def _try(shell: Shell, config: Config, *, dry_run: bool, page_file: Path | None) -> int:
    from backout.runbook.conformance import has_passed, list_trials, try_platform

    out = shell.output
    if dry_run:
        listed = list_trials()
        calls = [{"name": name, "asks": asks} for name, asks in listed]
        text = "\n".join(f"{number:2}. {name}: {asks}" for number, (name, asks) in enumerate(listed, start=1))
        out.result("conformance", {"dry_run": True, "calls": calls}, text)
        out.say("\nno call was made (dry run)")
        return 0
    import time

    from backout.cli.support.confirm import ask
    from backout.cli.support.paint import paint_for
    from backout.report.trials import format_trial, format_trials_page
    from backout.wiring.conformance import find_fingerprint, write_pin

    ask(shell, f"Make what is live on {config.name} live again, about ten times? It moves no traffic.", flag="--yes")
    seen: list[Trial] = []

    def show(trial: Trial) -> None:
        seen.append(trial)
        out.say(format_trial(trial, len(seen), len(list_trials()), paint=paint_for(out.talk)))

    before = find_fingerprint(config)
    found = try_platform(lambda: shell.toolbox(config), show)
    passed, fingerprint, now = has_passed(found), find_fingerprint(config), time.time()
    if fingerprint != before:
        raise WorldMoved(
            "the commands changed while they were tried", where=config.path.name, hint="the same command again"
        )
    if page_file is not None:
        page = format_trials_page(found, at=now, environment=config.name, fingerprint=fingerprint)
        _write(shell.folder / page_file, page)
    pinned = write_pin(config, fingerprint, now) if passed and fingerprint else None
    record = {
        "dry_run": False,
        "calls": [
            {"name": t.name, "asks": t.asks, "passed": t.passed, "found": t.found, "took_s": t.took_s} for t in found
        ],
        "conforms": passed,
        "pinned": pinned,
        "page": page_file,
    }
    out.result("conformance", record, "It conforms." if passed else "It does NOT conform.")
    if pinned:
        out.say(f"pinned in {config.path.name}: {pinned}")
    out.next(f"backout config check --online -e {config.name}")
    return 0 if passed else 1


def _list(shell: Shell, contact: FirstContact) -> int:
    calls = [{"name": call.name, "asks": call.asks, "proves": list(call.proves)} for call in contact.calls]
    text = "\n".join(f"{number:2}. {call.name}: {call.asks}" for number, call in enumerate(contact.calls, start=1))
    shell.output.result("conformance", {"dry_run": True, "calls": calls}, text)
    shell.output.say("\nno call was made (dry run)")
    return 0


def _run(shell: Shell, contact: FirstContact, reach: Reach, page_file: Path | None) -> int:
    import time

    from backout.analysis.conformance import compare
    from backout.cli.support.paint import paint_for
    from backout.report.conformance import format_differences, format_line, format_page
    from backout.wiring.conformance import load_expected_answers

    proves = {call.name: call.proves for call in contact.calls}
    expected = tuple(one for one in load_expected_answers() if one.name in proves)
    by_name = {one.name: one for one in expected}
    total, seen = len(proves), []

    def show_observation(observation: Observation) -> None:
        seen.append(observation)
        wanted = by_name.get(observation.name)
        differs = compare((wanted,), (observation,)) if wanted else ()
        shell.output.say(format_line(len(seen), total, observation, differs, paint=paint_for(shell.output.talk)))

    observed = contact.observe(show_observation)
    differences = compare(expected, observed)
    if page_file is not None:
        page = format_page(observed, differences, proves, at=time.time(), against=reach.base_url)
        _write(shell.folder / page_file, page)
    matter = [difference for difference in differences if difference.matters]
    style = shell.output.style
    text = format_differences(differences, width=style.width, paint=paint_for(style)) or "Nothing differs that matters."
    shell.output.result("conformance", _record(observed, differences, proves, page_file), text)
    shell.output.next("backout config check  # then set up an environment")
    return 1 if matter else 0


def _record(
    observed: Sequence[Observation],
    differences: Sequence[Difference],
    proves: Mapping[str, Sequence[str]],
    page_file: Path | None,
) -> dict[str, object]:
    return {
        "dry_run": False,
        "calls": [
            {
                "name": o.name,
                "asks": o.asks,
                "proves": list(proves[o.name]),
                "status": o.status,
                "code": o.code,
                "facts": dict(o.facts),
                "measured": dict(o.measured),
            }
            for o in observed
        ],
        "differences": [
            {"call": d.call, "what": d.what, "expected": d.expected, "found": d.found, "matters": d.matters}
            for d in differences
        ],
        "conforms": not any(difference.matters for difference in differences),
        "page": page_file,
    }


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BackoutError(f"cannot be written: {error.strerror}", where=str(path)) from error
