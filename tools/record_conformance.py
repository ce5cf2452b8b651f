"""Record the twin's answers to the calls of `backout conformance`: writes src/backout/catalogue/conformance.json.

Run it when the twin learns something: `.venv/bin/python tools/record_conformance.py`. A test compares the file with
the twin as it is.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import msgspec
from msgspec.structs import replace

from backout.analysis.conformance import find_shape
from backout.providers.clock import SystemClock
from backout.providers.cloudflare.conformance import FirstContact
from backout.providers.postgres.tls.access import parse_dsn
from backout.twin import lifecycle

TARGET = Path(__file__).resolve().parent.parent / "src" / "backout" / "catalogue" / "conformance.json"


def main() -> None:
    """Ask a twin of its own and write the file."""
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        directory = Path(folder) / "twin"
        twin = lifecycle.start_twin(directory)
        try:
            token = Path(str(twin.api_token_file)).read_text(encoding="utf-8")
            contact = FirstContact(
                base_url=str(twin.api_base_url),
                token=lambda: token,
                account_id=str(twin.account_id),
                ingress_url=twin.ingress_url,
                database=lambda: parse_dsn(str(twin.postgres_dsn)),
                clock=SystemClock(),
                shape_of=find_shape,
            )
            observed = contact.observe(lambda _seen: None)
        finally:
            lifecycle.stop_twin(directory)
    silent = [seen.name for seen in observed if seen.trouble]
    if silent:
        sys.exit(f"not answered: {', '.join(silent)}; nothing was written")
    compared = [replace(seen, measured={}) for seen in observed]
    TARGET.write_bytes(msgspec.json.format(msgspec.json.encode(compared), indent=1) + b"\n")


if __name__ == "__main__":
    main()
