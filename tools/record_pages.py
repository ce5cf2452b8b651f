"""Record docs/examples/pages.md: five tasks of a night, done in a browser on the pages behind notices, on a twin.

Run it as `.venv/bin/python tools/record_pages.py`; it takes some minutes and needs Debian's Chromium. Every task begins
with the address of a notice that arrived; what becomes of it is compared with another source. It ends with exit code 1,
and writes nothing, when a task takes longer than a minute, or another source says something else. The pictures of the
pages, at three widths in both themes, are written to `--pictures`; the best stand in docs/.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from playwright.sync_api import sync_playwright
from record_night import BAD_SQL, BEGUN, DONE, MIGRATION, ORDERS
from recorded_shell import type_line

from backout.providers.child import find_free_ports, tie_to_parent
from backout.providers.node import write_programs
from backout.twin.stage import Pace, Stage, write_private

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "examples" / "pages.md"
DOCS = ROOT / "docs" / "pages"
PROGRAM = Path(sys.executable).with_name("backout")
CHROMIUM = "/usr/bin/chromium"
WITHIN_S = 60.0
PATIENCE_MS = 300_000
VISITORS_PER_S = 60
ENV = "-e production"
NAME = "production"
SIZES = ((360, 780), (768, 1024), (1440, 900))
KEPT = ("environments-768-light", "rolled-back-1440-dark", "plan-360-light")
"""The pictures that stand in docs/pages/."""

SHORTEN = """(path) => document.querySelectorAll("code").forEach((each) => {
  if (each.textContent.includes(path)) each.textContent = each.textContent.replace(path, "~/shop");
})"""

INTRO = f"""# A night on the pages

