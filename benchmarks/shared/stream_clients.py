"""So many clients of one event stream, in a process of its own: when each message came, after it was made.

    python stream_clients.py HOST PORT PATH TOKEN CLIENTS SECONDS

Prints one line of JSON: the delays in seconds, and how many clients were cut off. A message says itself when it was
made: "at":"2026-12-02T10:00:00.123Z" somewhere in its data.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from datetime import datetime

_AT = re.compile(rb'"at":"([^"]+)"')


async def follow(host: str, port: int, path: str, token: str, delays: list[float]) -> None:
    """Follow the stream until it ends or the process does."""
    reader, writer = await asyncio.open_connection(host, port)
    lines = (f"GET {path} HTTP/1.1", f"Host: {host}:{port}", f"Authorization: Bearer {token}", "", "")
    writer.write("\r\n".join(lines).encode())
    while line := await reader.readline():
        if line.startswith(b"data:"):
            came = time.time()
            found = _AT.search(line)
            if found:
                made = datetime.fromisoformat(found.group(1).decode()).timestamp()
                delays.append(came - made)


async def main(host: str, port: int, path: str, token: str, clients: int, seconds: float) -> None:
    """Follow with all clients for a while."""
    delays: list[float] = []
    tasks = []
    for _ in range(clients):
        tasks.append(asyncio.create_task(follow(host, port, path, token, delays)))
        await asyncio.sleep(0.002)
    await asyncio.sleep(seconds)
    lost = sum(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    print(json.dumps({"delays": [round(each, 4) for each in delays], "lost": lost}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]), float(sys.argv[6])))
