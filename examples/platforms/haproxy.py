"""A platform for backout: the servers of a HAProxy backend, each named as its version (docs/platform-command.md).

What is live are weights, set through the runtime API and written into HAProxy's state file; a book keeps what was live.
"""

import fcntl
import json
import os
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

SOCKET, BACKEND = os.environ["HAPROXY_SOCKET"], os.environ["HAPROXY_BACKEND"]
STATE, BOOK = Path(os.environ["HAPROXY_STATE_FILE"]), Path(os.environ["HAPROXY_BOOK"])
NOTES = Path(os.environ.get("HAPROXY_NOTES", "/dev/null"))  # {VERSION: {"commit": ...}}, as a deploy script knows it
NOW = datetime.now(UTC).isoformat(timespec="milliseconds")


def fail(error, message):
    sys.exit(print(json.dumps({"error": error, "message": message})))  # ends with 0, as all that was answered


def ask(line):
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(SOCKET)
            connection.sendall(f"{line}\n".encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    except OSError as error:
        fail("denied" if isinstance(error, PermissionError) else "unavailable", f"{SOCKET}: {error}")


def write(path, text):
    with (new := path.with_suffix(".new")).open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def weigh(shares, servers):
    return dict.fromkeys(servers, 0) | {each["version"]: round(each["percentage"] * 2) for each in shares}  # up to 256


def find_current(book, weights):
    if (newest := book["deployments"][:1]) and weigh(newest[0]["shares"], weights) == weights:
        return newest[0]
    live = {version: weight for version, weight in weights.items() if weight}
    name = "-".join(["hand", *(f"{version}.{weight}" for version, weight in live.items())])[:128]
    shares = [{"version": each, "percentage": 100 * part / sum(live.values())} for each, part in live.items()]
    return {"id": name, "created_at": book["seen"].setdefault(name, NOW), "shares": shares} if live else None


def switch(request, shares, book, weights):
    was = (current := find_current(book, weights)) and current["id"]
    if request.get("if_current", was) != was:
        fail("conflict", f"{was} is live")
    if unknown := {each["version"] for each in shares} - weights.keys():
        fail("unknown_version", f"backend {BACKEND} has no server {unknown.pop()}")
    at = max(NOW, current["created_at"] if current else NOW)
    made = {"id": os.urandom(8).hex(), "created_at": at, "shares": shares, "message": request["message"]}
    write(BOOK, json.dumps(book | {"intended": made}))
    order = sorted(weigh(shares, weights).items(), key=lambda each: -each[1])  # so that something always gets traffic
    if said := ask("; ".join(f"set server {BACKEND}/{server} weight {weight}" for server, weight in order)).strip():
        fail("denied" if "ermission" in said else "unavailable", said)
    write(STATE, ask("show servers state"))
    write(BOOK, json.dumps(book | {"deployments": [made, *book["deployments"]][:100]}))
    return {"deployment": made}


def answer(request):
    lines = [line.split() for line in ask(f"show servers state {BACKEND}").splitlines() if line.strip()]
    if len(lines) < 2:
        fail("not_found", f"HAProxy has no backend {BACKEND}")
    name, weight = (lines[1].index(f"srv_{each}") - 1 for each in ("name", "uweight"))  # behind a "#"
    weights = {line[name]: int(line[weight]) for line in lines[2:]}
    book = json.loads(BOOK.read_text()) if BOOK.exists() else {"seen": {}, "deployments": []}  # newest first
    if (made := book.pop("intended", None)) and weigh(made["shares"], weights) == weights:  # its command was killed
        book["deployments"].insert(0, made)
    seen = sorted(((book["seen"].setdefault(each, NOW), each) for each in weights), reverse=True)
    current = find_current(book, weights)
    write(BOOK, json.dumps(book))  # when each version was first seen
    match request["command"]:
        case "history":
            notes = json.loads(NOTES.read_text() or "{}")
            versions = [{"id": each, "created_at": at, **notes.get(each, {})} for at, each in seen[:100]]
            return {"versions": versions, "deployments": book["deployments"]}
        case "current":
            return {"application": f"{Path(SOCKET).resolve()}/{BACKEND}", "deployment": current}
        case "probe":
            return {"headers": {"X-Backout-Version": request["version"]}}
    return switch(request, request.get("shares") or [{"version": request["version"], "percentage": 100}], book, weights)


if __name__ == "__main__":
    with BOOK.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one at a time: that makes `if_current` true
        print(json.dumps(answer(json.load(sys.stdin))))
