"""Record docs/examples/night.md: a night's tasks, typed into the installed program on a twin, and its answers.

Run it as `.venv/bin/python tools/record_night.py`; it takes some minutes. Answers are unedited except for the path
of the folder, which is written as `~/shop`. It ends with exit code 1, and writes nothing, when a task ends with an
unexpected exit code, or takes longer than a minute.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from recorded_shell import type_line

from backout.providers.node import write_programs
from backout.twin import remote
from backout.twin.stage import Pace, Stage

if TYPE_CHECKING:
    import subprocess

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "examples" / "night.md"
COLUMNS = 96
WITHIN_S = 60.0
VISITORS_PER_S = 60
ENV = "-e production"
MIGRATION = "20261127231500_loyalty"
BAD_SQL = "UPDATE orders SET email = email || '.invalid'"
ORDERS = """
INSERT INTO orders (model_id, quantity, email, total_cents, confirmed_at)
SELECT 1, 1, 'customer' || n || '@example.com', 450, now() FROM generate_series({first}, {last}) AS n
"""
BEGUN = """
INSERT INTO _prisma_migrations (id, checksum, migration_name, started_at, finished_at, applied_steps_count)
VALUES ('loyalty', '{checksum}', '{name}', now(), NULL, 0)
"""
DONE = "UPDATE _prisma_migrations SET finished_at = now(), applied_steps_count = 1 WHERE id = 'loyalty'"

INTRO = f"""# A night

