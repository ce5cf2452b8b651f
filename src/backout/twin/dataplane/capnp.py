"""The workerd configuration of one Worker version, as text; pure, and no secret's value is ever in it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from msgspec import field

from backout.model.value import Value
from backout.providers.child_environment import ChildEnvironment, make_sealed_environment
from backout.twin.dataplane import capnp_objects
from backout.twin.dataplane.capnp_text import quote
from backout.twin.dataplane.outside import SCHEME, name_door

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backout.twin.control.worker import Binding, Module, WorkerVersion

OWN_MODULES = ("tail.js", "email-message.js", "send-email.js", capnp_objects.MODULE)
"""Files of this package that lie beside every configuration."""
HEAP_MB = 128
"""What one isolate may hold, heap and buffers, as on Cloudflare (Workers limits, memory)."""
_ASSETS_ONLY = 'export default { fetch: () => new Response("Not Found", { status: 404 }) };'
_TAKE_TAIL = """
import worker from %s;
export default {
  async fetch(request, env, ctx) {
    const lines = (await request.text()).split("\\n");
    await worker.tail(lines.map((line) => JSON.parse(line)), env, ctx);
    return new Response(null, { status: 204 });
  },
};
"""
"""Hands events from outside to the `tail` handler: workerd gives a Tail Worker only the events of its own process."""
_RUNS_SCHEDULES = """, (name = "MAIN", service = "main")],
  compatibilityFlags = ["service_binding_extra_handlers"]"""
"""workerd fires no schedule by itself; another Worker may, with a flag that asks for `--experimental`."""
_ESM = "application/javascript+module"
_IGNORED_MODULES = ("application/source-map",)
_MODULE_FIELDS: Mapping[str, str] = {
    _ESM: "esModule",
    "application/javascript": "commonJsModule",
    "text/javascript": "commonJsModule",
    "text/plain": "text",
    "text/html": "text",
    "text/sql": "text",
    "application/wasm": "wasm",
    "application/json": "json",
    "application/octet-stream": "data",
}


class HyperdriveTarget(Protocol):
    """Where a Hyperdrive binding connects to; the password is the twin's own, good on loopback only."""

    @property
    def host(self) -> str:
        """Loopback address."""
        ...

    @property
    def port(self) -> int:
        """TCP port."""
        ...

    @property
    def database(self) -> str:
        """Name of the database."""
        ...

    @property
    def user(self) -> str:
        """Name of the role."""
        ...

    @property
    def password(self) -> str:
        """Its password."""
        ...


class Surroundings(Value, frozen=True):
    """What one version's process is wired to.

    Args:
        socket: path of the unix socket that serves the Worker.
        control_socket: path of the tail worker's own socket.
        hub_socket: path of the twin's hub, which takes tail events and serves assets, other workers and refusals.
        hub_secret: the header value that the hub asks for.
        newest_date: the newest compatibility date that this workerd knows ("2026-11-17"); later ones are cut to it.
        r2: bucket name to the address of its gateway.
        hyperdrive: Hyperdrive id to its target.
        email: "host:port" of the outbox, which takes JSON by `POST /send`, or None.
        all_events: whether the tail worker sends every event from the start, not only the troubled ones.
        take_tail_socket: path of the socket at which a version with a `tail` handler takes other Workers' events.
        objects_socket: path of the socket at which the objects that forward are reset.
        calls_socket: path of the socket at which a process that hosts Durable Objects takes calls of them.
        objects_folder: where it keeps them; "" for a process that hosts none.
        sealed: whether calls to the outside go to the hub, which hands on those to the twin's own parts.
    """

    socket: str
    control_socket: str
    hub_socket: str
    hub_secret: str
    newest_date: str
    r2: Mapping[str, str] = field(default_factory=dict)
    hyperdrive: Mapping[str, HyperdriveTarget] = field(default_factory=dict)
    email: str | None = None
    all_events: bool = False
    take_tail_socket: str = ""
    objects_socket: str = ""
    calls_socket: str = ""
    objects_folder: str = ""
    sealed: bool = False


