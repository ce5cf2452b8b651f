"""The commands of a platform that is a file for each application: what is live is what stands in it.

Run as `python3 -I -S fleet_platform.py` with `FLEET_STATE`; the folder also holds a ledger of every switch.
"""

import fcntl
import json
import os
import sys
import time

BASE = os.environ["FLEET_STATE"].removesuffix(".json")
# Without pathlib and datetime it starts in two thirds of the time, and a fleet starts a great many of them.


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
        "created_at": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z",
        "shares": shares,
        "message": request["message"],
    }
    state["deployments"] = [made, *state["deployments"]][:100]
    write(state)
    line = json.dumps({"at": now, "from": live, **made})
    with open(f"{BASE}.ledger", "a", encoding="utf-8") as ledger:  # noqa: PTH123 - see above
        ledger.write(line + "\n")
    return {"deployment": made}


def write(state: dict) -> None:
    with open(f"{BASE}.new", "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(state, file)
    os.replace(f"{BASE}.new", f"{BASE}.json")  # noqa: PTH105


def answer(request: dict) -> dict:
    with open(f"{BASE}.json", encoding="utf-8") as file:  # noqa: PTH123
        state = json.load(file)
    match request["command"]:
        case "history":
            return {"versions": state["versions"], "deployments": state["deployments"]}
        case "current":
            return {"application": BASE.rpartition("/")[2], "deployment": (state["deployments"] or [None])[0]}
        case "push":  # a deploy script's, under the same lock
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            state["versions"].insert(0, {"created_at": now, **request["made"]})
            write(state)
            return {}
        case "probe":
            return {"headers": {"X-Backout-Version": request["version"]}}
    return switch(state, request, request.get("shares") or [{"version": request["version"], "percentage": 100}])


if __name__ == "__main__":
    with open(f"{BASE}.lock", "w", encoding="utf-8") as lock:  # noqa: PTH123
        fcntl.flock(lock, fcntl.LOCK_EX)
        sys.stdout.write(json.dumps(answer(json.load(sys.stdin))))
