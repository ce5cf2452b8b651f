"""`backout rollback --no-wait` compared with the real `wrangler rollback`, interleaved, both against one local twin.

backout does all of its work: configuration, journal with its fsyncs, the look at the database's migrations, the look
at the secrets, the re-check before the switch, the read-back, the quarantine. wrangler runs without its wrapper process
and with a warm NODE_COMPILE_CACHE. After every call the API is asked whether the version is live.
Goals: CPU at most 0.2 of wrangler's, wall time 0.3, memory 0.2.

With `--against COMMIT` the peer is backout itself at that commit, with a journal of its own;
`new_over_old` is CPU time.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from shared import measure, versions

from backout.errors import BackoutError
from backout.providers.cloudflare.client import ApiClient
from backout.providers.cloudflare.deployments import CloudflareDeployments
from backout.twin.stage import ENVIRONMENT, SCRIPT, Stage
from backout.twin.wrangler import find

if TYPE_CHECKING:
    from shared.measure import Sample

    from backout.twin.wrangler import Wrangler

GOALS = {"cpu": 0.2, "wall": 0.3, "rss": 0.2}
_ARGUMENTS = ("-e", ENVIRONMENT, "--confirm", ENVIRONMENT, "-m", "x")


class Bench:
    """A stage with two good versions, of which each call makes the other one live.

    Args:
        before: the program of an earlier backout, "" where none is measured.
    """

    def __init__(self, stage: Stage, before: str = "") -> None:
        twin = stage.set_up()
        self._stage = stage
        self._versions = (stage.deploy("good"), stage.deploy("good-2"))
        token_file = Path(str(twin.api_token_file))
        base_url, account = str(twin.api_base_url), str(twin.account_id)
        self._wrangler: Wrangler = find(stage.application, base_url, account, token_file, stage.directory / "wrangler")
        client = ApiClient(base_url, lambda: token_file.read_text(encoding="utf-8"))
        self._deployments = CloudflareDeployments(client, account, SCRIPT)
        self._before = before
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(stage.directory),
            "LANG": "C.UTF-8",
        }

    def backout(self) -> Sample:
        """Measure backout; the target's quarantine, which its last call set, is lifted beforehand and not measured."""
        return self._rolled_back(versions.TODAY, self._stage.config_file)

    def before(self) -> Sample:
        """Measure the earlier backout."""
        config = self._stage.config_file.with_name("before.toml")
        text = self._stage.config_file.read_text(encoding="utf-8")
        config.write_text(text.replace('"journal.sqlite"', '"before.sqlite"'), encoding="utf-8")
        return self._rolled_back(self._before, config)

    def _rolled_back(self, program: str, config: Path) -> Sample:
        target = self._other()
        arguments = (*_ARGUMENTS, "--config", str(config))
        self._release(program, target, arguments)
        argv = [program, "rollback", target, "--no-wait", *arguments]
        return self._checked(target, measure.run(argv, cwd=self._stage.directory, env=self._environment))

    def wrangler(self) -> Sample:
        """Measure wrangler."""
        target = self._other()
        argv = self._wrangler.argv("rollback", target, "--message", "x", "-y", "--env", ENVIRONMENT)
        return self._checked(target, measure.run(argv, cwd=self._wrangler.cwd, env=self._wrangler.environment()))

    def _release(self, program: str, target: str, arguments: tuple[str, ...]) -> None:
        argv = [program, "deployments", "release", target, *arguments]
        done = subprocess.run(
            argv, cwd=self._stage.directory, env=self._environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0 and "is not quarantined" not in done.stderr:
            sys.exit(f"{' '.join(argv)}: exit {done.returncode}: {done.stderr}")

    def _other(self) -> str:
        live = self._live()
        return next(version for version in self._versions if version != live)

    def _live(self) -> str | None:
        return self._deployments.history()[0].sole

    def _checked(self, target: str, sample: Sample) -> Sample:
        if self._live() != target:
            sys.exit(f"{self._live()} is live after a rollback to {target}")
        return sample


def compare(rounds: int, against: str = "") -> tuple[list[Sample], list[Sample]]:
    """Return the samples of both sides: one each a round, in random order, after one round that is not counted.

    Args:
        against: a commit, whose backout is measured in wrangler's place.
    """
    with tempfile.TemporaryDirectory(prefix="backout-bench-") as folder:
        before = versions.program_at(against, Path(folder) / "before") if against else ""
        stage = Stage(Path(folder) / "stage")
        try:
            bench = Bench(stage, before)
            sides = {"ours": bench.backout, "peer": bench.before if against else bench.wrangler}
            samples: dict[str, list[Sample]] = {name: [] for name in sides}
            order = random.Random(1)  # noqa: S311 - an order, no secret
            for number in range(rounds + 1):
                for name in order.sample(list(sides), len(sides)):
                    taken = sides[name]()
                    if number:
                        samples[name].append(taken)
        finally:
            stage.tear_down()
    return samples["ours"], samples["peer"]


def main() -> None:
    """Measure, and print a table or one `backout.benchmark/1`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--rounds", type=int, default=10, help="calls of each side that count")
    parser.add_argument("--against", metavar="COMMIT", default="", help="measure beside backout at a commit")
    options = parser.parse_args()
    try:
        ours, peer = compare(options.rounds, options.against)
    except BackoutError as error:
        sys.exit(f"rollback: {error}")
    if options.against:
        pairs = {key: ([getattr(s, key) for s in ours], [getattr(s, key) for s in peer]) for key in GOALS}
        found = versions.compared("rollback", pairs, "cpu")
        print(measure.as_json(found) if options.json else f"rollback beside {options.against}\n{versions.table(found)}")
        return
    record = measure.record("rollback", ours, peer, "wrangler")
    if options.json:
        print(measure.as_json(record))
        return
    print(f"rollback: medians of {options.rounds} calls each, against the twin ({record['machine']})")
    print("         backout    wrangler   ratio  95 % interval     goal")
    for key, goal in GOALS.items():
        left, right = [getattr(s, key) for s in ours], [getattr(s, key) for s in peer]
        low, high = measure.ratio_bound(left, right)
        unit = measure.UNITS[key]
        print(
            f"  {key:<5} {statistics.median(left):7.3g} {unit:<2} {statistics.median(right):8.3g} {unit:<2}"
            f" {measure.ratio(left, right):7.3f}  {low:.3f} to {high:.3f}   <= {goal}"
        )
    for name, side in (("backout", ours), ("wrangler", peer)):
        for key in GOALS:
            print(f"  {name} {key}: " + " ".join(f"{getattr(sample, key):g}" for sample in side))


if __name__ == "__main__":
    main()
