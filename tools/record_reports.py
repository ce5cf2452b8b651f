"""Record three incident reports for docs/examples, with their pictures: made by the real commands on a twin.

Run it as `.venv/bin/python tools/record_reports.py`; it takes some minutes. One incident is found and ended by guard,
one by a person, and one is of damaged rows. What people know is written into the open parts, as a team would, and the
report is written once more around it. The reports are unedited but for the names of the machine and of its folder. It
ends with exit code 1, and writes nothing, when a command ends with an unexpected exit code.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from record_night import BAD_SQL, ENV, MIGRATION, ROOT, Night, prepared

from backout.report.incident.incident import OPEN
from backout.twin.stage import Pace, Stage
from backout.wiring.records import find_actor

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGES = ROOT / "docs" / "examples"
ACTOR = "ada@laptop"
VISITORS_PER_S = 40
CONTACTS = """
[contacts]
on_call = { name = "Ada", role = "on call", reach = "+49 30 5550100" }
database = { name = "Grace", role = "database", reach = "+49 30 5550101", helps = ["database"] }
"""
_OPEN = re.compile(rf"^{re.escape(OPEN)}.*$", re.MULTILINE)

INTRO = """# Three incidents

What somebody who was not there finds the next morning: the reports of three incidents, each with its picture. Made on
DAY by `.venv/bin/python tools/record_reports.py`, by the real commands on a [twin](../twin.md) with the sample
application, forty visitors a second and a real Postgres; unedited but for the names of the machine and its folder. The
facts between the markers are backout's. What people wrote stands outside of them, and stayed when the report was
written again. The people are invented.

| report | what broke | who ended it |
|---|---|---|
| [incident-guard.md](incident-guard.md) | one route failed after a deployment | guard, by a rollback |
| [incident-person.md](incident-person.md) | every page failed, and nobody watched | the person on call, by a rollback |
| [incident-rows.md](incident-rows.md) | a migration damaged rows | the person on call, who brought them back |

