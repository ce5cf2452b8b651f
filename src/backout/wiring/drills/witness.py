"""What the application confirms during a drill, and whether it is still there in the end: rows and objects, by name.

It is asked as visitors ask it. In the end the rows are looked for in Postgres, the objects through the version that is
live then.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import threading
import time
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from backout.model.drill import Loss
from backout.model.value import Value

if TYPE_CHECKING:
    from backout.twin.stage import Stage

_EVERY_S: Final = 0.5
_PATIENCE_S: Final = 5.0
_OK, _CREATED = 200, 201
_FILE: Final = "/api/files/"


class Confirmed(Value, frozen=True):
    """Something that the application said it has written, and when, Unix seconds."""

    name: str
    at: float


class Witness:
    """Writes an order and a file every half a second until the block ends, and remembers what was confirmed.

    Args:
        writes: whether it does; a drill to which nobody comes has no such traffic either.
    """

    def __init__(self, stage: Stage, *, writes: bool = True) -> None:
        self._stage = stage
        self._writes = writes
        self._mark = secrets.token_hex(6)
        self.rows: list[Confirmed] = []
        self.objects: list[Confirmed] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write, name="witness", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        if self._writes:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Write nothing more."""
        self._over.set()
        if self._writes:
            self._thread.join()

    def measure_loss(self) -> Loss:
        """Return what was confirmed and is not there any more.

        Raises:
            BackoutError: the database does not answer.
        """
        found = self._stage.query("SELECT note FROM public.orders WHERE note LIKE %s", f"{self._mark}-%")
        there = {str(row[0]) for row in found}
        lost_rows = [each for each in self.rows if each.name not in there]
        lost_objects = [each for each in self.objects if self._ask("GET", _FILE + each.name) != _OK]
        times = [each.at for each in (*lost_rows, *lost_objects)]
        return Loss(len(lost_rows), len(lost_objects), round(max(times) - min(times), 3) if times else 0.0)

    def _write(self) -> None:
        number = 0
        while not self._over.wait(_EVERY_S):
            number += 1
            name, at = f"{self._mark}-{number}", time.time()
            order = {"model_id": 1, "quantity": 1, "email": "witness@example.com", "note": name}
            if self._ask("POST", "/api/orders", json.dumps(order).encode()) == _CREATED:
                self.rows.append(Confirmed(name, at))
            if self._ask("PUT", _FILE + name, name.encode(), "text/plain") == _CREATED:
                self.objects.append(Confirmed(name, at))

    def _ask(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> int:
        """Return the status of the answer, 0 when none came."""
        address = urlsplit(str(self._stage.twin.ingress_url))
        with contextlib.closing(http.client.HTTPConnection(address.netloc, timeout=_PATIENCE_S)) as connection:
            headers = {"Host": self._stage.host, **({} if body is None else {"Content-Type": kind})}
            try:
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                return 0
            return answer.status