def name_secret_variable(index: int) -> str:
    """Return the environment variable that carries the binding number `index` (its value never touches the disk)."""
    return f"BACKOUT_SECRET_{index}"


def make_environment(version: WorkerVersion) -> ChildEnvironment:
    """Return the whole environment of the version's process: its secrets, and nothing of ours."""
    return make_sealed_environment(
        {name_secret_variable(i): b.value for i, b in enumerate(version.bindings) if b.type == "secret_text"}
    )


def name_module_file(index: int) -> str:
    """Return the file name under which module number `index` lies beside the configuration."""
    return f"m{index}"


def list_runnable_modules(version: WorkerVersion) -> tuple[Module, ...]:
    """Return the modules that workerd loads, the main one first; source maps and the like are left out."""
    kept = [m for m in version.modules if _strip_parameters(m.content_type) not in _IGNORED_MODULES]
    return tuple(sorted(kept, key=lambda module: module.name != version.main_module))


def render(version: WorkerVersion, around: Surroundings) -> str:
    """Return the text of config.capnp; modules are embedded from `name_module_file(i)` in the same folder.

    Source: workerd.capnp of workerd 1.20261117.1.
    """
    services = _Services(around)
    bindings = [_write_binding(i, b, version, services) for i, b in enumerate(version.bindings)]
    date = min(version.compatibility_date or around.newest_date, around.newest_date)
    flags = ", ".join(quote(flag) for flag in version.compatibility_flags)
    hosts = bool(around.objects_folder)
    hub_objects = services.hub("hub-objects", "objects", "") if capnp_objects.list_namespaces(version) else ""
    shared = (
        f"  compatibilityDate = {quote(date)},",
        f"  compatibilityFlags = [{flags}],",
        f"  bindings = [{', '.join(bindings)}],",
    )
    code = capnp_objects.write_hosting(version, _write_modules(version)) if hosts else (f"  {_write_code(version)},",)
    takes_tail = version.takes_tail and bool(version.modules)
    return "\n".join(
        (
            'using Workerd = import "/workerd/workerd.capnp";',
            "const config :Workerd.Config = (",
            "  services = [",
            '    (name = "main", worker = .mainWorker),',
            '    (name = "tail", worker = .tailWorker),',
            *(('    (name = "take-tail", worker = .takeTailWorker),',) if takes_tail else ()),
            *(f"    {line}," for line in services.lines()),
            *capnp_objects.write_services(version, around.objects_folder),
            *_write_internet(around),
            "  ],",
            "  sockets = [",
            f'    (name = "main", address = {quote("unix:" + around.socket)},',
            f"     service = {quote('reset' if hosts else 'main')},",
            '     http = (forwardedProtoHeader = "X-Forwarded-Proto", cfBlobHeader = "X-Backout-Cf")),',
            f'    (name = "control", address = {quote("unix:" + around.control_socket)}, service = "tail", http = ()),',
            *(_take_tail_socket(around) if takes_tail else ()),
            *capnp_objects.write_socket(version, around.objects_socket),
            "  ],",
            f'  v8Flags = ["--max-old-space-size={HEAP_MB}", "--trace-gc-verbose"],',  # see twin.dataplane.memory
            "  extensions = [(modules = [",
            '    (name = "cloudflare-internal:email", internal = true, esModule = embed "email-message.js"),',
            '    (name = "backout:send-email", internal = true, esModule = embed "send-email.js"),',
            "  ])],",
            ");",
            "const mainWorker :Workerd.Worker = (",
            *code,
            *shared,
            '  tails = ["tail"],',
            ");",
            *capnp_objects.write_workers(version, hub_objects, around.newest_date, hosts=hosts),
            *(_take_tail_worker(version, shared) if takes_tail else ()),
            "const tailWorker :Workerd.Worker = (",
            '  modules = [(name = "tail.js", esModule = embed "tail.js")],',
            f"  compatibilityDate = {quote(around.newest_date)},",
            '  bindings = [(name = "HUB", service = "hub-tail"),',
            f'    (name = "SCRIPT", text = {quote(version.script)}), (name = "VERSION", text = {quote(version.id)}),',
            f'    (name = "ALL", text = "{int(around.all_events)}")',
            f"    {_RUNS_SCHEDULES if version.takes_schedule else ']'},",
            ");",
            "",
        )
    )


