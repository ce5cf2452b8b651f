"""A stage for drills with the real program: `backout` as a process, the twin, the real wrangler's uploads."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from deploying import deploy
from kept import furnish, furnish_wrangler
from typed import shared_typist

from backout.config import Environment, load
from backout.journal.sqlite import SqliteJournal
from backout.model.guard.signals import sum_counts
from backout.providers.clock import SystemClock
from backout.twin import remote
from backout.twin.home import CLOUDFLARE
from backout.twin.stage import VISIT_AT_MOST_S, Pace, Stage
from backout.wiring.toolbox import make_toolbox

from arranged import api, upload
from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from backout.model.deployment import Deployment
    from backout.runbook.toolbox import Toolbox

BASELINE_S = 12
GUARD = f'warm_up = "1h"\nat_most = "1 per 1s"\nbaseline = "{BASELINE_S}s"\n'
"""Each drill may roll back once, and is compared with the seconds before it: what earlier ones did, and broke, stands
in the twin's list of deployments and in its counts."""
PAST = 240
"""Requests that a baseline needs before one error in it is a small share."""
VISITORS_PER_S = 25.0
PACE = Pace(watch_s=25, error_rate_for_s=8, quiet_s=2)
BAD = "throws-on-one-route"
PROGRAM = Path(sys.executable).with_name("backout")


@dataclass
class Result:
    """How one call of the program ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The last JSON line of stdout."""
        parsed: dict[str, Any] = json.loads(self.out.strip().splitlines()[-1])
        return parsed


