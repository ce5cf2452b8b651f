"""The peer of benchmarks/serve.py: the same libraries and nothing else, an event stream that says the time.

python bare_stream.py PORT TIMES_A_SECOND
"""

from __future__ import annotations

import asyncio
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

_EVERY_S = 1 / float(sys.argv[2])


async def send() -> AsyncIterator[bytes]:
    """Yield the time, at the same moments for everybody."""
    while True:
        await asyncio.sleep(_EVERY_S - time.time() % _EVERY_S)
        at = datetime.fromtimestamp(time.time() // _EVERY_S * _EVERY_S, UTC)
        yield f'data: {{"at":"{at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]}Z","text":"{"x" * 300}"}}\n\n'.encode()


def answer(_request: Request) -> StreamingResponse:
    """Answer with the stream."""
    return StreamingResponse(send(), media_type="text/event-stream")


if __name__ == "__main__":
    uvicorn.run(Starlette(routes=[Route("/stream", answer)]), port=int(sys.argv[1]), log_config=None)
