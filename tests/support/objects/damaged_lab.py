"""A damaged bucket in a real store, and `backout objects` as it is typed to bring it back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from store_lab import Store

OBJECTS = 240
KEY = "k" * 40


class Damaged:
    """A bucket of which a third was overwritten and a third deleted since a moment, and some objects were created."""

    def __init__(self, store: Store, folder: Path, *, versions: bool, objects: int = OBJECTS, **storage: str) -> None:
        self.store, self.folder = store, folder
        self.bucket = store.make(versions=versions)
        self.objects = objects
        more = {} if versions else {"history": store.make(versions=False), "history_key_env": "HISTORY_KEY"}
        store.configure(folder, self.bucket, **more, **storage)
        self._each(lambda n: self.put(f"m/{n:04}", b"good %d" % n, owner=f"u{n}"), range(objects))
        if not versions:
            self.wait(1.2)
            assert self.run("snapshot").returncode == 0
        self.then = store.list_live(self.bucket)
        self.wait(2.2)
        self.to = datetime.fromtimestamp(int(time.time()), UTC).strftime("%Y-%m-%d %H:%M:%S")
        self.wait(2.2)
        self._each(lambda n: self.put(f"m/{n:04}", b"bad"), range(0, objects, 3))
        self._each(lambda n: store.boto.delete_object(Bucket=self.bucket, Key=f"m/{n:04}"), range(1, objects, 3))
        self._each(lambda n: self.put(f"new/{n}", b"since"), range(8))
        self.wait(1.2)

    def _each(self, act: Any, numbers: range) -> None:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(act, numbers))

    def wait(self, seconds: float) -> None:
        """Let the store's seconds pass, by which versions are told apart."""
        time.sleep(seconds)

    def put(self, key: str, body: bytes, **metadata: str) -> None:
        self.store.boto.put_object(Bucket=self.bucket, Key=key, Body=body, Metadata=metadata)

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "backout", "objects", *words, "-e", "staging", "--json"]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words), cwd=self.folder, env=self.variables(), capture_output=True, text=True, check=False
        )

    def variables(self) -> dict[str, str]:
        return {**os.environ, "HISTORY_KEY": KEY}
