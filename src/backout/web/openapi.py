"""The OpenAPI 3.1 document of `/api/v1`; a test holds each route and each answer against it."""

from __future__ import annotations

from typing import Final

from backout import __version__
from backout.model.action_request import Act, RequestState
from backout.model.database.rescue_preview import PreviewState
from backout.model.incident.incident import RunState

_TEXT: Final = {"type": "string"}
_TIME: Final = {"type": "string", "format": "date-time"}
_MAYBE_TIME: Final = {"type": ["string", "null"], "format": "date-time"}
_MAYBE_TEXT: Final = {"type": ["string", "null"]}
_OBJECT: Final = {"type": "object"}
_MAYBE_OBJECT: Final = {"type": ["object", "null"]}
_NUMBER: Final = {"type": "integer"}
_MAYBE_NUMBER: Final = {"type": ["integer", "null"]}
_OBJECTS: Final = {"type": "array", "items": _OBJECT}
_TEXTS: Final = {"type": "array", "items": _TEXT}


def _make_object(**properties: object) -> dict[str, object]:
    return {"type": "object", "properties": properties, "required": sorted(properties)}


def _make_envelope(name: str, **properties: object) -> dict[str, object]:
    return _make_object(schema={"const": f"backout.{name}/1"}, **properties)


def _make_list(name: str) -> dict[str, object]:
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}}


_ENVIRONMENT: Final[dict[str, object]] = {
    "environment": _TEXT,
    "protected": {"type": "boolean"},
    "worker": _MAYBE_TEXT,
    "read_at": _MAYBE_TIME,
    "stale": {"type": "boolean"},
    "status": _MAYBE_OBJECT,
    "run": {"oneOf": [{"$ref": "#/components/schemas/RunSummary"}, {"type": "null"}]},
    "incident": _MAYBE_TEXT,
}
_PREVIEW: Final[dict[str, object]] = {
    "state": {"enum": list(PreviewState)},
    "at": _TIME,
    "rescue": _MAYBE_OBJECT,
    "why": _TEXT,
}
_RUN: Final[dict[str, object]] = {
    "run_id": _TEXT,
    "environment": _TEXT,
    "kind": _TEXT,
    "state": {"enum": list(RunState)},
    "why": _TEXT,
    "started_at": _TIME,
    "ended_at": _MAYBE_TIME,
    "steps_done": _NUMBER,
    "steps": _NUMBER,
    "holder": _MAYBE_TEXT,
    "actor": _TEXT,
    "plan_hash": _TEXT,
    "pause": _MAYBE_OBJECT,
    "approval": _MAYBE_OBJECT,
    "break_glass": _MAYBE_OBJECT,
}
_PLAN: Final[dict[str, object]] = {
    "hash": _TEXT,
    "kind": _TEXT,
    "environment": _TEXT,
    "why": _TEXT,
    "steps": _OBJECTS,
    "notes": _TEXTS,
    "not_covered": _TEXTS,
    "coverage": _OBJECTS,
}
_EVENT: Final[dict[str, object]] = {
    "seq": _NUMBER,
    "at": _TIME,
    "run_id": _MAYBE_TEXT,
    "step": _MAYBE_NUMBER,
    "kind": _TEXT,
    "actor": _TEXT,
    "data": _OBJECT,
}
_REQUEST: Final[dict[str, object]] = {
    "id": _NUMBER,
    "environment": _TEXT,
    "act": {"enum": list(Act)},
    "target": _MAYBE_TEXT,
    "why": _TEXT,
    "by": _TEXT,
    "at": _TIME,
    "expires_at": _TIME,
    "state": {"enum": list(RequestState)},
    "worker": _MAYBE_TEXT,
    "ended_at": _MAYBE_TIME,
    "exit_code": _MAYBE_NUMBER,
    "answer": _MAYBE_OBJECT,
}
_INCIDENT: Final[dict[str, object]] = {
    "id": _TEXT,
    "environment": _TEXT,
    "title": _TEXT,
    "severity": _TEXT,
    "state": _TEXT,
    "opened_at": _TIME,
    "opened_by": _TEXT,
    "began_at": _TIME,
    "acknowledged_at": _MAYBE_TIME,
    "acknowledged_by": _MAYBE_TEXT,
    "resolved_at": _MAYBE_TIME,
    "resolved_by": _MAYBE_TEXT,
    "runs": _TEXTS,
    "timeline": _OBJECTS,
    "told": _OBJECTS,
    "impact": _OBJECT,
    "actions": _OBJECTS,
    "report_path": _MAYBE_TEXT,
    "picture_path": _MAYBE_TEXT,
}
_WHY: Final = {"type": "string", "maxLength": 500}

