"""The parts of a workerd configuration that concern Durable Objects; pure.

A process that answers requests has namespaces whose objects only forward (`objects.js`), to the process that hosts the
version's classes. The one calls the other by workerd's debug port, which carries fetch, WebSockets and RPC.
Source: workerd.capnp of workerd 1.20261117.1, `workerdDebugPort` and `localDisk`; both ask for `--experimental`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from backout.model.value import Value
from backout.twin.dataplane.capnp_text import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backout.twin.control.worker import Binding, WorkerVersion

KIND = "durable_object_namespace"
MODULE = "objects.js"
_HOST_MODULE = "backout-host.js"


class Namespace(Value, frozen=True):
    """One class of Durable Objects that a version is bound to.

    Args:
        name: of its forwarding class.
        script: the Worker that has the class.
        class_name: the class.
    """

    name: str
    script: str
    class_name: str

    @property
    def key(self) -> str:
        """What the ids of its objects are made from."""
        return f"{self.script}-{self.class_name}"


def list_namespaces(version: WorkerVersion) -> tuple[Namespace, ...]:
    """Return the namespaces that a version is bound to, its own classes and those of other Workers."""
    found = dict.fromkeys(_find_class(binding, version) for binding in version.bindings if binding.type == KIND)
    return tuple(Namespace(f"N{i}", script, name) for i, (script, name) in enumerate(found))


def list_hosted(version: WorkerVersion) -> tuple[Namespace, ...]:
    """Return the namespaces whose classes are the version's own."""
    return tuple(each for each in list_namespaces(version) if each.script == version.script)


def write_binding(binding: Binding, version: WorkerVersion) -> str:
    """Return the value of a binding."""
    wanted = _find_class(binding, version)
    found = next(each for each in list_namespaces(version) if (each.script, each.class_name) == wanted)
    return f'durableObjectNamespace = (className = {quote(found.name)}, serviceName = "objects")'


def write_services(version: WorkerVersion, folder: str) -> tuple[str, ...]:
    """Return the services; `folder`: where a process keeps the objects that it hosts, "" for one that hosts none."""
    if not list_namespaces(version):
        return ()
    services = ('    (name = "objects", worker = .objectsWorker),',)
    if not folder:
        return services
    return (
        *services,
        '    (name = "reset", worker = .resetWorker),',
        f'    (name = "object-disk", disk = (path = {quote(folder)}, writable = true)),',
    )


def write_socket(version: WorkerVersion, address: str) -> tuple[str, ...]:
    """Return the socket at which forwarding objects are reset."""
    if not list_namespaces(version):
        return ()
    return (f'    (name = "objects", address = {quote("unix:" + address)}, service = "objects", http = ()),',)


def write_hosting(version: WorkerVersion, modules: str) -> tuple[str, ...]:
    """Return the code and the namespaces of a Worker that hosts a version's classes; `modules`: the version's."""
    hosted = list_hosted(version)
    lines = [
        f"import * as code from {json.dumps('./' + version.main_module)};",
        f'import {{ host }} from "./backout-{MODULE}";',
        *(
            f"export const {each.class_name} = host(code.{each.class_name}, {json.dumps(each.class_name)});"
            for each in hosted
        ),
        "export default {};",
    ]
    spaces = (
        f"(className = {quote(each.class_name)}, uniqueKey = {quote(each.key)}, enableSql = true)" for each in hosted
    )
    return (
        f"  modules = [(name = {quote(_HOST_MODULE)}, esModule = {quote(chr(10).join(lines))}),",
        f"    {_embed_module('backout-' + MODULE)}, {modules}],",
        f"  durableObjectNamespaces = [{', '.join(spaces)}],",
        '  durableObjectStorage = (localDisk = "object-disk"),',
    )


def write_workers(version: WorkerVersion, hub: str, date: str, *, hosts: bool) -> tuple[str, ...]:
    """Return the Worker that forwards, and in a process that hosts the one that resets.

    Args:
        hub: the service that tells which process hosts an object.
        date: the compatibility date.
    """
    spaces = list_namespaces(version)
    if not spaces:
        return ()
    lines = [f'import reset, {{ forward }} from "./{MODULE}";', "export default reset;"]
    lines += [
        f"export const {each.name} = forward({json.dumps(each.script)}, {json.dumps(each.class_name)});"
        for each in spaces
    ]
    entries = (f"(className = {quote(each.name)}, uniqueKey = {quote(each.key)})" for each in spaces)
    bound = (
        f'(name = "HUB", service = {quote(hub)})',
        '(name = "PROCESSES", workerdDebugPort = void)',
        *(f"(name = {quote(each.name)}, durableObjectNamespace = {quote(each.name)})" for each in spaces),
    )
    forwards = (
        "const objectsWorker :Workerd.Worker = (",
        f'  modules = [(name = "forward.js", esModule = {quote(chr(10).join(lines))}), {_embed_module(MODULE)}],',
        f"  compatibilityDate = {quote(date)},",
        f"  bindings = [{', '.join(bound)}],",
        f"  durableObjectNamespaces = [{', '.join(entries)}],",
        "  durableObjectStorage = (inMemory = void),",
        ");",
    )
    return (*forwards, *(_write_reset_worker(version, date) if hosts else ()))


def _write_reset_worker(version: WorkerVersion, date: str) -> Sequence[str]:
    hosted = (
        (each.name, f'(className = {quote(each.class_name)}, serviceName = "main")') for each in list_hosted(version)
    )
    bound = (f"(name = {quote(name)}, durableObjectNamespace = {designator})" for name, designator in hosted)
    return (
        "const resetWorker :Workerd.Worker = (",
        f"  modules = [{_embed_module(MODULE)}],",
        f"  compatibilityDate = {quote(date)},",
        f"  bindings = [{', '.join(bound)}],",
        ");",
    )


def _embed_module(name: str) -> str:
    return f"(name = {quote(name)}, esModule = embed {quote(MODULE)})"


def _find_class(binding: Binding, version: WorkerVersion) -> tuple[str, str]:
    name, _, script = binding.value.partition("@")
    return script or version.script, name
