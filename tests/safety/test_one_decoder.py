"""No way around `backout.decoding`: a decoder of a library anywhere else in the source is found here, and named."""

from __future__ import annotations

import ast
from pathlib import Path

from source_trees import tree_of

import backout

ROOT = Path(backout.__file__).parent
FORBIDDEN = {
    "json.loads", "json.load", "json.JSONDecoder", "msgspec.json.decode", "msgspec.json.Decoder", "msgspec.convert",
    "tomllib.loads", "tomllib.load", "email.utils.parsedate_to_datetime", "email.utils.parsedate", "pickle.loads",
    "datetime.fromtimestamp", "datetime.datetime.fromtimestamp", "datetime.utcfromtimestamp", "datetime.strptime",
    "datetime.fromisoformat", "datetime.datetime.fromisoformat", "time.gmtime", "time.localtime", "time.strptime",
}  # fmt: skip
ALLOWED = {
    # The place itself, and what stands in for the outside world.
    "decoding.py": FORBIDDEN,
    # Hot loops with a decoder of their own, in a `try` that catches `UNDECODABLE`; the bag is driven through each.
    "providers/events/reader.py": {"msgspec.json.decode"},  # test_hostile_lines.py
    "providers/events/worker.py": {"msgspec.json.decode"},  # same
    "providers/events/times.py": {"datetime.strptime", "datetime.fromisoformat"},  # same
    "providers/logs/request.py": {"msgspec.json.decode"},  # same
    "runbook/hindsight/contract_lines.py": {"msgspec.json.Decoder"},  # names its type
    "analysis/diagnosis/templates.py": {"json.loads"},  # same: the text of an error that is JSON itself
    # What only backout or the person at the keyboard wrote.
    "model/clock.py": {"datetime.fromtimestamp"},  # `utc`, which has a calendar's bounds
    "plan/target.py": {"datetime.fromisoformat"},  # a time that a person typed
    "config/jsonc.py": {"json.loads"},  # its errors have lines; test_config_mistakes.py
    "config/init/pinning.py": {"tomllib.loads"},  # a text that was loaded before
    "config/toml_lines.py": {"tomllib.loads"},  # one key of such a text
    "providers/caddy/agent.py": {"json.loads"},  # runs by itself on another host: what backout asks it
}


TYPED = ("msgspec.convert", "msgspec.json.Decoder", "msgspec.msgpack.Decoder", "msgspec.toml.decode")
RAW = ("make_decoder", "convert", "decode_raw", "decode_packed")
"""Functions of `backout.decoding` that raise what msgspec does: for a hot loop, for who explains its errors."""
RAW_ALLOWED = {
    "journal/counts.py",  # test_poisoned_journal.py
    "providers/events/worker.py",  # test_hostile_lines.py
    "runbook/hindsight/contract_lines.py",  # same
    "config/loading.py",  # its errors are explained with their lines
    "config/drills.py",  # same
    "providers/files/signatures.py",  # in a `try` that catches `UNDECODABLE`
    "providers/archive/repository.py",  # what a signature vouches for
    "wiring/conformance.py",  # a file of the package
}