@dataclass
class Drillbook:
    """The stage, the two versions on it, and trials with a journal of their own each."""

    home: ClassVar[str] = CLOUDFLARE
    listed: ClassVar[int] = 10
    """The provider lists so many deployments."""

    directory: Path
    stage: Stage = field(init=False)
    good: str = ""
    bad: str = ""
    trials: int = 0
    visitors_per_s: float = VISITORS_PER_S
    _coming: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    """What ends the visits."""
    _visited_since: float | None = None
    """Monotonic seconds; None while nobody comes."""
    _started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Lay out the folder."""
        self.stage = self._make_stage(self.directory / "stage")
        furnish(self.stage.directory / "twin")

    def _make_stage(self, folder: Path) -> Stage:
        furnish_wrangler(folder / "wrangler")
        return Stage(folder, PACE)

    def open(self) -> None:
        """Start the twin and upload both versions; the good one is live in the end."""
        self.stage.set_up()
        text = self.stage.config_file.read_text(encoding="utf-8")
        # Answers take 2 ms here: another program on the machine is a change of latency, so guard does not judge it.
        text = text.replace("below = 0.01", "below = 0.05").replace("[journal]", f"{GUARD}\n[journal]")
        text = text.replace("p99_at_most = 4.0", "p99_at_most = 50.0")
        self.stage.config_file.write_text(text, encoding="utf-8")
        self.bad = self.stage.deploy(BAD)
        self.good = self.deploy("good")

    def deploy(self, variant: str) -> str:
        """Deploy a variant, and return the version; by the API, where wrangler itself is not what a drill is about."""
        bundles = make_tools(self.stage.config_file).rollback.bundles
        assert bundles is not None
        return deploy(self.stage, variant, bundles.fetch(self.bad))

    def deploy_bad_again(self) -> str:
        """Deploy the bad version's code under a new id, as CI does when it runs again, and return the version."""
        return self.deploy(BAD)

    def upload_sick(self) -> str:
        """Return a version that cannot reach its database; it is not live."""
        return upload(self.trial(), self.good, without="HYPERDRIVE")

    def upload_nameless(self, version: str) -> str:
        """Upload this version's code so that answers do not say which version they are of, and return the version."""
        return upload(self.trial(), version, without="CF_VERSION")

    def rotate(self, name: str, value: str) -> None:
        """Change a secret as `wrangler secret put` does; the newest version has to be live."""
        api(self, "PUT", "secrets", {"name": name, "text": value, "type": "secret_text"})

    def remove_secret(self, name: str) -> None:
        """Remove a secret; the newest version has to be live."""
        api(self, "DELETE", f"secrets/{name}")

    def put_secrets_back(self) -> None:
        """Make the good version live, and have the newest one with the stage's own secrets."""
        self.deploy("good")
        self.trial().make_live(self.good, force=True)

    @contextlib.contextmanager
    def fault(self, kind: str, target: str | None = None, **figures: float) -> Iterator[None]:
        """Have something of the twin broken until the block ends."""
        remote.set_fault(self.stage.twin, {"kind": kind, "target": target, **figures})
        try:
            yield
        finally:
            remote.clear_faults(self.stage.twin, kind, target)

    def welcome(self) -> None:
        """Have visitors come from now on, for a whole drill at least: they go home by themselves after a while."""
        if self._visited_since is not None and time.monotonic() - self._visited_since > VISIT_AT_MOST_S / 2:
            self.dismiss()
        if self._visited_since is None:
            self._coming.enter_context(self.stage.visitors(self.visitors_per_s))
            self._visited_since = time.monotonic()

    def dismiss(self) -> None:
        """Have no more visitors come: a fifth of a processor is theirs."""
        self._coming.close()
        self._visited_since = None

    def prove_good(self) -> None:
        """Have guard mark the good version stable, in the journal that every trial starts from."""
        ended = self.run("guard", "--early", "--json")
        assert ended.code == 0, ended.err
        assert ended.json["action"] == "stable"

    def make_good_live(self) -> None:
        """Begin with the good version."""
        trial = self.trial()
        if trial.tools().deployments.history()[0].sole != self.good:
            trial.make_live(self.good)

    def await_visitors(self, requests: int) -> None:
        """Return when the good version is live and has answered that many requests just now, so that it has a past."""
        self.make_good_live()
        traffic, since = self.trial().tools().traffic, int(time.time())
        assert traffic is not None
        until(
            lambda: sum_counts(traffic.read(since, since + 60).counts)[0] >= requests, 30, "visitors come", every_s=0.2
        )

    def forget_remarks(self) -> None:
        """Push everything that backout wrote out of the provider's list, by deploying what is live again and again."""
        deployments = self.trial().tools().deployments
        history = deployments.history()
        said = [number for number, deployment in enumerate(history) if deployment.message.startswith("[backout")]
        for _ in range(self.listed - min(said) if said else 0):
            deployments.deploy(history[0].shares, message="pushed", force=True)

    def await_a_clean_past(self, version: str = "") -> None:
        """Return when a version (the good one) is live and has answered enough, well, for a baseline that says so."""
        trial, version = self.trial(), version or self.good
        if trial.tools().deployments.history()[0].sole != version:
            trial.make_live(version, force=True)
        traffic = trial.tools().traffic
        assert traffic is not None

        def clean() -> bool:
            now = int(time.time())
            requests, errors = sum_counts(r for r in traffic.read(now - BASELINE_S, now).counts if r.version == version)
            return requests >= PAST and errors <= requests / 100

        until(clean, 3 * BASELINE_S, f"{version} is well", every_s=0.2)

    def trial(self) -> Trial:
        """Return a trial with a copy of that journal; nothing of earlier trials is known in it."""
        self.trials += 1
        folder = self.directory / f"trial-{self.trials}"
        folder.mkdir()
        source = SqliteJournal(self.stage.directory / "journal.sqlite", SystemClock())
        source.close()
        shutil.copy(self.stage.directory / "journal.sqlite", folder / "journal.sqlite")
        wal = self.stage.directory / "journal.sqlite-wal"
        if wal.exists():
            shutil.copy(wal, folder / "journal.sqlite-wal")
        text = self.stage.config_file.read_text(encoding="utf-8")
        for name in ("twin/api-token", "database-url", "twin/releases", "twin/access.log"):
            text = text.replace(f'"{name}"', f'"{self.stage.directory / name}"')
        (folder / "backout.toml").write_text(text, encoding="utf-8")
        return Trial(self, folder)

    def run(
        self,
        *args: str,
        config: Path | None = None,
        timeout_s: float = 2 * PATIENCE_S,
        stdin: str | None = None,
        variables: Mapping[str, str] | None = None,
        stdout: str = "",
        **hindrances: float,
    ) -> Result:
        """Run the program to its end, in a process forked off one that has loaded it (`start` loads it each time).

        A diagnosis has as long as the machine needs for it: what is tested is what follows from it.

        Args:
            stdin: what is piped into it; None: nothing.
            variables: beside the usual ones.
            stdout: a file to write to, "" for what is returned.
            hindrances: as of `hinder`.
        """
        words = self.argv(*args, config=config)[1:]
        within = {"seconds": math.ceil(timeout_s), "patient": timeout_s, **hindrances}
        told = {**ENV, **(variables or {})}
        done = shared_typist().type(Path.cwd(), *words, variables=told, stdin=stdin, stdout=stdout, within=within)
        assert done.code != -signal.SIGALRM, f"no end {within}: {words}\n{done.text}"
        return Result(done.code, done.out.decode(), done.err.decode())

    def start(self, argv: list[str], **variables: str) -> subprocess.Popen[str]:
        """Start the program with these variables as well; `end_started` ends it at the latest."""
        environment = {**ENV, **variables}
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        self._started.append(process)
        return process

    def end_started(self) -> None:
        """End what a drill that failed in the middle has left: else the next one meets it, or answers for it."""
        while self._started:
            with self._started.pop() as process:
                process.kill()

    def argv(self, *args: str, config: Path | None = None) -> list[str]:
        """Return the command line."""
        return [str(PROGRAM), *args, "--config", str(config or self.stage.config_file), "-e", "production"]