class _Services:
    """Collects the external services that bindings name while they are rendered."""

    def __init__(self, around: Surroundings) -> None:
        self.around = around
        self._externals: dict[str, str] = {"hub-tail": self._hub("tail", "")}

    def hub(self, name: str, role: str, argument: str) -> str:
        self._externals.setdefault(name, self._hub(role, argument))
        return name

    def external(self, name: str, address: str, kind: str) -> str:
        self._externals.setdefault(name, f"external = (address = {quote(address)}, {kind} = ())")
        return name

    def refuse(self, binding: Binding, why: str) -> str:
        return self.hub(f"refuse-{binding.name}", "refuse", f"binding {binding.name}: {why}")

    def _hub(self, role: str, argument: str) -> str:
        return _write_hub(self.around, role, argument)

    def lines(self) -> list[str]:
        return [f"(name = {quote(name)}, {body})" for name, body in self._externals.items()]


def _write_hub(
    around: Surroundings, role: str, argument: str, *, more: str = "", at: Callable[[str], str] = str
) -> str:
    headers = (("X-Backout-Role", role), ("X-Backout-Argument", argument), ("X-Backout-Secret", around.hub_secret))
    injected = ", ".join(f"(name = {quote(name)}, value = {quote(value)})" for name, value in headers)
    address = quote("unix:" + at(around.hub_socket))
    return f"external = (address = {address}, http = ({more}injectRequestHeaders = [{injected}]))"


def _write_internet(around: Surroundings) -> tuple[str, ...]:
    """Return the service that takes every call to the outside."""
    if around.sealed:
        service = _write_hub(around, "outside", "", more=f'forwardedProtoHeader = "{SCHEME}", ', at=name_door)
        return (f'    (name = "internet", {service}),',)
    return (
        '    (name = "internet", network = (allow = ["public", "private"],',
        "     tlsOptions = (trustBrowserCas = true))),",
    )


def _write_binding(index: int, binding: Binding, version: WorkerVersion, services: _Services) -> str:
    render_one = _RENDERERS.get(binding.type)
    if render_one is None:
        body = _render_refused(binding, services)
    elif binding.type == "secret_text":
        body = f"fromEnvironment = {quote(name_secret_variable(index))}"
    else:
        body = render_one(binding, version, services)
    return f"(name = {quote(binding.name)}, {body})"


def _render_refused(binding: Binding, services: _Services) -> str:
    """Render a binding that exists in `env` and says at its use what is missing."""
    target = quote(services.refuse(binding, f"{binding.type} is not emulated by the twin"))
    field_name = {"kv_namespace": "kvNamespace", "queue": "queue", "analytics_engine": "analyticsEngine"}
    return f"{field_name.get(binding.type, 'service')} = {target}"


def _write_r2(binding: Binding, _version: WorkerVersion, services: _Services) -> str:
    address = services.around.r2.get(binding.value)
    if address is None:
        return f"r2Bucket = {quote(services.refuse(binding, f'this twin has no bucket {binding.value}'))}"
    return f"r2Bucket = {quote(services.external(f'r2-{binding.value}', address, 'http'))}"


def _write_hyperdrive(binding: Binding, _version: WorkerVersion, services: _Services) -> str:
    around = services.around
    target = around.hyperdrive.get(binding.value)
    if target is None:
        # Nothing listens there, so that connecting fails; the names are what the driver's error can show.
        address, login = f"unix:{around.hub_socket}.no-database", ("no-database-in-this-twin", "nobody", "")
    else:
        address, login = f"{target.host}:{target.port}", (target.database, target.user, target.password)
    database, user, password = (quote(text) for text in login)
    designator = quote(services.external(f"hyperdrive-{binding.value}", address, "tcp"))
    return (
        f"hyperdrive = (designator = {designator}, database = {database}, user = {user}, "
        f'password = {password}, scheme = "postgresql")'
    )


