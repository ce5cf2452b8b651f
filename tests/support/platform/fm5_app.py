"""FM5 for tests: its bundles, made by the real wrangler, and one of them served by a real workerd without a twin."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import shutil
import subprocess
import tempfile
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kept import kept

from backout.providers.child import find_free_ports
from backout.twin.dataplane.workerd import find_workerd
from backout.twin.wrangler import find_cli, find_node

from polling import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FM5 = Path(__file__).resolve().parents[3] / "examples" / "fm5"
VARIANTS = tuple(sorted(path.stem for path in (FM5 / "src" / "variants").glob("*.js")))
"""Those of the drills; the others, below `bad` and `odd`, stand in variants.toml."""

WELL = {"database": "ok", "storage": "ok", "email": "ok"}
ORDER = {"model_id": 1, "quantity": 1, "email": "a@example.com"}
DEFECTS: dict[str, list[tuple[str, str, int]]] = {
    "good": [("GET", "/api/models", 200), ("GET", "/api/models/1", 200), ("POST", "/api/orders", 201)],
    "good-2": [("GET", "/api/models", 200), ("GET", "/api/models/1", 200), ("POST", "/api/orders", 201)],
    "throws-on-one-route": [("GET", "/api/models", 500), ("GET", "/api/models/1", 200)],
    "errors-5-percent": [],
    "errors-all": [("GET", "/api/models", 500), ("GET", "/", 500)],
    "slow": [("GET", "/api/models", 200)],
    "slow-all": [("GET", "/api/models", 200)],
    "leak": [("GET", "/api/models", 200)],
    "missing-variable": [("GET", "/api/models/1", 500), ("POST", "/api/orders", 500), ("GET", "/api/models", 200)],
    "wrong-table": [("GET", "/api/models", 500), ("GET", "/api/models/1", 200)],
    "health-email-down": [("GET", "/api/models", 200), ("POST", "/api/orders", 201)],
}
"""What a visitor gets from each variant that can be live; rates and times are measured in test_fm5.py."""

ALL = "every variant that starts"
CHOICE = "FM5_TEST_VARIANT"
"""The binding that says which variant of the common bundle a Worker is."""


@functools.cache
def bundle(entry: str) -> str:
    """Return what `wrangler deploy` would upload for a variant, or for ALL: one module that is each of them by name.

    A run of wrangler takes two seconds of a processor, and their own code is a few lines each.
    """
    return bundle_files(entry)[0]


@functools.cache
def bundle_files(entry: str) -> tuple[str, str]:
    """Return the module and its source map; made by whichever worker needs them first."""
    made = kept("bundles") / entry.replace("/", " ")
    if not made.exists():
        new = made.with_name(f"{made.name} {os.getpid()}")
        _build(entry, new)
        with contextlib.suppress(OSError):  # another worker has made the same meanwhile
            new.rename(made)
    (code,), (mapped,) = made.glob("*.js"), made.glob("*.js.map")
    return code.read_text(encoding="utf-8"), mapped.read_text(encoding="utf-8")


def _build(entry: str, into: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source = FM5 / "src" / "variants" / f"{entry}.js"
        if entry == ALL:
            source = Path(scratch) / "all.js"
            source.write_text(_dispatching(), encoding="utf-8")
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": scratch,
            "CI": "1",
            "NO_COLOR": "1",
            "WRANGLER_SEND_METRICS": "false",
            "WRANGLER_HIDE_BANNER": "true",
            "WRANGLER_LOG_PATH": f"{scratch}/logs",
            "NODE_COMPILE_CACHE": str(kept("node")),
        }
        arguments = ("deploy", source, "--config", FM5 / "wrangler.jsonc", "--env", "production", "--dry-run")
        command = (find_node(), "--no-warnings", find_cli(FM5), *arguments, "--outdir", into)
        done = subprocess.run(
            command, cwd=FM5, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
        assert done.returncode == 0, done.stdout + done.stderr


def _dispatching() -> str:
    """Return a module that answers as the variant that CHOICE names."""
    folder = FM5 / "src" / "variants"
    names = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.js"))
    names.remove("broken-start")  # it would end all the others with it
    imported = [f"import v{n} from {json.dumps(str(folder / name) + '.js')};" for n, name in enumerate(names)]
    table = ", ".join(f"{json.dumps(name)}: v{n}" for n, name in enumerate(names))
    asked = [f"  {it}: (of, env, ctx) => VARIANTS[env.{CHOICE}].{it}(of, env, ctx)," for it in ("fetch", "scheduled")]
    return "\n".join([*imported, f"const VARIANTS = {{{table}}};", "export default {", *asked, "};", ""])


@dataclass(frozen=True)
class Reply:
    """One HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class App:
    """A running FM5."""

    port: int
    host: str = "fm5.localhost"

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Reply:
        """Send one request on a connection of its own."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)) as connection:
            connection.request(method, path, data, {"host": self.host, **headers})
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, **headers)


SCHEDULE = """import fm5 from "fm5.js";
export default {
  async fetch(request, env, ctx) {
    if (new URL(request.url).pathname !== "/run-schedule") return await fm5.fetch(request, env, ctx);
    await fm5.scheduled({}, env, ctx);
    return new Response(null, { status: 204 });
  },
};
"""
"""The entry module: the bundle, and a path that runs its schedule, which workerd alone never does."""


@dataclass(frozen=True)
class Bindings:
    """What the Worker is bound to.

    Args:
        texts: variables and secrets.
        postgres_port: where Hyperdrive leads, user and database `postgres`.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    postgres_port: int | None = None
    postgres_password: str = "x"


