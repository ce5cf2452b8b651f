"""The example for kubectl, against a program that answers as kubectl is documented to: no cluster was ever asked.

It keeps a Deployment with its ReplicaSets in a file, and refuses a patch that names an older resourceVersion.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from backout.errors import NoSplit, WorldMoved
from backout.model.deployment import Share
from backout.model.version import VersionId
from backout.providers.child_environment import make_sealed_environment
from backout.providers.command.calls import PlatformCommands
from backout.providers.command.platform import CommandDeployments, CommandVersions

if TYPE_CHECKING:
    from backout.providers.command.protocol import Name

SCRIPT = Path(__file__).parents[2] / "examples" / "platforms" / "kubectl.py"
NAMES: tuple[Name, ...] = ("history", "current", "activate", "shares")
_KUBECTL = """#!{python}
import json, pathlib, sys
path, words = pathlib.Path({state!r}), sys.argv[3:]
state = json.loads(path.read_text())
deployment, sets = state["deployment"], state["sets"]
if words[:2] == ["get", "deployment"]:
    print(json.dumps(deployment))
    if state.pop("moves", None):
        deployment["metadata"]["resourceVersion"] += "0"
elif words[:2] == ["get", "replicasets"]:
    print(json.dumps({{"items": sets}}))
elif words[0] == "patch":
    patch = json.load(sys.stdin)
    if patch["metadata"]["resourceVersion"] != deployment["metadata"]["resourceVersion"]:
        sys.exit("Error from server (Conflict): the object has been modified")
    deployment["metadata"]["annotations"].update(patch["metadata"]["annotations"])
    deployment["metadata"]["resourceVersion"] += "1"
    image = patch["spec"]["template"]["spec"]["image"]
    for each in sets:
        each["status"]["availableReplicas"] = 3 * (each["spec"]["template"]["spec"]["image"] == image)
path.write_text(json.dumps(state))
"""


class Cluster:
    """What the program answers from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "state.json"
        self.write({"deployment": {"metadata": {"uid": "u1", "resourceVersion": "1", "annotations": {}}}, "sets": []})
        self.change(sets=[self.make_set("v2", 2, 3), self.make_set("v1", 1, 0)])
        program = folder / "kubectl"
        program.write_text(_KUBECTL.format(python=sys.executable, state=str(self.path)))
        program.chmod(0o755)

    @staticmethod
    def make_set(name: str, day: int, ready: int) -> dict[str, Any]:
        """Return a ReplicaSet."""
        metadata = {
            "labels": {"pod-template-hash": name},
            "creationTimestamp": f"2026-11-0{day}T00:00:00Z",
            "ownerReferences": [{"uid": "u1"}],
        }
        template = {
            "metadata": {"labels": {"pod-template-hash": name, "app": "shop"}},
            "spec": {"image": f"shop:{name}"},
        }
        return {"metadata": metadata, "spec": {"template": template}, "status": {"availableReplicas": ready}}

    def write(self, state: dict[str, Any]) -> None:
        """Have this state."""
        self.path.write_text(json.dumps(state))

    def change(self, **state: object) -> None:
        """Have these parts of the state be others."""
        self.write({**json.loads(self.path.read_text()), **state})

    def open_port(self) -> CommandDeployments:
        """Return the port, as an operator of its own has it."""
        return CommandDeployments(self.make_commands())

    def make_commands(self) -> PlatformCommands:
        """Return the commands."""
        variables = {"KUBE_DEPLOYMENT": "shop", "KUBE_NAMESPACE": "default"}
        path = f"{self.folder}{os.pathsep}{os.environ['PATH']}"
        return PlatformCommands(
            {name: (sys.executable, "-I", str(SCRIPT)) for name in NAMES},
            self.folder,
            timeout_s=120.0,
            make_environment=lambda: make_sealed_environment({**variables, "PATH": path}),
            read_secrets=dict,
            write_line=lambda name: name,
            mask=str,
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """A Deployment with two ReplicaSets, the second one with all of the pods."""
    return Cluster(tmp_path)


@pytest.mark.long
@pytest.mark.rotating("kubectl", 2)
def test_a_version_is_made_live_by_its_template(cluster: Cluster) -> None:
    """What was live by hand is shown as such; the switch is a deployment of its own, with its message."""
    port = cluster.open_port()
    assert [each.id for each in CommandVersions(cluster.make_commands()).recent()] == ["v2", "v1"]
    assert port.history()[0].id.startswith("hand-v2")
    made = port.activate("v1", message="back")
    now = cluster.open_port().history()[0]
    assert (now.id, now.sole, now.message) == (made.id, "v1", "back")


@pytest.mark.long
@pytest.mark.rotating("kubectl", 2)
@pytest.mark.parametrize("when", ["before it", "in between"])
def test_a_switch_that_rests_on_an_older_look_is_refused(cluster: Cluster, when: str) -> None:
    """By the script, which looks first; by the API server, where something changed between its look and its patch."""
    stale, other = cluster.open_port(), cluster.open_port()
    for port in (stale, other):
        port.history()
    if when == "before it":
        other.activate("v2", message="a newer deployment")
    else:
        cluster.change(moves=True)
    live = cluster.open_port().history()[0]
    if when == "in between":
        cluster.change(moves=True)
    with pytest.raises(WorldMoved):
        stale.activate("v1", message="stale")
    assert cluster.open_port().history()[0].id == live.id


def test_a_placement_is_no_split(cluster: Cluster) -> None:
    """It has no shares: a command for them, configured by mistake, says so, and moves nothing."""
    port = cluster.open_port()
    live = port.history()[0]
    with pytest.raises(NoSplit):
        port.deploy([Share(VersionId("v2"), 100.0), Share(VersionId("v1"), 0.0)], message="at 0 %")
    assert cluster.open_port().history()[0].id == live.id


def test_it_is_a_program_that_needs_nothing() -> None:
    """But Python and kubectl."""
    done = subprocess.run([sys.executable, "-I", "-m", "py_compile", str(SCRIPT)], capture_output=True, check=False)
    assert done.returncode == 0
