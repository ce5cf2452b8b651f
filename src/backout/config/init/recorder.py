"""The flight recorder of a project: a folder beside the application, and the content of its files; pure.

`object`: it keeps its counts in a Durable Object of its own; `r2`: in a bucket.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from backout.config.toml_text import format_literal
from backout.model.value import Value

if TYPE_CHECKING:
    from backout.config.init.bill import Sink
    from backout.config.init.wrangler import Worker

FOLDER = "backout-recorder"
ACCESS_ENV = "RECORDER_ACCESS_KEY"
SECRET_ENV = "RECORDER_SECRET"  # noqa: S105 - the name of a variable
_LONGEST_STEM = 63 - len("-backout-counts")  # of a bucket's name, and of a Worker's


class Recorder(Value, frozen=True):
    """The Worker of a project's recorder, and its bucket where `sink` is `r2`.

    `account_id` is "" when its environments do not share one.
    """

    name: str
    bucket: str
    sink: Sink = "object"
    account_id: str = ""

    @property
    def traffic(self) -> str:
        """The line of backout.toml that reads it."""
        table = {"url": f"https://{self.name}.YOUR-SUBDOMAIN.workers.dev"}
        if self.sink == "r2":
            table = {"bucket": self.bucket, "credentials_env": ACCESS_ENV}
        return f"traffic = {format_literal({'provider': 'recorder', 'recorder': {**table, 'secret_env': SECRET_ENV}})}"

    def consumers(self, *, toml: bool) -> str:
        """Return the line of the application's wrangler file that names it."""
        if toml:
            return f"tail_consumers = [{format_literal({'service': self.name})}]"
        return f'"tail_consumers": [{json.dumps({"service": self.name})}]'


def make_recorder(name: str, workers: tuple[Worker, ...], sink: Sink = "object") -> Recorder:
    """Return the recorder of an application, one for all its environments."""
    accounts = {worker.account_id for worker in workers}
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_LONGEST_STEM].rstrip("-") or "app"
    return Recorder(
        name=f"{stem}-recorder",
        bucket=f"{stem}-backout-counts",
        sink=sink,
        account_id=accounts.pop() if len(accounts) == 1 else "",
    )


def format_wrangler_file(template: str, recorder: Recorder, *, toml: bool) -> str:
    """Return the recorder's own wrangler.jsonc; `toml`: the application's is TOML."""
    account = f'\n  "account_id": {json.dumps(recorder.account_id)},' if recorder.account_id else ""
    return template.format(
        name=recorder.name,
        bucket=recorder.bucket,
        folder=FOLDER,
        account=account,
        consumers=recorder.consumers(toml=toml),
    )
