"""A local server that answers with errors as vendors document them: GET or POST /CASE/any/path.

`python tools/reproduce/vendor_errors.py 8099` serves until it is interrupted; the other scripts start it themselves.
"""
# ruff: noqa: N815 - a script, in no package; the base class names its methods after HTTP's verbs

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def _s3(code: str, message: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'


# Case -> (status, body). A mapping is sent as JSON. Sources: the vendors' API references.
CASES: dict[str, tuple[int, str | dict[str, object]]] = {
    "s3-denied": (403, _s3("AccessDenied", "Access Denied")),
    "s3-signature": (403, _s3("SignatureDoesNotMatch", "The request signature we calculated does not match.")),
    "s3-no-bucket": (404, _s3("NoSuchBucket", "The specified bucket does not exist")),
    "s3-no-key": (404, _s3("NoSuchKey", "The specified key does not exist.")),
    "s3-internal": (500, _s3("InternalError", "We encountered an internal error. Please try again.")),
    "s3-slow-down": (503, _s3("SlowDown", "Please reduce your request rate.")),
    "mail-key": (401, {"statusCode": 401, "name": "invalid_api_key", "message": "API key is invalid"}),
    "mail-domain": (403, {"statusCode": 403, "name": "validation_error", "message": "The domain is not verified."}),
    "mail-quota": (429, {"statusCode": 429, "name": "daily_quota_exceeded", "message": "Daily sending quota reached."}),
    "payment-key": (401, {"error": {"type": "invalid_request_error", "message": "Invalid API Key provided"}}),
    "payment-declined": (402, {"error": {"type": "card_error", "code": "card_declined"}}),
    "html-page": (200, "<!doctype html><title>Maintenance</title>"),
    "bad-gateway": (502, "bad gateway"),
    "unavailable": (503, "Service Unavailable"),
    "too-many": (429, {"error": "too many requests"}),
    "edge-1015": (429, "error code: 1015"),
    "edge-1102": (503, "error code: 1102"),
}


class _Answer(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        case = self.path.strip("/").split("/")[0].split("?")[0]
        if case == "drop":
            self.connection.close()
            return
        status, body = CASES.get(case, (404, {"error": f"no case {case}"}))
        raw = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        kind = (
            "application/json" if not isinstance(body, str) else "application/xml" if "<?xml" in body else "text/html"
        )
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer

    def log_message(self, *_: object) -> None:
        """Say nothing: only the client's words are wanted."""


def start(port: int = 0) -> str:
    """Serve in a daemon thread on 127.0.0.1 and return the base URL; port 0 takes a free one."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Answer).serve_forever()
