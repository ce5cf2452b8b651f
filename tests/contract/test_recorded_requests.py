"""What the real wrangler was seen to send, replayed: the same statuses, and every field that satisfied it then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from twin_harness import Answer, Api, running_api

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDED = Path(__file__).parent / "data" / "wrangler_requests.jsonl"


def test_every_recorded_request_is_answered_in_the_recorded_shape(tmp_path: Path) -> None:
    """Ids differ from run to run and are translated; values may differ, the fields and their types may not."""
    ids: dict[str, str] = {}
    problems: list[str] = []
    lines = RECORDED.read_text().splitlines()
    assert len(lines) > 80
    with running_api(tmp_path) as api:
        for number, line in enumerate(lines, 1):
            recorded = json.loads(translated(line, ids))
            answer = replay(api, recorded)
            where = f"line {number}: {recorded['method']} {recorded['path']}"
            if answer.status != recorded["status"]:
                problems.append(f"{where}: {answer.status} instead of {recorded['status']}: {answer.body!r}")
            elif isinstance(recorded["response"], dict):
                problems += [f"{where}: {p}" for p in differences(recorded["response"], answer.body, "")]
                learn(json.loads(line)["response"]["result"], answer.body["result"], ids)
    assert not problems, "\n".join(problems)


def translated(line: str, ids: dict[str, str]) -> str:
    for theirs, ours in ids.items():
        line = line.replace(theirs, ours)
    return line


def learn(theirs: object, ours: object, ids: dict[str, str]) -> None:
    """Remember which of our ids stands for which recorded one; a new script's version id comes without hyphens."""
    if not isinstance(theirs, dict) or not isinstance(ours, dict):
        return
    for key in ("deployment_id", "id"):
        if isinstance(theirs.get(key), str) and theirs[key] != ours[key]:
            ids[theirs[key]] = ours[key]
            ids[hyphenated(theirs[key])] = hyphenated(ours[key])


def hyphenated(digits: str) -> str:
    parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    return "-".join(parts) if len(digits) == 32 else digits


def replay(api: Api, recorded: dict[str, Any]) -> Answer:
    path = recorded["path"] + (f"?{urlencode(recorded['query'])}" if recorded["query"] else "")
    body = recorded["body"]
    if body is None:
        return api.call(recorded["method"], path)
    if isinstance(body, dict) and "raw" in body:
        return api.call(recorded["method"], path, body["raw"].encode())
    if isinstance(body, dict) and "parts" in body:
        form = f'--x\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{json.dumps(body["metadata"])}\r\n'
        form += "".join(part(p) for p in body["parts"])
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        return api.call(recorded["method"], path, f"{form}--x--\r\n".encode(), **headers)
    return api.call(recorded["method"], path, body, **{"Content-Type": recorded["content_type"]})


def part(described: dict[str, str]) -> str:
    disposition = f'form-data; name="{described["name"]}"; filename="{described["filename"]}"'
    return f"--x\r\nContent-Disposition: {disposition}\r\nContent-Type: {described['content_type']}\r\n\r\ncode\r\n"


def differences(theirs: object, ours: object, path: str) -> Iterator[str]:
    """Name every recorded field that is missing or has another JSON type; lists are compared by their first items."""
    if isinstance(theirs, dict):
        if not isinstance(ours, dict):
            yield f"{path} is no object"
            return
        for key, value in theirs.items():
            if key in ours:
                yield from differences(value, ours[key], f"{path}.{key}")
            else:
                yield f"{path}.{key} is missing"
    elif isinstance(theirs, list):
        if not isinstance(ours, list) or len(ours) < min(1, len(theirs)):
            yield f"{path} is no list, or empty"
        elif theirs and ours:
            yield from differences(theirs[0], ours[0], f"{path}[0]")
    elif theirs is not None and kind(theirs) is not kind(ours):
        yield f"{path} is {ours!r}, and {theirs!r} was recorded"


def kind(value: object) -> type:
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)