def start(variant: str, bindings: Bindings, directory: Path, port: int) -> subprocess.Popen[bytes]:
    """Start workerd for a variant, its output going to the file `output`; the caller ends it."""
    (directory / "fm5.js").write_text(bundle(variant if variant == "broken-start" else ALL), encoding="utf-8")
    (directory / "entry.js").write_text(SCHEDULE, encoding="utf-8")
    (directory / "config.capnp").write_text(_capnp(variant, bindings, port), encoding="utf-8")
    command = (find_workerd(start=FM5), "serve", "config.capnp")
    with (directory / "output").open("wb") as output:
        return subprocess.Popen(command, cwd=directory, stdout=output, stderr=subprocess.STDOUT)


@contextlib.contextmanager
def serving(variant: str, bindings: Bindings = Bindings()) -> Iterator[App]:
    """Serve a variant until the block ends."""
    directory = Path(tempfile.mkdtemp(prefix="fm5-"))
    app = App(find_free_ports(1)[0])
    process = start(variant, bindings, directory, app.port)
    try:
        until(lambda: process.poll() is not None or _answers(app), 20, "workerd answers")
        assert process.poll() is None, (directory / "output").read_text(encoding="utf-8")
        yield app
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory)


def _answers(app: App) -> bool:
    with contextlib.suppress(OSError):
        return app.get("/nowhere").status > 0
    return False


def _capnp(variant: str, bindings: Bindings, port: int) -> str:
    texts = {**bindings.texts, CHOICE: variant}
    lines = [f"(name = {json.dumps(name)}, text = {json.dumps(text)})" for name, text in texts.items()]
    lines.append('(name = "CF_VERSION", json = "{\\"id\\": \\"version-1\\", \\"tag\\": \\"v1\\"}")')
    services = ['(name = "main", worker = .fm5)', '(name = "internet", network = (allow = ["public", "private"]))']
    if bindings.postgres_port is not None:
        services.append(f'(name = "pg", external = (address = "127.0.0.1:{bindings.postgres_port}", tcp = ()))')
        password = json.dumps(bindings.postgres_password)
        lines.append(
            '(name = "HYPERDRIVE", hyperdrive = (designator = "pg", database = "postgres", user = "postgres", '
            f'password = {password}, scheme = "postgresql"))'
        )
    return f"""using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [{", ".join(services)}],
  sockets = [(name = "main", address = "127.0.0.1:{port}", http = (), service = "main")]);
const fm5 :Workerd.Worker = (
  modules = [(name = "entry.js", esModule = embed "entry.js"), (name = "fm5.js", esModule = embed "fm5.js")],
  compatibilityDate = "2026-10-01",
  bindings = [{", ".join(lines)}]);
"""


@dataclass
class EmailProvider:
    """An email provider's HTTP API that takes everything until it is told otherwise."""

    url: str = ""
    status: int = 200
    hold: threading.Event = field(default_factory=threading.Event)
    taken: list[tuple[str, Any]] = field(default_factory=list)


@contextlib.contextmanager
def email_provider() -> Iterator[EmailProvider]:
    """Serve the provider's two routes, GET /health and POST /emails, until the block ends."""
    provider = EmailProvider()
    provider.hold.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.hold.wait(10)
            self.reply()

        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if provider.status == 200:
                provider.taken.append((self.headers.get("authorization", ""), message))
            self.reply()

        def reply(self) -> None:
            self.send_response(provider.status)
            self.send_header("content-length", "2")
            self.end_headers()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        provider.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield provider
        provider.hold.set()
        server.shutdown()
        thread.join()
