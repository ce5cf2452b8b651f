"""`backout objects restore` beside boto3 with threads, `mc cp --rewind` and s3-pit-restore, on one SeaweedFS.

Of each bucket a third was overwritten and a third deleted since a moment, and some objects were created. Each side gets
a bucket of its own in every round, made and damaged in the same way, and restores it as one command, with everything
that it does: backout's journal, its notes and its second listing included. Afterwards the bucket is compared with what
it held: whole for backout and boto3; mc and s3-pit-restore leave what was created since.

None of the others looks afterwards whether the bucket is as it was. `restoring` is backout without that: up to where it
begins to list the bucket again.

The store shares the machine's cores, and a call costs it several times what it costs the client. So the store's
processor time is measured, too, and `free_client` is that of backout's calls spread over all cores: on a machine that
does nothing else, no client is faster than that with the same calls.

Ratio keys: boto3, mc, s3_pit_restore (their time / ours, larger is better), boto3_restoring (boto3's / ours without the
second listing), boto3_free_client (boto3's / that of a free client), cpu_per_object (ours / boto3's). Goals: the lower
bound of boto3 1.7, mc 2, s3_pit_restore 2.5, cpu_per_object at most 0.35.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import sysconfig
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from shared import measure
from shared.seaweedfs import SeaweedFS

from backout.journal.sqlite import SqliteJournal
from backout.providers.clock import SystemClock
from backout.providers.s3.client import S3Client
from backout.providers.s3.sigv4 import S3Credentials
from backout.providers.s3.transport import S3Settings
from backout.twin.storage.objectstore import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from shared.measure import Sample

GOALS = {"boto3": 1.7, "mc": 2.0, "s3_pit_restore": 2.5}
WORDS = {**{name: f">= {least}" for name, least in GOALS.items()}, "cpu_per_object": "<= 0.35"}
_BYTES = 2000
_BOTO = Path(__file__).parent / "shared" / "objects_boto.py"
_CONFIG = """[app]
name = "bench"
[environments.staging.platform]
provider = "cloudflare"
script = "bench"
account_id = "0123456789abcdef0123456789abcdef"
[environments.staging.storage]
provider = "s3"
bucket = "{bucket}"
credentials_file = "access.json"
"""


class Bench:
    """A store, and the sides that restore a bucket in it.

    Args:
        objects: the number of objects in each bucket.
        read_store_cpu: returns the processor time that the store took so far, in seconds.

    Attributes:
        store_cpu: what each restore took of it, in their order.
    """

    def __init__(self, folder: Path, access: dict[str, str], objects: int, read_store_cpu: Callable[[], float]) -> None:
        self.store_cpu: list[float] = []
        self._read_store_cpu = read_store_cpu
        self._folder = folder
        self._access = access
        self._objects = objects
        self._made = 0
        credentials = S3Credentials(access["access_key_id"], access["secret_access_key"])
        self._client = S3Client(S3Settings(access["endpoint"], credentials), SystemClock())
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "AWS_ACCESS_KEY_ID": access["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": access["secret_access_key"],
            "AWS_ENDPOINT_URL": access["endpoint"],
            "AWS_DEFAULT_REGION": access["region"],
            "MC_HOST_bench": _make_url(access),
        }
        path = folder / "access.json"
        path.write_text(json.dumps(access), encoding="utf-8")
        path.chmod(0o600)

    @property
    def restored(self) -> int:
        """How many objects are to be brought back in each bucket."""
        return len(range(0, self._objects, 3)) + len(range(1, self._objects, 3))

    def measure_comparing(self) -> float:
        """Return for how many seconds the newest restore listed and compared its bucket again."""
        journal = SqliteJournal(self._folder / ".backout" / "journal.sqlite", SystemClock())
        events = list(journal.events())
        begun = max(each.at for each in events if each.kind == "step.start")
        return max(each.at for each in events if each.kind == "run.ok") - begun

    def sides(self) -> dict[str, Callable[[], Sample]]:
        """Return each side by its name."""
        pit = Path(sysconfig.get_path("scripts")) / "s3-pit-restore"
        if not pit.exists():
            sys.exit("objects: s3-pit-restore is not installed (make bench installs it)")
        return {
            "backout": lambda: self._measure(self._backout, exact=True),
            "boto3": lambda: self._measure(self._boto3, exact=True),
            "mc": lambda: self._measure(self._mc, exact=False),
            "s3_pit_restore": lambda: self._measure(lambda b, t: self._pit(str(pit), b, t), exact=False),
        }

    def _measure(self, make_command: Callable[[str, float], list[str]], *, exact: bool) -> Sample:
        bucket, then, at = self._damage()
        command, before = make_command(bucket, at), self._read_store_cpu()
        sample = measure.run(command, cwd=self._folder, env=self._environment)
        self.store_cpu.append(round(self._read_store_cpu() - before, 2))
        live = self._list(bucket)
        if not exact:
            live = {key: etag for key, etag in live.items() if key in then}
        if live != then:
            wrong = sum(live.get(key) != etag for key, etag in then.items())
            sys.exit(f"objects: {wrong} of {len(then)} objects are not as they were: {make_command.__name__}")
        return sample

    def _backout(self, bucket: str, at: float) -> list[str]:
        (self._folder / "backout.toml").write_text(_CONFIG.format(bucket=bucket), encoding="utf-8")
        program = str(Path(sysconfig.get_path("scripts")) / "backout")
        return [program, "objects", "restore", "--to", _format(at), "-e", "staging", "--yes", "--json"]

    def _boto3(self, bucket: str, at: float) -> list[str]:
        return [sys.executable, str(_BOTO), bucket, str(at)]

    def _mc(self, bucket: str, at: float) -> list[str]:
        moment = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        place = f"bench/{bucket}/"
        return [
            _find_mc(), "--config-dir", str(self._folder / "mc"), "cp", "--quiet", "--recursive", "--rewind", moment,
            place, place,
        ]  # fmt: skip

    def _pit(self, program: str, bucket: str, at: float) -> list[str]:
        moment = datetime.fromtimestamp(at, UTC).strftime("%m-%d-%Y %H:%M:%S +0")
        return [sys.executable, program, "-b", bucket, "-B", bucket, "-t", moment, "--max-workers", "32"]

    def _damage(self) -> tuple[str, dict[str, str], float]:
        """Make a bucket and damage it; return its name, what it held, and the moment before the damage."""
        self._made += 1
        bucket, count = f"bench-{self._made}", self._objects
        client = self._client
        client.create_bucket(bucket)
        client.set_versioning(bucket, enabled=True)
        body = os.urandom(_BYTES)
        _each(lambda n: client.put(bucket, _name(n), body + str(n).encode()), range(count))
        then = self._list(bucket)
        time.sleep(2.1)
        at = float(int(time.time()))
        time.sleep(2.1)
        _each(lambda n: client.put(bucket, _name(n), b"bad"), range(0, count, 3))
        _each(lambda n: client.delete(bucket, _name(n)), range(1, count, 3))
        _each(lambda n: client.put(bucket, f"new/{n:05}", b"new"), range(count // 40))
        time.sleep(1.1)
        return bucket, then, at

    def _list(self, bucket: str) -> dict[str, str]:
        return {each.key: each.etag for each in self._client.list_objects(bucket)}


def _name(number: int) -> str:
    return f"models/{number % 100:02}/{number:06}"


def _each(act: Callable[[int], object], numbers: Iterable[int]) -> None:
    with ThreadPoolExecutor(16) as threads:
        for _ in threads.map(act, numbers):
            pass


def _format(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _make_url(access: dict[str, str]) -> str:
    """Return the store's address as mc takes it, with the access key: a secret belongs on no command line."""
    endpoint = urlsplit(access["endpoint"])
    secret = quote(access["secret_access_key"], safe="")
    return f"{endpoint.scheme}://{access['access_key_id']}:{secret}@{endpoint.netloc}"