Every task of a night on call, typed by a user who has only the installed program and the task, on a [twin](../twin.md)
with the sample application, sixty visitors a second and a real Postgres. Made on DAY by
`.venv/bin/python tools/record_night.py`. The answers are unedited but for the folder's path, `~/shop`. Each task took
less than {WITHIN_S:.0f} s, verification included; what stands in italics happened meanwhile.
"""


@dataclass
class Night:
    """A stage, and the commands and answers on it; `wrong`: commands with an unexpected result."""

    stage: Stage
    page: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Where everything is typed."""
        return self.stage.directory

    def meanwhile(self, words: str) -> None:
        """Say what happened between two commands."""
        print(f"({words})")
        self.page.append(f"*{words}*\n")

    def do(self, words: str, *lines: str, codes: tuple[int, ...] = (0,)) -> None:
        """Type the lines of a task and keep the answers; `codes`: how each of them may end."""
        began, shown = time.monotonic(), []
        for line in lines:
            done = self.type(line)
            shown.append(f"$ {line}\n{done.stdout.replace(str(self.folder), '~/shop')}".rstrip())
            if done.returncode not in codes:
                self.wrong.append(f"{line}: exit code {done.returncode}")
            if done.returncode != 0:
                shown.append(f"[exit code {done.returncode}]")
        took_s = time.monotonic() - began
        print(f"{took_s:5.1f} s  {words}")
        if took_s > WITHIN_S:
            self.wrong.append(f"{words}: {took_s:.0f} s")
        text = "\n".join(shown)
        self.page.append(f"## {words}\n\n```console\n{text}\n```\n")

    def type(self, line: str) -> subprocess.CompletedProcess[str]:
        """Type one line into a shell of the folder."""
        return type_line(line, self.folder, columns=COLUMNS, programs=str(self.folder / "twin" / "bin"))

    def sql(self, *statements: str) -> None:
        """Run statements on the application's database, one at a time."""
        with psycopg.connect(str(self.stage.twin.postgres_dsn), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def spoil(self) -> None:
        """Apply a migration that damages rows, as the team's tool does, and have customers order since."""
        checksum = hashlib.sha256(BAD_SQL.encode()).hexdigest()
        self.sql(BEGUN.format(checksum=checksum, name=MIGRATION), BAD_SQL, DONE, ORDERS.format(first=201, last=207))


def prepared(night: Night) -> None:
    """Have a good version live, proven and backed up."""
    stage = night.stage
    write_programs(night.folder / "twin" / "bin")  # as `twin env` does: the machine's Node may be too old for npx
    text = stage.config_file.read_text(encoding="utf-8")
    text = text.replace("p99_at_most = 4.0", "p99_at_most = 50.0").replace("below = 0.01", "below = 0.05")
    text = text.replace(', migrations = "prisma" }', ', migrations = "prisma", backup = { wal = "stream" } }')
    needs = 'secrets = { required = ["JWT_SECRET", "EMAIL_API_KEY"] }\nhealth = '
    stage.config_file.write_text(text.replace("health = ", needs, 1), encoding="utf-8")
    night.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'", "SELECT pg_reload_conf()")
    night.sql(ORDERS.format(first=1, last=200))
    stage.deploy("good")
    for words in ("guard --early", "db wal start", "db backup", "init --pin"):
        done = night.type(f"backout {words} {ENV}")
        if done.returncode != 0:
            sys.exit(f"{words}: {done.stdout}")


def recorded(folder: Path) -> Night:
    """Return the whole night."""
    night = Night(Stage(folder, Pace(watch_s=25, error_rate_for_s=8, quiet_s=2)))
    night.stage.set_up()
    try:
        with night.stage.visitors(VISITORS_PER_S):
            prepared(night)
            bad_deployments(night)
            damaged_rows(night)
            out_of_reach(night)
    finally:
        night.type(f"backout db wal stop {ENV}")
        night.stage.tear_down()
    return night


def bad_deployments(night: Night) -> None:
    """Have two deployments go wrong, and a secret rotated."""
    night.do("You are called. What is live, and is it well?", f"backout status {ENV}")
    night.do("Is everything there for a bad night?", f"backout doctor {ENV}", codes=(0, 1))

    night.stage.deploy("throws-on-one-route")
    night.meanwhile("A colleague deploys, and no guard watches it.")
    time.sleep(5)
    night.do("Is guard watching?", f"backout status {ENV}", f"backout runs list {ENV}", codes=(0, 1))
    night.do("Something is wrong. What is it, and does a rollback help?", f"backout diagnose {ENV}", codes=(0, 1))
    night.do(
        "Go back to the last good version.",
        f"backout rollback --dry-run {ENV}",
        f'backout rollback {ENV} -m "500s on /api/models" --confirm production',
    )

    night.stage.deploy("errors-all")
    night.meanwhile("A fix is deployed, and it is worse.")
    time.sleep(3)
    night.do("It is on fire.", f'backout panic {ENV} -m "every page is an error"')
    night.do(
        "Nothing automatic may happen while you repair data.",
        f'backout hold {ENV} --for 30m -m "repairing orders by hand"',
        f"backout unhold {ENV}",
    )
    put = f'backout secrets put EMAIL_API_KEY {ENV} -m "the provider rotated it" --confirm production'
    night.do(
        "A secret was rotated; the new value has to go in.",
        f"backout secrets check {ENV}",
        f"printf %s the-new-key | {put}",
    )


def damaged_rows(night: Night) -> None:
    """Have a migration damage rows, and what was done looked at."""
    night.spoil()
    moment = datetime.now(UTC).strftime("%H:%M:%S")
    night.meanwhile(f"Migration {MIGRATION} puts .invalid behind every address; customers go on ordering.")
    restore = f'backout db restore "before migration {MIGRATION}" {ENV}'
    night.do("What did that migration do to the data, and can it come back?", f"{restore} --dry-run")
    night.do(
        "Bring the addresses back, and keep what was ordered since.",
        f'{restore} --rescue -m "addresses damaged" --confirm production',
    )
    night.do(f"Who did what, and what was live at {moment}?", f"backout timeline {ENV} --at {moment}")
    night.do("The report of it.", f"backout incident list {ENV}", f"backout incident show {ENV}")
    night.do("Did anybody change the record of it?", "backout audit verify")


def out_of_reach(night: Night) -> None:
    """Take the API away, then the journal."""
    remote.set_fault(night.stage.twin, {"kind": "api-down"})
    night.meanwhile("The platform's API is down.")
    night.do("What is live now?", f"backout status {ENV}", codes=(7,))
    night.do("It is on fire again, and the API is down.", f"backout panic {ENV}", codes=(7,))
    remote.clear_faults(night.stage.twin, "api-down", None)

    night.meanwhile("The API is back; the disk has damaged backout's own journal.")
    journal = night.folder / "journal.sqlite"
    kept = journal.read_bytes()
    journal.write_bytes(b"\xa5" * len(kept))
    lines = ("status {env}", "card {env}", 'hold {env} --for 30m -m "the journal is damaged"', "unhold {env}")
    night.do("Does it still answer?", *(f"backout {line.format(env=ENV)}" for line in lines), codes=(0, 1))
    journal.write_bytes(kept)
    night.do("Who was told?", f"backout notify list {ENV}")


def main() -> int:
    """Record the night and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="write there, whatever went wrong, and not into docs/")
    kept = parser.parse_args().keep
    with tempfile.TemporaryDirectory(prefix="night-") as folder:
        night = recorded(Path(folder).resolve() / "shop")
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    page = "\n".join([INTRO.replace("DAY", day), *night.page]).rstrip() + "\n"
    for words in night.wrong:
        print(f"wrong: {words}")
    if kept is not None:
        kept.write_text(page, encoding="utf-8")
    elif not night.wrong:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page, encoding="utf-8")
    return 1 if night.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
