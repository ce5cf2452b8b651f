"""Visitors of applications that serve them: each asks so often, whatever it is answered, until the process ends.

Run as `python3 -I -S fleet_visitors.py RATE HOST=ADDRESS:PORT…`; one thread, and one connection, for each application.
"""

import contextlib
import http.client
import sys
import threading
import time

RATE = float(sys.argv[1])


def visit(host: str, address: str) -> None:
    """Ask for ever."""
    connection = http.client.HTTPConnection(address, timeout=60)
    due = time.monotonic()
    while True:
        due = max(due + 1 / RATE, time.monotonic() - 5)  # who was kept waiting does not come back as a crowd
        time.sleep(max(0.0, due - time.monotonic()))
        try:
            connection.request("GET", "/page", headers={"Host": host})
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            with contextlib.suppress(OSError):
                connection.close()


if __name__ == "__main__":
    for pair in sys.argv[2:]:
        threading.Thread(target=visit, args=pair.split("=")).start()
