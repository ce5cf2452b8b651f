"""Print the JSON schema of the platform protocol, which docs/platform-command.schema.json has."""

from __future__ import annotations

import json

import msgspec

from backout.providers.command.protocol import (
    PROTOCOL,
    Activated,
    Current,
    Failed,
    History,
    Reached,
    Request,
)

SHAPES = (Request, History, Current, Activated, Reached, Failed)


def make_schema() -> dict[str, object]:
    """Return the schema: `$defs` has one for the request, and one for each answer."""
    _, parts = msgspec.json.schema_components(SHAPES, ref_template="#/$defs/{name}")
    answers = {
        "history": "History",
        "current": "Current",
        "activate": "Activated",
        "shares": "Activated",
        "probe": "Reached",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": PROTOCOL,
        "description": "$defs.Request is what a command reads; what it writes is the answer of its name, or Failed.",
        "type": "object",
        "properties": {
            name: {"anyOf": [{"$ref": f"#/$defs/{part}"}, {"$ref": "#/$defs/Failed"}]} for name, part in answers.items()
        },
        "$defs": _sort(parts),
    }


def _sort(value: object) -> object:
    """Return JSON values with the words of each enumeration in order; msgspec has them in any."""
    if isinstance(value, dict):
        return {key: sorted(each) if key == "enum" else _sort(each) for key, each in value.items()}
    return [_sort(each) for each in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    print(json.dumps(make_schema(), indent=2))