def _find_mc() -> str:
    found = shutil.which("minio-client") or shutil.which("mcli")
    if found is None:
        sys.exit("objects: mc is not installed (Debian: apt-get install minio-client)")
    return found


def compare(rounds: int, objects: int, *, twin: bool) -> tuple[dict[str, list[Sample]], int]:
    """Return the samples of each side, and how many objects each one brought back.

    Args:
        twin: in the twin's own store, whose parts talk TLS.
    """
    import asyncio

    with tempfile.TemporaryDirectory(prefix="backout-bench-") as folder:
        loop = asyncio.new_event_loop()
        store = (ObjectStore if twin else SeaweedFS)(Path(folder) / "store")
        read_store_cpu = store.read_cpu_s if isinstance(store, SeaweedFS) else lambda: 0.0
        loop.run_until_complete(store.start())
        try:
            access = json.loads(store.credentials_file.read_text(encoding="utf-8"))
            bench = Bench(Path(folder), access, objects, read_store_cpu)
            samples: dict[str, list[Sample]] = {name: [] for name in (*bench.sides(), "restoring", "free_client")}
            order = random.Random(1)  # noqa: S311 - an order, no secret
            for number in range(rounds):
                for name in order.sample(list(bench.sides()), len(bench.sides())):
                    samples[name].append(bench.sides()[name]())
                    store_cpu = bench.store_cpu[-1]
                    print(
                        f"round {number + 1}: {name} {samples[name][-1]}, store {store_cpu} s of CPU", file=sys.stderr
                    )
                    if name == "backout" and not twin:
                        free = replace(samples[name][-1], wall=round(store_cpu / (os.cpu_count() or 1), 4), cpu=0.0)
                        samples["free_client"].append(free)
                whole = samples["backout"][-1]
                samples["restoring"].append(replace(whole, wall=round(whole.wall - bench.measure_comparing(), 4)))
        finally:
            loop.run_until_complete(store.stop())
            loop.close()
    return {name: side for name, side in samples.items() if side}, bench.restored