For those who want to see what `backout serve` is like before they set it up: five tasks of a night, done in a browser
by somebody who has the notice's link and a login, on a [twin](../twin.md) with the sample application, sixty visitors a
second and a real Postgres. Made on DAY by `.venv/bin/python tools/record_pages.py`. What the pages say is unedited
but for the folder's path, `~/shop`, and empty lines. Each task took less than {WITHIN_S:.0f} s from opening the link.
What became of the rollback, the hold, the recovery and the note was compared with what the platform, the database and
other commands say. What stands in italics happened meanwhile.
"""


class Receiver(ThreadingHTTPServer):
    """Takes webhooks, and keeps the notices."""

    def __init__(self) -> None:
        self.notices: list[dict[str, Any]] = []
        notices = self.notices

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                notices.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_words: object) -> None:
                """Say nothing."""

        super().__init__(("127.0.0.1", 0), Handler)

    def find(self, kind: str, since: int) -> str:
        """Return the page of the next notice of a kind, the address that it has; wait for it."""
        until = time.monotonic() + PATIENCE_MS / 1000
        while time.monotonic() < until:
            for each in self.notices[since:]:
                if each["type"] == f"backout.{kind}" and each["data"].get("page"):
                    return str(each["data"]["page"])
            time.sleep(0.1)
        sys.exit(f"no notice {kind}: {[each['type'] for each in self.notices]}")


@dataclass
class Shift:
    """A stage, the pages in front of it, and what was done."""

    stage: Stage
    receiver: Receiver
    page: Page
    pictures: Path
    text: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    began: float = 0.0

    def type(self, line: str, codes: Sequence[int] = (0,)) -> str:
        """Type one line into a shell of the folder, and return the answer."""
        folder = self.stage.directory
        found = type_line(line, folder, columns=96, programs=str(folder / "twin" / "bin"))
        if found.returncode not in codes:
            sys.exit(f"{line}: exit code {found.returncode}\n{found.stdout}")
        return found.stdout

    def meanwhile(self, words: str) -> None:
        """Say what happened between two tasks."""
        print(f"({words})")
        self.text.append(f"*{words}*\n")

    @contextlib.contextmanager
    def task(self, words: str, link: str) -> Iterator[None]:
        """Do a task from a notice's link; what the page says at the end stands below it."""
        self.began = time.monotonic()
        self.done = [f"The notice's link: `/{link.partition('127.0.0.1')[2].partition('/')[2]}`"]
        self.page.goto(link)
        yield
        took_s = time.monotonic() - self.began
        print(f"{took_s:5.1f} s  {words}")
        if took_s > WITHIN_S:
            self.wrong.append(f"{words}: {took_s:.0f} s")
        said = self.page.locator("main").inner_text().strip().replace(str(self.stage.directory), "~/shop")
        steps = "\n".join(f"{number}. {each}" for number, each in enumerate(self.done, 1))
        self.text.append(
            f"## {words}\n\n{steps}\n\n{took_s:.0f} s. The page at the end:\n\n```text\n{fold(said)}\n```\n"
        )

    def press(self, name: str) -> None:
        """Press a button or a link with this name."""
        pressed = self.page.get_by_role("button", name=name, exact=True).or_(
            self.page.get_by_role("link", name=name, exact=True)
        )
        pressed.first.click()
        self.done.append(f"Press **{name}**")

    def fill(self, label: str, text: str) -> None:
        """Fill the field with this label that is shown."""
        self.page.get_by_label(label).locator("visible=true").first.fill(text)
        self.done.append(f"{label}: *{text}*")

    def see(self, text: str) -> None:
        """Wait until the page says something."""
        self.page.get_by_text(text).locator("visible=true").first.wait_for(timeout=PATIENCE_MS)
        self.done.append(f"The page says: {text}")

    def check(self, what: str, expected: object, found: object) -> None:
        """Compare what a page said with another source."""
        if expected != found:
            self.wrong.append(f"{what}: {found!r} and not {expected!r}")

    def draw(self, name: str) -> None:
        """Take the pictures of what is shown, with the folder's path shortened as in the text."""
        for width, height in SIZES:
            for theme in ("light", "dark"):
                self.page.emulate_media(color_scheme=theme, reduced_motion="reduce")
                self.page.set_viewport_size({"width": width, "height": height})
                self.page.wait_for_timeout(300)
                self.page.evaluate(SHORTEN, str(self.stage.directory))  # the stream may have drawn it anew
                self.page.screenshot(path=self.pictures / f"{name}-{width}-{theme}.png", full_page=True)
        self.page.emulate_media(color_scheme="light")
        self.page.set_viewport_size({"width": 1440, "height": 900})

    def read_live(self) -> str:
        """Return the live version, as the platform's API says."""
        twin = self.stage.twin
        address = f"{twin.api_base_url}/accounts/{twin.account_id}/workers/scripts/{self.stage.script}/deployments"
        token = Path(str(twin.api_token_file)).read_text(encoding="ascii").strip()
        request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})  # noqa: S310 - the twin
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            newest = json.load(answer)["result"]["deployments"][0]
        return str(max(newest["versions"], key=lambda each: each["percentage"])["version_id"])


def fold(text: str) -> str:
    """Return the text of a page without the empty lines in it."""
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip())


