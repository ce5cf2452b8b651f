"""The applications of a fleet on a scripted platform, spoken for by commands, with visitors that are lines of a log."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fleet_part import list_served

from backout.providers.child import find_free_ports, tie_to_parent

from polling import until

if TYPE_CHECKING:
    from collections.abc import Iterator

_HERE: Final = Path(__file__).parent
_PLATFORM: Final = _HERE / "fleet_platform.py"
_LINES: Final = """health = {{ url = "http://127.0.1.{number}:{port}/{name}/health" }}
{pin}[environments.{name}.traffic]
provider = "logs"
logs = {{ path = "logs/{name}.jsonl" }}
[environments.{name}.platform]
provider = "command"
[environments.{name}.platform.command]
history = {argv}
current = {argv}
activate = {argv}
shares = {argv}
probe = {argv}
timeout = "60s"
environment = {{ FLEET_STATE = "state/{name}.json" }}
"""


class ScriptedPart:
    """Part of a fleet, see `Part`.

    Attributes:
        url: of the server.
        pins: a line for each environment that says who it is, once that is known.
    """

    place = "on the scripted platform"
    blur_s = 0.0

    def __init__(self, folder: Path, count: int) -> None:
        (port,) = find_free_ports(1)
        self.names = tuple(f"app-{number}" for number in range(count))
        self.url = f"http://127.0.0.1:{port}"
        self.pins: dict[str, str] = {}
        self._folder, self._port = folder, port
        for each in ("state", "logs"):
            (folder / each).mkdir()
        for name in self.names:
            (folder / "state" / f"{name}.json").write_text('{"versions": [], "deployments": []}')
            (folder / "logs" / f"{name}.jsonl").touch()

    def describe(self, name: str) -> str:
        """Return an application's lines of backout.toml."""
        argv = json.dumps([sys.executable, "-I", "-S", str(_PLATFORM)])
        number = self.names.index(name)
        return _LINES.format(name=name, number=number, port=self._port, argv=argv, pin=self.pins.get(name, ""))

    def deploy(self, name: str, version: str) -> str:
        """Push a version, and make it live."""
        commit = version.encode().hex().ljust(40, "0")[:40]
        self._ask(name, command="push", made={"id": version, "commit": commit})
        assert "deployment" in self._ask(name, command="activate", version=version, message="deploy")
        return version

    def _ask(self, name: str, **request: object) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(_PLATFORM)], input=json.dumps(request), cwd=self._folder,
            env={"FLEET_STATE": f"state/{name}.json"}, text=True, capture_output=True, check=True,
        )  # fmt: skip
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def read_live(self, name: str) -> str:
        """Return the version that stands in the platform's file."""
        state = json.loads((self._folder / "state" / f"{name}.json").read_text())
        return _find_main(state["deployments"][0])

    def read_switches(self, name: str) -> list[dict[str, Any]]:
        """Return every switch of the platform's ledger, oldest first."""
        path = self._folder / "state" / f"{name}.ledger"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [{**each, "version": _find_main(each)} for each in lines]

    def read_served(self, name: str) -> list[str]:
        """Return the versions that were live, as the ledger has them."""
        return list_served([each["version"] for each in self.read_switches(name)])

    def read_looks(self) -> dict[str, list[float]]:
        """Return when each application's health was looked at, by the server's own clock."""
        with urllib.request.urlopen(f"{self.url}/looks") as answer:
            found: dict[str, list[float]] = json.load(answer)
        return {name: found.get(name, []) for name in self.names}

    @contextlib.contextmanager
    def serve(self, rate: float) -> Iterator[None]:
        """Run the applications, and have visitors come, so many a second."""
        argv = (str(_HERE / "fleet_server.py"), str(self._folder), str(self._port), str(rate), str(len(self.names)))
        server = subprocess.Popen(tie_to_parent((sys.executable, "-I", "-S", *argv), signal.SIGKILL))
        try:
            until(self._answers, 20, "the fleet's server", process=server)
            yield
        finally:
            server.kill()
            server.wait()

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/looks").close()
        except OSError:
            return False
        return True


def _find_main(deployment: dict[str, Any]) -> str:
    return str(next(each["version"] for each in deployment["shares"] if each["percentage"]))