What was typed for each, besides the deployments themselves:
"""
GUARD = (
    "New code of `GET /api/models` reads a field that only models of this year have; the fixture has no older ones.",
    "A copy of last year's rows in the fixture would have failed in CI.",
    "Nothing else: the deployment alone was enough.",
    "A check of `/api/models` in `guard.synthetic`: it asks before visitors do.",
    "Guard was in mode `act`, and the version before was proven.",
    "Customers were told only when it was over.",
    "The route is read only: no order was lost.",
)
PERSON = (
    "The start of the new version reads `CATALOGUE_URL`, which is set in staging and not in production.",
    "Naming the variable in `secrets.required`: preflight would have refused the deployment.",
    "The deployment was made by hand, beside the pipeline, so that no guard watched it.",
    "Guard with `--follow` on the host of the on-call: it sees deployments of anybody.",
    "The plan named the target and the reason; nobody had to look for the last good version.",
    "A customer told us first.",
    "It was deployed at noon, not on Friday evening.",
)
ROWS = (
    "The migration was meant for rows of the test tenant; its WHERE was lost in a rebase.",
    "A review of migrations by a second person, and `backout db migrations check` in CI.",
    "The migration ran in the pipeline, before anybody looked at its effect.",
    "An alert on bounced mails: the addresses were wrong for everybody at once.",
    "WAL was received, so that the moment before the migration could be named by its name.",
    "The first reflex was a rollback of the code, which would have changed nothing in the rows.",
    "Customers went on ordering, and none of the new orders was touched.",
)


def type_all(night: Night, title: str, *lines: str, codes: tuple[int, ...] = (0,)) -> None:
    """Type lines, and keep them for the page; their answers are the reports."""
    for line in lines:
        began, done = time.monotonic(), night.type(line)
        print(f"{time.monotonic() - began:5.1f} s  {line}: {done.returncode}")
        if done.returncode not in codes:
            night.wrong.append(f"{line}: exit code {done.returncode}\n{done.stdout}")
    night.page.append(f"**{title}**\n\n```console\n" + "".join(f"$ {line}\n" for line in lines) + "```\n")


def finish(night: Night, name: str, said: Sequence[str]) -> None:
    """Give the newest report its name, write into it what people know, and have the facts written again."""
    folder = night.folder / "incidents"
    newest = max(folder.glob("*.md"), key=lambda path: path.stat().st_mtime)
    words = iter(said)
    text = _OPEN.sub(lambda _: next(words), newest.read_text(encoding="utf-8"))
    newest.with_suffix(".svg").unlink(missing_ok=True)
    newest.unlink()
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    done = night.type(f"backout incident report {ENV}")
    if done.returncode != 0 or list(words):
        night.wrong.append(f"{name}: {done.stdout}{list(words)}")


def guard_ends_it(night: Night) -> None:
    """Have guard find a bad deployment and roll it back, and people take it over."""
    night.stage.deploy("throws-on-one-route")
    type_all(night, "Guard finds it, and rolls back", f"backout guard --mode act {ENV}", codes=(1,))
    type_all(
        night,
        "Somebody takes it over",
        f'backout incident ack -m "I look at it" {ENV}',
        f'backout incident note -m "only GET /api/models; visitors saw an empty catalogue" {ENV}',
        f'backout incident note -m "the old code runs; no order was lost" {ENV}',
        f'backout incident update -m "The catalogue was not shown to some visitors; it is again." {ENV}',
        f'backout incident action -m "add last year\'s models to the fixture" --kind prevent --owner ada '
        f"--due 2026-12-08 {ENV}",
        f'backout incident action -m "check /api/models in guard.synthetic" --kind detect --owner grace {ENV}',
        f'backout incident resolve -m "rolled back by guard, verified" {ENV}',
    )
    finish(night, "incident-guard", GUARD)


def a_person_ends_it(night: Night) -> None:
    """Have everything fail, and a person roll back."""
    night.stage.deploy("errors-all")
    time.sleep(12)
    type_all(
        night,
        "A customer calls",
        f'backout incident open "every page is an error" --severity critical {ENV}',
        f'backout incident ack -m "going back" {ENV}',
    )
    type_all(
        night,
        "The person on call rolls back",
        f'backout rollback {ENV} -m "every page is an error" --confirm production',
    )
    type_all(
        night,
        "And says what has to be done",
        f'backout incident note -m "deployed by hand at noon, not by the pipeline" {ENV}',
        f'backout incident update -m "The shop did not answer for some minutes; it is well again." {ENV}',
        f'backout incident action -m "name CATALOGUE_URL in secrets.required" --kind prevent --owner ada {ENV}',
        f'backout incident action -m "run guard --follow on the on-call host" --kind detect --owner ada {ENV}',
        f'backout incident resolve -m "rolled back by hand" {ENV}',
    )
    finish(night, "incident-person", PERSON)


def rows_are_brought_back(night: Night) -> None:
    """Have a migration damage rows, and a person bring them back."""
    night.spoil()
    restore = f'backout db restore "before migration {MIGRATION}" {ENV}'
    type_all(
        night,
        f"A migration ran: {BAD_SQL}",
        f"{restore} --dry-run",
        f'{restore} --rescue -m "addresses damaged" --confirm production',
    )
    type_all(
        night,
        "What is left to do",
        f'backout incident note -m "no mail could be delivered from 200 orders on" {ENV}',
        f'backout incident update -m "Confirmations of today\'s orders are sent again tonight." {ENV}',
        f'backout incident action -m "send the confirmations again" --kind mitigate --owner grace {ENV}',
        f'backout incident action -m "a second review for migrations" --kind process --owner ada {ENV}',
    )
    type_all(night, "The report", f"backout incident report {ENV}")
    finish(night, "incident-rows", ROWS)


def record(folder: Path) -> tuple[Night, dict[str, str]]:
    """Return what was typed, and the files of the reports by name."""
    night = Night(Stage(folder, Pace(watch_s=25, error_rate_for_s=8, quiet_s=2)))
    night.stage.set_up()
    try:
        with night.stage.visitors(VISITORS_PER_S):
            prepared(night)
            with night.stage.config_file.open("a", encoding="utf-8") as file:
                file.write(CONTACTS)
            guard_ends_it(night)
            a_person_ends_it(night)
            rows_are_brought_back(night)
    finally:
        night.type(f"backout db wal stop {ENV}")
        night.stage.tear_down()
    found = {path.name: path.read_text(encoding="utf-8") for path in (night.folder / "incidents").glob("incident-*")}
    plain = {find_actor(): ACTOR, str(night.folder): "~/shop"}
    for name, text in found.items():
        for ours, shown in plain.items():
            text = text.replace(ours, shown)  # noqa: PLW2901 the same text
        found[name] = text
    return night, found


def main() -> int:
    """Record the reports and write the pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="write there, whatever went wrong, and not into docs/")
    kept = parser.parse_args().keep
    with tempfile.TemporaryDirectory(prefix="reports-") as folder:
        night, files = record(Path(folder).resolve() / "shop")
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    files["incidents.md"] = "\n".join([INTRO.replace("DAY", day), *night.page]).rstrip() + "\n"
    for words in night.wrong:
        print(f"wrong: {words}")
    place = PAGES if kept is None else kept
    if kept is not None or not night.wrong:
        place.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (place / name).write_text(text, encoding="utf-8")
    return 1 if night.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