def _write_d1(binding: Binding, _version: WorkerVersion, services: _Services) -> str:
    inner = f'(name = "fetcher", service = {quote(services.hub(f"d1-{binding.value}", "d1", binding.value))})'
    return f'wrapped = (moduleName = "cloudflare-internal:d1-api", innerBindings = [{inner}])'


def _write_version_metadata(_binding: Binding, version: WorkerVersion, _services: _Services) -> str:
    created = datetime.fromtimestamp(version.created_at, UTC).isoformat().replace("+00:00", "Z")
    return f"json = {quote(json.dumps({'id': version.id, 'tag': version.tag, 'timestamp': created}))}"


def _write_assets(_binding: Binding, version: WorkerVersion, services: _Services) -> str:
    return f"service = {quote(services.hub('assets', 'assets', version.id))}"


def _write_service(binding: Binding, _version: WorkerVersion, services: _Services) -> str:
    return f"service = {quote(services.hub(f'worker-{binding.value}', 'worker', binding.value))}"


def _send_email(binding: Binding, _version: WorkerVersion, services: _Services) -> str:
    address = services.around.email
    if address is None:
        target = services.refuse(binding, "the twin runs without an outbox")
    else:
        target = services.external("outbox", address, "http")
    inner = f'(name = "outbox", service = {quote(target)})'
    return f'wrapped = (moduleName = "backout:send-email", innerBindings = [{inner}])'


_RENDERERS: Mapping[str, Callable[[Binding, WorkerVersion, _Services], str]] = {
    "plain_text": lambda binding, _version, _services: f"text = {quote(binding.value)}",
    "json": lambda binding, _version, _services: f"json = {quote(binding.value)}",
    "secret_text": lambda _binding, _version, _services: "",
    "version_metadata": _write_version_metadata,
    "hyperdrive": _write_hyperdrive,
    "r2_bucket": _write_r2,
    "d1": _write_d1,
    "assets": _write_assets,
    "service": _write_service,
    capnp_objects.KIND: lambda binding, version, _services: capnp_objects.write_binding(binding, version),
    "send_email": _send_email,
}


def _write_code(version: WorkerVersion) -> str:
    modules = list_runnable_modules(version)
    if modules and modules[0].name == version.main_module and _choose_field(modules[0]) == "commonJsModule":
        return f"serviceWorkerScript = embed {quote(name_module_file(0))}"
    return f"modules = [{_write_modules(version)}]"


def _write_modules(version: WorkerVersion) -> str:
    modules = list_runnable_modules(version)
    if not modules:
        return f'(name = "assets-only.js", esModule = {quote(_ASSETS_ONLY)})'
    return ", ".join(
        f"(name = {quote(module.name)}, {_choose_field(module)} = embed {quote(name_module_file(i))})"
        for i, module in enumerate(modules)
    )


def _take_tail_socket(around: Surroundings) -> tuple[str, ...]:
    address = quote("unix:" + around.take_tail_socket)
    return (f'    (name = "take-tail", address = {address}, service = "take-tail", http = ()),',)


def _take_tail_worker(version: WorkerVersion, shared: tuple[str, ...]) -> tuple[str, ...]:
    main = quote(_TAKE_TAIL % json.dumps(f"./{version.main_module}"))
    return (
        "const takeTailWorker :Workerd.Worker = (",
        f'  modules = [(name = "backout-take-tail.js", esModule = {main}), {_write_modules(version)}],',
        *shared,
        ");",
    )


def _choose_field(module: Module) -> str:
    return _MODULE_FIELDS.get(_strip_parameters(module.content_type), "data")


def _strip_parameters(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
