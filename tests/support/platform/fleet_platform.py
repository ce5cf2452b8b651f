"""The commands of a platform that is a file for each application: what is live is what stands in it.

Run as `python3 -I -S fleet_platform.py` with `FLEET_STATE`; the folder also holds a ledger of every switch.
"""

import fcntl
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

STATE = Path(os.environ["FLEET_STATE"])


def fail(error: str, message: str) -> None:
    sys.stdout.write(json.dumps({"error": error, "message": message}))
    sys.exit(0)


def switch(state: dict, request: dict, shares: list) -> dict:
    live = state["deployments"][0]["id"] if state["deployments"] else None
    if request.get("if_current", live) != live:
        fail("conflict", f"{live} is live")
    if unknown := {each["version"] for each in shares} - {each["id"] for each in state["versions"]}:
        fail("unknown_version", f"there is no {unknown.pop()}")
    now = time.time()
    made = {
        "id": os.urandom(8).hex(),
        "created_at": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds"),
        "shares": shares,
        "message": request["message"],
    }
    state["deployments"] = [made, *state["deployments"]][:100]
    new = STATE.with_suffix(".new")
    new.write_text(json.dumps(state))
    new.replace(STATE)
    line = json.dumps({"at": now, "from": live, "pid": os.getppid(), **made})
    with STATE.with_suffix(".ledger").open("a") as ledger:
        ledger.write(line + "\n")
    return {"deployment": made}


def answer(request: dict) -> dict:
    state = json.loads(STATE.read_text())
    match request["command"]:
        case "history":
            return {"versions": state["versions"], "deployments": state["deployments"]}
        case "current":
            return {"application": STATE.stem, "deployment": (state["deployments"] or [None])[0]}
        case "probe":
            return {"headers": {"X-Backout-Version": request["version"]}}
    return switch(state, request, request.get("shares") or [{"version": request["version"], "percentage": 100}])


if __name__ == "__main__":
    with STATE.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sys.stdout.write(json.dumps(answer(json.load(sys.stdin))))
