"""Write tests/contract/data/cloudflare_api.json: the calls of Cloudflare's API that concern backout, as documented.

The official Python SDK is generated from Cloudflare's OpenAPI description and smaller than that; only names are taken
(methods, paths, parameters, fields of bodies). To renew the extract with a newer release:

    pip download --no-deps cloudflare && unzip -q cloudflare-*.whl -d sdk
    .venv/bin/python tools/extract_api.py sdk 2026-10
"""

from __future__ import annotations

import argparse
import ast
import json
import re
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "tests" / "contract" / "data" / "cloudflare_api.json"
CONCERNS = re.compile(
    r"[A-Z]+ /accounts/{}/(workers/(scripts|domains|subdomain)(/.*)?|workers/observability/telemetry/query"
    r"|r2/buckets(/{}(/objects/{}|/lock)?)?|d1/database/{}/query|workers/assets/upload)"
    r"|POST /accounts/{}/(queues(/{}/(consumers|messages))?|hyperdrive/configs)"
    r"|DELETE /accounts/{}/queues/{}/consumers/{}"
    r"|(GET|PATCH|DELETE) /accounts/{}/(queues|hyperdrive/configs)/{}(/metrics)?"
    r"|GET /(accounts/{}/(queues|workflows|containers/applications|builds/workers/{}/triggers"
    r"|workers/(workers(/.*)?|durable_objects/namespaces))|(user|accounts/{})/tokens/(verify|{}))"
)
VERBS = {"_get": "GET", "_get_api_list": "GET", "_post": "POST", "_put": "PUT", "_patch": "PATCH", "_delete": "DELETE"}
DEEPEST = 3
"""How many levels of a body are taken; what lies below is not compared."""
PAIR = 2
"""The arguments of `maybe_transform` (what, its type), and of a TypedDict that is made by a call."""
LARGE = frozenset({"bindings", "modules", "migrations", "exports"})
"""Fields whose own fields are not taken: one for each kind of binding."""


def main() -> None:
    """Read the SDK's folder and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sdk", type=Path, help="the folder of the unpacked wheel")
    parser.add_argument("date", help="the month in which that release came, such as 2026-10")
    given = parser.parse_args()
    release = next(given.sdk.glob("cloudflare-*.dist-info")).name.split("-")[1].removesuffix(".dist")
    extract = {
        "source": f"cloudflare {release} on PyPI ({given.date}), generated from Cloudflare's OpenAPI description",
        "license": "Apache-2.0",
        "calls": find_calls(given.sdk / "cloudflare"),
    }
    TARGET.write_text(json.dumps(extract, indent=1) + "\n", encoding="utf-8")


def find_calls(package: Path) -> dict[str, dict[str, list[str]]]:
    """Return the names of the query's parameters and of the body's fields ("a.b": within a) by "METHOD path"."""
    found: dict[str, dict[str, list[str]]] = {}
    for path in sorted((package / "resources").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for method in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            for made in (node for node in ast.walk(method) if isinstance(node, ast.Call)):
                if (name := find_name(made)) is not None:
                    types = package / "types" / path.relative_to(package / "resources").with_suffix("")
                    query, body = find_parameters(made, method, types)
                    known = found.setdefault(name, {"query": [], "body": []})
                    known["query"] = sorted({*known["query"], *query})
                    known["body"] = sorted({*known["body"], *body} - {"account_id"})
    return dict(sorted(found.items()))


def find_name(made: ast.Call) -> str | None:
    """Return "METHOD path" of a call of the API that concerns us; the parts of a path that vary are {}."""
    if not (isinstance(made.func, ast.Attribute) and made.func.attr in VERBS and made.args):
        return None
    first = made.args[0]
    template = first.args[0] if isinstance(first, ast.Call) and first.args else first
    if not (isinstance(template, ast.Constant) and isinstance(template.value, str)):
        return None
    where = re.sub(r"{[^}]*}", "{}", template.value)
    named = [each.value for each in made.keywords if each.arg == "method"]  # a list that is asked for by another method
    verb = named[0].value.upper() if named and isinstance(named[0], ast.Constant) else VERBS[made.func.attr]
    return f"{verb} {where}" if CONCERNS.fullmatch(f"{verb} {where}") else None


def find_parameters(made: ast.Call, method: ast.FunctionDef, types: Path) -> tuple[set[str], set[str]]:
    """Return (names of the query's parameters, names of the body's fields)."""
    assigned = {
        target.id: node.value
        for node in ast.walk(method)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found: dict[str, set[str]] = {"query": set(), "body": set()}
    for keyword in (node for node in ast.walk(made) if isinstance(node, ast.keyword) and node.arg in found):
        value = keyword.value
        if not (isinstance(value, ast.Call) and len(value.args) == PAIR):  # maybe_transform(what, its type)
            continue
        what, described = value.args
        if isinstance(what, ast.Name) and isinstance(assigned.get(what.id), ast.Call):
            what = assigned[what.id].args[0]
        names = (
            {key.value for key in what.keys if isinstance(key, ast.Constant)} if isinstance(what, ast.Dict) else None
        )
        found[str(keyword.arg)] |= find_fields(described, types, names)
    return found["query"], found["body"]


def find_fields(described: ast.expr, types: Path, names: set[object] | None) -> set[str]:
    """Return the fields of what a type describes, as the API calls them; of its first level only those named."""
    for node in ast.walk(described):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            places = [folder / f"{node.value.id}.py" for folder in (types, types.parent, types.parent.parent)]
            place = next((each for each in places if each.exists()), None)
            if place is not None:
                return Types(place).list_fields(node.attr, names)
    return set()


class Types:
    """The classes of one file of types."""

    def __init__(self, path: Path) -> None:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        self._classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        self._others = {
            node.targets[0].id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        } | {
            node.target.id: node.value
            for node in tree.body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None
        }

    def list_fields(self, name: str, only: set[object] | None = None, depth: int = 1) -> set[str]:
        """Return the fields of a class or of all classes of a union, down to the deepest level."""
        if name in self._classes:
            node = self._classes[name]
            bases = [base.id for base in node.bases if isinstance(base, ast.Name) and base.id != "TypedDict"]
            found = set().union(*(self.list_fields(base, only, depth) for base in bases))
            for field in (item for item in node.body if isinstance(item, ast.AnnAssign)):
                if isinstance(field.target, ast.Name) and (only is None or field.target.id in only):
                    found |= self._spell(find_alias(field.annotation) or field.target.id, field.annotation, depth)
            return found
        value = self._others.get(name)
        if isinstance(value, ast.Call) and len(value.args) == PAIR and isinstance(value.args[1], ast.Dict):
            return {str(key.value) for key in value.args[1].keys if isinstance(key, ast.Constant)}
        return set() if value is None else self._list_named(value, depth)

    def _spell(self, name: str, annotation: ast.expr, depth: int) -> set[str]:
        within = set() if depth == DEEPEST or name in LARGE else self._list_named(annotation, depth + 1)
        return {name} | {f"{name}.{each}" for each in within}

    def _list_named(self, node: ast.expr, depth: int) -> set[str]:
        names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        return set().union(*(self.list_fields(each, None, depth) for each in names))


def find_alias(annotation: ast.expr) -> str | None:
    """Return what the API calls a field whose name cannot be written in Python."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.keyword) and node.arg == "alias" and isinstance(node.value, ast.Constant):
            return str(node.value.value)
    return None


if __name__ == "__main__":
    main()