@contextlib.contextmanager
def running(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run the program beside what is typed."""
    with (folder / f"{words[0]}.log").open("w") as log:
        process = subprocess.Popen(
            tie_to_parent((str(PROGRAM), *words), signal.SIGKILL),
            cwd=folder,
            stdout=subprocess.PIPE if words[0] == "serve" else log,
            stderr=log,
            text=True,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def prepare(stage: Stage, receiver: Receiver, port: int) -> None:
    """Have a good version live, proven and backed up, and a configuration that tells, and asks for approvals."""
    folder = stage.directory
    write_programs(folder / "twin" / "bin")
    write_private(folder / "hook", f"http://127.0.0.1:{receiver.server_address[1]}/")
    write_private(folder / "hook-secret", f"whsec_{base64.b64encode(os.urandom(32)).decode()}")
    text = stage.config_file.read_text(encoding="utf-8")
    text = text.replace("p99_at_most = 4.0", "p99_at_most = 50.0").replace('mode = "act"', 'mode = "observe"')
    text = text.replace(', migrations = "prisma" }', ', migrations = "prisma", backup = { wal = "stream" } }')
    approvals = f'\n[environments.{NAME}.approvals]\nrequired_for = ["restore"]\n'
    channel = '[notify.webhook]\nurl_file = "hook"\nsecret_file = "hook-secret"\n'
    tells = f'\n[notify]\npages = "http://127.0.0.1:{port}"\n{channel}'
    stage.config_file.write_text(text + approvals + tells, encoding="utf-8")
    with psycopg.connect(str(stage.twin.postgres_dsn), autocommit=True) as database:
        database.execute(ORDERS.format(first=1, last=200).encode())
    stage.query("ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'")
    stage.query("SELECT pg_reload_conf()")
    stage.deploy("good")


def find_cause(shift: Shift) -> None:
    """Have a bad version go live while guard only observes, and find out what it is."""
    since = len(shift.receiver.notices)
    shift.stage.deploy("throws-on-one-route")
    shift.meanwhile("A colleague deploys; guard watches, and only observes. A notice arrives.")
    link = shift.receiver.find("would_roll_back", since)
    with shift.task("What is the cause?", link):
        shift.see("Why")
        shift.draw("incident")
    shift.press("Environments")
    shift.page.get_by_role("heading", name=NAME).wait_for()
    shift.draw("environments")
    with shift.task("Is it still so? Read the logs now.", link):
        shift.press(NAME)
        shift.press("Find the cause")
        shift.see("% sure")
        shift.draw("diagnosis")


def go_back(shift: Shift, good: str) -> None:
    """Roll back in two steps."""
    link = shift.receiver.find("would_roll_back", 0)
    with shift.task("Go back to the last good version.", link):
        shift.press("Roll back…")
        shift.see("What changes, and what does not")
        shift.draw("plan")
        shift.fill("Why", "500s on /api/models")
        shift.fill(f"Type {NAME} to confirm", NAME)
        shift.press(f"Roll back {NAME}")
        shift.page.get_by_role("link", name="What it does, step by step").wait_for(timeout=PATIENCE_MS)
        shift.press("What it does, step by step")
        shift.see("rolled back")
        shift.check("live after the rollback", good, shift.read_live())
    shift.draw("rolled-back")


def stop_robot(shift: Shift) -> None:
    """Hold the environment."""
    link = shift.receiver.find("would_roll_back", 0)
    with shift.task("Stop the robot: nothing automatic may happen while data is repaired.", link):
        shift.press("Stop the robot: hold…")
        shift.fill("Why", "repairing orders by hand")
        shift.fill(f"Type {NAME} to confirm", NAME)
        shift.press(f"Hold {NAME}")
        shift.see("Done")
        told = shift.type(f"backout status {ENV}", (0, 1))
        shift.check("the hold, as read by `status`", True, "repairing orders by hand" in told)
    shift.draw("held")


def approve_recovery(shift: Shift) -> None:
    """Approve what a colleague has typed, and have it go on."""
    since = len(shift.receiver.notices)
    checksum = hashlib.sha256(BAD_SQL.encode()).hexdigest()
    with psycopg.connect(str(shift.stage.twin.postgres_dsn), autocommit=True) as database:
        for statement in (BEGUN.format(checksum=checksum, name=MIGRATION), BAD_SQL, DONE):
            database.execute(statement.encode())
    line = f'backout db restore "before migration {MIGRATION}" --rescue {ENV} -m "addresses damaged" --confirm {NAME}'
    shift.meanwhile(
        f"Migration {MIGRATION} has damaged every address. A colleague types `{line}`; the plan waits for an approval."
    )
    shift.type(line, (3,))
    link = shift.receiver.find("held", since)
    with shift.task("Approve the recovery that a colleague has typed.", link):
        shift.draw("waits")
        shift.fill("Why", "looked at the plan with Ada")
        shift.fill(f"Type {NAME} to confirm", NAME)
        shift.press("Approve and go on")
        shift.see("is at it")
    shift.see("rows given back")
    shift.draw("recovered")
    (spoiled,) = shift.stage.query("SELECT count(*) FROM orders WHERE right(email, 8) = '.invalid'")
    shift.check("damaged rows after the recovery", (0,), spoiled)


def write_note(shift: Shift) -> None:
    """Write into the incident what a person knows."""
    link = shift.receiver.find("would_roll_back", 0)
    with shift.task("Write the note for the morning.", link):
        shift.press("Write a note")
        shift.fill("Note, with your name and the time", "The index of models was renamed; Bob mends it tomorrow.")
        shift.press("Add the note")
        shift.see("Bob mends it tomorrow")
        told = shift.type(f"backout incident show {link.rpartition('/')[2]} {ENV}", (0, 1))
        shift.check("the note in the incident", True, "Bob mends it tomorrow" in told)
    shift.draw("note")


def record(folder: Path, pictures: Path) -> Shift:
    """Return the whole night."""
    stage = Stage(folder, Pace(watch_s=25, error_rate_for_s=8, quiet_s=2), tied=True)
    stage.set_up()
    receiver = Receiver()
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    (port,) = find_free_ports(1)
    with contextlib.ExitStack() as ends:
        ends.callback(receiver.shutdown)
        ends.callback(stage.tear_down)
        ends.enter_context(stage.visitors(VISITORS_PER_S))
        prepare(stage, receiver, port)
        browser = ends.enter_context(sync_playwright()).chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        ends.callback(browser.close)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        shift = Shift(stage, receiver, page, pictures)
        shift.type(f"backout guard --early {ENV}")
        for words in ("db wal start", "db backup"):
            shift.type(f"backout {words} {ENV}")
        ends.callback(shift.type, f"backout db wal stop {ENV}", range(256))
        good = shift.read_live()
        ends.enter_context(running(folder, "worker", "--guard-only"))
        serve = ends.enter_context(running(folder, "serve", "--listen", f"127.0.0.1:{port}", "--json"))
        told = serve.stdout.readline() if serve.stdout is not None else ""
        page.goto(json.loads(told)["login_url"])
        page.get_by_role("button", name="Log in here").click()
        page.get_by_text("Nothing needs you.").first.wait_for(timeout=PATIENCE_MS)
        shift.draw("well")
        find_cause(shift)
        go_back(shift, good)
        stop_robot(shift)
        approve_recovery(shift)
        write_note(shift)
    return shift


def main() -> int:
    """Record the night and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=Path, help="a folder for all pictures")
    parser.add_argument("--keep", type=Path, help="write the page there, whatever went wrong, and nothing into docs/")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pages-") as made:
        pictures = options.pictures or Path(made, "pictures")
        pictures.mkdir(parents=True, exist_ok=True)
        shift = record(Path(made).resolve() / "shop", pictures)
        finish(shift, pictures, options.keep)
    for words in shift.wrong:
        print(f"wrong: {words}")
    return 1 if shift.wrong else 0


def finish(shift: Shift, pictures: Path, keep: Path | None) -> None:
    """Write the page, and the pictures that stand in docs/."""
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    page = "\n".join([INTRO.replace("DAY", day), *shift.text]).rstrip() + "\n"
    if keep is not None:
        keep.write_text(page, encoding="utf-8")
    elif not shift.wrong:
        PAGE.write_text(page, encoding="utf-8")
        DOCS.mkdir(exist_ok=True)
        for name in KEPT:
            shutil.copyfile(pictures / f"{name}.png", DOCS / f"{name}.png")


if __name__ == "__main__":
    sys.exit(main())