ENV = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "COLUMNS": "100"}


def make_tools(config: Path) -> Toolbox:
    """Return the tools of a configuration, in this process."""
    return make_toolbox(load(Environment({}), start=config.parent, path=config, environment="production"))


@dataclass
class Trial:
    """One trial: its own journal and reports on the common stage."""

    book: Drillbook
    folder: Path

    @property
    def config(self) -> Path:
        """Its backout.toml."""
        return self.folder / "backout.toml"

    def tools(self) -> Toolbox:
        """Return the tools of this trial, in this process."""
        return make_tools(self.config)

    def make_live(self, version: str, *, force: bool = False) -> Deployment:
        """Make a version live from outside, as a colleague's push would; `force`: whatever secrets it has."""
        return self.tools().deployments.activate(version, message="pushed", force=force)

    def run(self, *args: str, timeout_s: float = 2 * PATIENCE_S, **how: Any) -> Result:
        """Run the program to its end, as `Drillbook.run`."""
        return self.book.run(*args, config=self.config, timeout_s=timeout_s, **how)

    def start(self, *args: str, **variables: str) -> subprocess.Popen[str]:
        """Start the program."""
        return self.book.start(self.book.argv(*args, config=self.config), **variables)

    def reports(self) -> list[Path]:
        """Return the incident files."""
        return sorted((self.folder / "incidents").glob("*.md"))

    def replace(self, *changes: tuple[str, str]) -> Trial:
        """Change its backout.toml: each (regular expression, text)."""
        text = self.config.read_text(encoding="utf-8")
        for pattern, new in changes:
            text, found = re.subn(pattern, new, text)
            assert found, pattern
        self.config.write_text(text, encoding="utf-8")
        return self

    def behind(self, gate_url: str) -> Trial:
        """Have the API asked through a gate."""
        return self.replace((r'api_base_url = "[^"]*"', f'api_base_url = "{gate_url}"'))

    def forget_marks(self) -> Trial:
        """Start from an empty journal: no version is proven."""
        for file in self.folder.glob("journal.sqlite*"):
            file.unlink()
        return self

    def newest(self) -> dict[str, Any]:
        """Return the newest run, as `runs list` tells it."""
        run: dict[str, Any] = self.run("runs", "list", "--json").json["runs"][0]
        return run

    def is_known_well(self, version: str, names: Collection[str]) -> bool:
        """Whether a waiting guard has learnt that each of these requests is answered well by a version.

        Of a request that failed the only time nothing can be said later: a busy machine's first answers may be late.
        """
        kept = self.tools().checkpoints.load_checkpoint("production", f"looks of {version}")
        ended = kept.get("ended") if isinstance(kept, dict) else None
        asked: dict[str, tuple[int, int]] = ended if isinstance(ended, dict) else {}  # type: ignore[assignment]
        return all(failed < made and failed * 10 <= made for made, failed in (asked.get(x, (0, 0)) for x in names))

    def live(self) -> str:
        """Return the version that the API says is live."""
        return self.tools().deployments.history()[0].main