def names_of(tree: ast.AST) -> dict[str, str]:
    """Return what each imported name of a module stands for."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {
                (each.asname or each.name.partition(".")[0]): each.name if each.asname else each.name.partition(".")[0]
                for each in node.names
            }
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            module = "" if node.module == "datetime" else f"{node.module}."
            found |= {each.asname or each.name: f"{module}{each.name}" for each in node.names}
    return found


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.Attribute):
        before = dotted(node.value, names)
        return f"{before}.{node.attr}" if before else ""
    return ""


def uses(tree: ast.Module) -> set[tuple[int, str]]:
    """Return (line, name) of each forbidden decoder that a source mentions, under whatever name it is imported."""
    names = names_of(tree)
    found = (
        (node.lineno, dotted(node, names)) for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name)
    )
    return {(line, name) for line, name in found if name in FORBIDDEN}


def test_a_decoder_anywhere_else_is_found() -> None:
    """Under its own name or another, of a module or of a class."""
    assert uses(ast.parse("from datetime import datetime\ndatetime.fromtimestamp(1e300)")) == {
        (2, "datetime.fromtimestamp")
    }
    assert uses(ast.parse("import datetime as d\nd.datetime.fromtimestamp(1e300)")) == {
        (2, "datetime.datetime.fromtimestamp")
    }
    assert uses(ast.parse("import email.utils\nemail.utils.parsedate_to_datetime('x')")) == {
        (2, "email.utils.parsedate_to_datetime")
    }
    assert uses(ast.parse("import json as j\nj.loads('1')")) == {(2, "json.loads")}
    assert uses(ast.parse("from msgspec.json import decode as d\nd(b'1')")) == {(2, "msgspec.json.decode")}
    assert uses(ast.parse("import msgspec\nread = msgspec.json.decode")) == {(2, "msgspec.json.decode")}


def test_nothing_is_decoded_but_in_one_place() -> None:
    """`backout.decoding` has what a new edge needs: decode_json, decode_values, whole, number, moment, http_date."""
    wrong, unused = [], []
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(("twin/", "catalogue/")):
            continue
        found, allowed = uses(tree_of(path)), ALLOWED.get(name, set())
        wrong += [f"{name}:{line}: {used}" for line, used in found if used not in allowed]
        if name != "decoding.py":
            unused += [f"{name}: {used}" for used in allowed - {used for _, used in found}]
    assert not wrong, "use backout.decoding:\n" + "\n".join(sorted(wrong))
    assert not unused, "no longer needed in ALLOWED:\n" + "\n".join(unused)


def test_what_raises_as_the_library_does_is_used_where_that_is_handled() -> None:
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith("twin/") or name == "decoding.py":
            continue
        taken = {
            each.name
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.ImportFrom) and node.module == "backout.decoding"
            for each in node.names
        }
        assert bool(taken & set(RAW)) == (name in RAW_ALLOWED), f"{name}: use decode_json or decode_values"


def find_unprepared(tree: ast.Module) -> set[int]:
    """Return the lines in which msgspec is given a type: two threads that do so first at once end the process."""
    names = names_of(tree)
    calls = [(node, dotted(node.func, names)) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {
        node.lineno
        for node, name in calls
        if name in TYPED
        or (name in ("msgspec.json.decode", "msgspec.msgpack.decode") and any(k.arg == "type" for k in node.keywords))
    }


def test_no_type_is_decoded_that_was_not_prepared() -> None:
    """A signature file that 200 guards of a worker read at once was enough; `backout.decoding` takes one at a time."""
    source = "import msgspec\nmsgspec.json.decode(b, type=X)\nmsgspec.json.decode(b)\nmsgspec.convert(b, X)"
    assert find_unprepared(ast.parse(source)) == {2, 4}
    places = ((path, find_unprepared(tree_of(path))) for path in sorted(ROOT.rglob("*.py")))
    wrong = [
        f"{path.relative_to(ROOT)}:{line}" for path, found in places for line in found if path.name != "decoding.py"
    ]
    assert not wrong, "use backout.decoding: " + ", ".join(wrong)


SLOPPY = ("get", "value", "group", "groups", "partition", "rpartition", "split", "strip", "decode", "read_text")


def sloppy_numbers(source: str) -> set[int]:
    """Return the lines that make a number of a text at once: `int(headers.get(...))`, `float(entry.value(...))`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("int", "float")
            and node.args
        ):
            inside = [each for each in ast.walk(node.args[0]) if isinstance(each, ast.Call)]
            if any(isinstance(each.func, ast.Attribute) and each.func.attr in SLOPPY for each in inside):
                found.add(node.lineno)
    return found


HTTP = (
    "cloudflare",
    "github",
    "neon",
    "xata",
    "router",
    "prometheus",
    "recorder",
    "statuspage",
    "health",
    "notify",
    "s3",
    "logs",
)


def test_no_number_comes_straight_from_a_text() -> None:
    """In the network's adapters `parse_whole` and `parse_number` read: a text may have 5,000 digits, or be infinite."""
    assert sloppy_numbers("int(h.get('a', '0'))\nfloat(str(x))\nint(now - 1)\nint(x.partition(':')[0])") == {1, 4}
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for folder in HTTP
        for path in sorted((ROOT / "providers" / folder).rglob("*.py"))
        for line in sloppy_numbers(path.read_text(encoding="utf-8"))
    ]
    assert not wrong, "use backout.decoding.parse_whole or parse_number: " + ", ".join(wrong)