_SCHEMAS: Final[dict[str, object]] = {
    "Problem": {
        "type": "object",
        "properties": {
            "type": _TEXT, "title": _TEXT, "status": _NUMBER, "detail": _TEXT, "hint": _TEXT,
        },
        "required": ["status", "title", "type"],
    },
    "EnvironmentView": _make_object(**_ENVIRONMENT),
    "RunSummary": _make_object(**_RUN),
    "Environments": _make_envelope("environments", environments=_make_list("EnvironmentView")),
    "Environment": _make_envelope("environment", **_ENVIRONMENT),
    "Runs": _make_envelope("runs", runs=_make_list("RunSummary")),
    "Run": _make_envelope("run", **_RUN),
    "RunInFull": _make_envelope(
        "run", **_RUN, plan=_make_object(**_PLAN), events={"type": "array", "items": _make_object(**_EVENT)},
        preview={"oneOf": [_make_object(**_PREVIEW), {"type": "null"}]},
    ),
    "Series": _make_envelope(
        "series", environment=_TEXT, run_id=_TEXT, deployed_at=_MAYBE_NUMBER, blamed=_MAYBE_TEXT, bin_s=_NUMBER,
        error_rate_below={"type": "number"}, versions=_OBJECT, marks=_OBJECTS, evidence=_MAYBE_OBJECT,
    ),
    "IncidentSummary": _make_object(**_INCIDENT),
    "Incidents": _make_envelope("incidents", incidents=_make_list("IncidentSummary")),
    "Incident": _make_envelope("incident", **_INCIDENT),
    "RequestSummary": _make_object(**_REQUEST),
    "Requests": _make_envelope("requests", requests=_make_list("RequestSummary")),
    "Request": _make_envelope("request", **_REQUEST),
    "NewRequest": {
        "type": "object",
        "additionalProperties": False,
        "required": ["act"],
        "properties": {
            "act": {"enum": list(Act)},
            "target": {"type": "string", "maxLength": 128, "description": "version, run, or for a hold a duration"},
            "why": _WHY,
            "confirm": {"type": "string", "description": "the environment's name, where it is protected"},
        },
    },
    "Ask": {
        "type": "object",
        "additionalProperties": False,
        "required": ["what", "why"],
        "properties": {
            "what": {"enum": ["approve", "pause", "abort"]},
            "why": _WHY,
            "plan_hash": {"type": "string", "description": "of the plan that is approved"},
        },
    },
    "Remark": {
        "type": "object",
        "additionalProperties": False,
        "required": ["kind"],
        "properties": {
            "kind": {"enum": ["note", "ack", "resolve"]},
            "text": {"type": "string", "maxLength": 4000},
        },
    },
}  # fmt: skip
_ROUTES: Final = (
    # path below the root, method, id, summary, status and schema of the answer, schema of the body
    ("/environments", "get", "listEnvironments", "Every environment that the login sees", 200, "Environments", ""),
    ("/environments/{environment}", "get", "getEnvironment", "One environment", 200, "Environment", ""),
    ("/environments/{environment}/runs", "get", "listRuns", "Its runs, newest first", 200, "Runs", ""),
    ("/environments/{environment}/runs/{run}", "get", "getRun", "A run: its plan and events", 200, "RunInFull", ""),
    ("/environments/{environment}/runs/{run}/series", "get", "getSeries", "The data of its charts", 200, "Series", ""),
    ("/environments/{environment}/runs/{run}/ask", "post", "askOfRun", "Approve, pause or abort it", 200, "Run", "Ask"),
    ("/environments/{environment}/incidents", "get", "listIncidents", "Its incidents", 200, "Incidents", ""),
    ("/environments/{environment}/incidents/{incident}", "get", "getIncident", "An incident", 200, "Incident", ""),
    ("/environments/{environment}/incidents/{incident}/remarks", "post", "addRemark", "Note, acknowledge, resolve",
     201, "Incident", "Remark"),
    ("/environments/{environment}/requests", "get", "listRequests", "Requests for the worker", 200, "Requests", ""),
    ("/environments/{environment}/requests", "post", "makeRequest", "Ask the worker for something", 202, "Request",
     "NewRequest"),
    ("/environments/{environment}/requests/{number}", "get", "getRequest", "What became of it", 200, "Request", ""),
)  # fmt: skip


def make_document() -> dict[str, object]:
    """Return the document."""
    paths: dict[str, dict[str, object]] = {}
    for path, method, name, summary, status, answer, body in _ROUTES:
        paths.setdefault(f"/api/v1{path}", {})[method] = _make_operation(path, name, summary, status, answer, body)
    paths["/api/v1/events"] = {
        "get": {
            "operationId": "followEvents",
            "summary": "The journal's events as they are recorded; from Last-Event-ID on",
            "parameters": [
                {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string", "pattern": "^[0-9]{0,15}$"}}
            ],
            "responses": {
                "200": {"description": "an event stream", "content": {"text/event-stream": {"schema": _TEXT}}},
                "default": _make_problem(),
            },
        }
    }  # fmt: skip
    return {
        "openapi": "3.1.0",
        "info": {"title": "backout", "version": __version__, "description": "What the pages of `backout serve` use."},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "bko_..."}},
        },
    }


def _make_operation(path: str, name: str, summary: str, status: int, answer: str, body: str) -> dict[str, object]:
    parameters: list[object] = [
        {"name": part[1:-1], "in": "path", "required": True, "schema": _TEXT}
        for part in path.split("/")
        if part.startswith("{")
    ]
    if name == "makeRequest":
        parameters.append({"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 64}})
    operation: dict[str, object] = {
        "operationId": name,
        "summary": summary,
        "parameters": parameters,
        "responses": {
            str(status): {
                "description": summary,
                "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{answer}"}}},
            },
            "default": _make_problem(),
        },
    }
    if body:
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{body}"}}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _make_problem() -> dict[str, object]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": "a problem: what is wrong, and what to do next", "content": content}
