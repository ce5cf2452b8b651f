"""A platform for backout: a Kubernetes Deployment, through kubectl. UNTESTED on a cluster.

It is written from the documentation, and was tried against a program that answers as kubectl is documented to.
A version is a ReplicaSet of the Deployment, by its pod-template-hash; making it live puts its template back, in a
patch that names the resourceVersion it rests on, so that the API server refuses it if anything changed. What was live
is kept in an annotation. There is no `shares` and no `probe`: a target is not asked before, so a rollback needs
`--accept-unproven`. Before you trust it: `backout conformance` on a cluster that may break.
"""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime

NAME, NAMESPACE = os.environ["KUBE_DEPLOYMENT"], os.environ["KUBE_NAMESPACE"]
HASH, BOOK = "pod-template-hash", "backout.dev/deployments"


def fail(error, message):
    print(json.dumps({"error": error, "message": message}))
    sys.exit(0)


def run(*words, given=None, begun=False):
    """Run kubectl; what fails once a change has begun is "unavailable", the word for what may have happened."""
    argv = ["kubectl", "-n", NAMESPACE, *words]
    done = subprocess.run(argv, input=given, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout
    said = done.stderr.strip()
    kinds = {"(NotFound)": "not_found", "(Forbidden)": "denied", "(Unauthorized)": "denied", "(Conflict)": "conflict"}
    known = None if begun else next((kind for mark, kind in kinds.items() if mark in said), None)
    return fail(known or "unavailable", said)


def read():
    deployment = json.loads(run("get", "deployment", NAME, "-o", "json"))
    every = json.loads(run("get", "replicasets", "-o", "json"))["items"]
    uid = deployment["metadata"]["uid"]
    owned = [each for each in every if any(o["uid"] == uid for o in each["metadata"].get("ownerReferences", ()))]
    owned.sort(key=lambda each: each["metadata"]["creationTimestamp"], reverse=True)
    book = json.loads(deployment["metadata"].get("annotations", {}).get(BOOK, "[]"))
    return deployment, {each["metadata"]["labels"][HASH]: each for each in owned}, book


def find_current(sets, book):
    """Say what runs, by the pods that are available: while a rollout goes on, several versions are live."""
    ready = {name: each["status"].get("availableReplicas", 0) for name, each in sets.items()}
    total = sum(ready.values())
    shares = [{"version": name, "percentage": 100 * count / total} for name, count in ready.items() if count]
    if book and [share["version"] for share in shares] == [share["version"] for share in book[0]["shares"]]:
        return book[0]
    name = "-".join(["hand", *(f"{share['version']}.{share['percentage']:.0f}" for share in shares)])
    at = max((sets[share["version"]]["metadata"]["creationTimestamp"] for share in shares), default="")
    return {"id": name[:128], "created_at": at, "shares": shares, "triggered_by": "hand"} if shares else None


def activate(request, deployment, sets, book):
    was = (current := find_current(sets, book)) and current["id"]
    if request.get("if_current", was) != was:
        fail("conflict", f"{was} is live")
    if request["version"] not in sets:
        fail("unknown_version", f"there is no ReplicaSet {request['version']} any more")
    template = sets[request["version"]]["spec"]["template"]
    del template["metadata"]["labels"][HASH]
    made = {
        "id": os.urandom(8).hex(),
        "created_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "shares": [{"version": request["version"], "percentage": 100}],
        "message": request["message"],
    }
    metadata = {
        "resourceVersion": deployment["metadata"]["resourceVersion"],
        "annotations": {BOOK: json.dumps([made, *book][:20])},
    }
    spec = {"template": {"$patch": "replace", **template}}
    patch = json.dumps(
        {"metadata": metadata, "spec": spec}
    )  # not in argv, where everybody on the machine could read it
    run("patch", "deployment", NAME, "--patch-file", "/dev/stdin", given=patch)
    run("rollout", "status", f"deployment/{NAME}", f"--timeout={os.environ.get('KUBE_TIMEOUT', '5m')}", begun=True)
    return {"deployment": made}


def answer(request):
    deployment, sets, book = read()
    if request["command"] == "activate":
        return activate(request, deployment, sets, book)
    if request["command"] == "shares":
        fail("no_split", "a Deployment has no shares: leave the key `shares` out")
    if request["command"] == "current":
        return {"application": deployment["metadata"]["uid"], "deployment": find_current(sets, book)}
    versions = [{"id": name, "created_at": each["metadata"]["creationTimestamp"]} for name, each in sets.items()]
    return {"versions": versions, "deployments": book}


if __name__ == "__main__":
    print(json.dumps(answer(json.load(sys.stdin))))