def make_pairs(samples: dict[str, list[Sample]]) -> dict[str, tuple[list[float], list[float]]]:
    """Return the two sides of each ratio."""
    ours = samples["backout"]
    pairs = {name: ([each.wall for each in samples[name]], [each.wall for each in ours]) for name in GOALS}
    for part in ("restoring", "free_client"):
        if part in samples:
            pairs[f"boto3_{part}"] = [each.wall for each in samples["boto3"]], [each.wall for each in samples[part]]
    cpu = ([each.cpu for each in ours], [each.cpu for each in samples["boto3"]])
    return pairs | {"cpu_per_object": cpu}


def make_record(samples: dict[str, list[Sample]]) -> dict[str, object]:
    """Return a `backout.benchmark/1`."""
    pairs, figures = make_pairs(samples), [(name, key) for name in samples for key in measure.FIGURES]
    columns = {f"{name}_{key}": [getattr(each, key) for each in samples[name]] for name, key in figures}
    return {
        "schema": "backout.benchmark/1",
        "name": "objects",
        "machine": measure.describe_machine(),
        "samples": columns,
        "ratios": {key: measure.ratio(*pair) for key, pair in pairs.items()},
        "n": {key: len(pair[0]) for key, pair in pairs.items()},
        "bound95": {key: measure.ratio_bound(*pair) for key, pair in pairs.items()},
    }


def main() -> None:
    """Measure, and print a table or one `backout.benchmark/1`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--rounds", type=int, default=3, help="restores of each side")
    parser.add_argument("--objects", type=int, default=20_000, help="objects in each bucket")
    parser.add_argument("--twin", action="store_true", help="in the twin's own store, whose parts talk TLS")
    options = parser.parse_args()
    samples, restored = compare(options.rounds, options.objects, twin=options.twin)
    if options.json:
        print(measure.as_json(make_record(samples)))
        return
    print(f"objects: {options.rounds} restores of {restored:,} of {options.objects:,} objects each")
    for name, side in samples.items():
        wall, cpu, rss = (statistics.median(getattr(s, key) for s in side) for key in ("wall", "cpu", "rss"))
        print(f"  {name:<15} {wall:7.1f} s  {restored / wall:6.0f} objects/s  {cpu:6.1f} s of CPU  {rss:5.0f} MB")
    for key, pair in make_pairs(samples).items():
        low, high = measure.ratio_bound(*pair)
        print(f"  {key:<15} {measure.ratio(*pair):.2f}  ({low:.2f} to {high:.2f})  {WORDS.get(key, '')}")


if __name__ == "__main__":
    main()
