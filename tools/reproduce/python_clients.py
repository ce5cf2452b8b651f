"""Failures of Python clients: psycopg, boto3, urllib and smtplib.

Pass a disposable Postgres with --dsn; the web and mail servers are started here, on loopback.
"""
# ruff: noqa: S310 - a script, in no package; loopback URLs only

from __future__ import annotations

import argparse
import os
import smtplib
import socket
import threading
import urllib.request
from email.message import EmailMessage

import boto3
import psycopg
import vendor_errors
from botocore.config import Config
from collect import keep_failure


def main() -> None:
    """Run every case."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--dsn", required=True, help="a database that may be thrown away")
    database(options.parse_args().dsn)
    web = vendor_errors.start()
    storage(web)
    upstream(web)
    mail()
    keep_failure("python#environ", "runtime", lambda: os.environ["PAYMENTS_API_KEY_UNSET"])


def database(dsn: str) -> None:
    """The driver's words for a schema that moved on, a server that is gone and a name that does not resolve."""
    origin = f"psycopg@{psycopg.__version__}"

    def run(statement: bytes) -> None:
        with psycopg.connect(dsn) as connection:
            connection.execute(statement)

    keep_failure(f"{origin}#undefined_table", "runtime", lambda: run(b"select * from shipments"))
    keep_failure(f"{origin}#timeout", "runtime", lambda: run(b"set statement_timeout = 50; select pg_sleep(2)"))
    keep_failure(f"{origin}#refused", "runtime", lambda: psycopg.connect("host=127.0.0.1 port=1 dbname=shop"))
    keep_failure(f"{origin}#dns", "runtime", lambda: psycopg.connect("host=primary.invalid dbname=shop"), one_line=True)


def storage(web: str) -> None:
    """Every documented storage error through the real client."""
    for case in (name for name in vendor_errors.CASES if name.startswith("s3-")):
        client = boto3.client(
            "s3",
            endpoint_url=f"{web}/{case}",
            region_name="auto",
            aws_access_key_id="invented",
            aws_secret_access_key="invented",  # noqa: S106 - never valid anywhere
            config=Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}),
        )
        keep_failure(
            f"boto3@{boto3.__version__}#{case}",
            "runtime",
            lambda client=client: client.put_object(Bucket="media", Key="a.png", Body=b"x"),
        )


def upstream(web: str) -> None:
    """A partner's API that fails, moves or is not there."""
    for case in ("bad-gateway", "unavailable", "too-many", "drop"):
        keep_failure(f"urllib#{case}", "runtime", lambda case=case: urllib.request.urlopen(f"{web}/{case}/v1/rates"))
    keep_failure("urllib#refused", "runtime", lambda: urllib.request.urlopen("http://127.0.0.1:1/health"))
    keep_failure("urllib#dns", "runtime", lambda: urllib.request.urlopen("https://partner.invalid/"), one_line=True)


def mail() -> None:
    """A mail server that refuses at one step of the dialogue."""
    replies = {
        "AUTH": "535 5.7.8 Error: authentication failed",
        "MAIL": "553 5.7.1 Sender address rejected: not owned by user",
        "RCPT": "554 5.7.1 Relay access denied",
    }
    message = EmailMessage()
    message["From"], message["To"] = "orders@shop.example", "kim@shop.example"
    for verb, reply in replies.items():

        def send(port: int = _mail_server(verb, reply), verb: str = verb) -> None:
            with smtplib.SMTP("127.0.0.1", port, timeout=5) as client:
                if verb == "AUTH":
                    client.login("user", "invented")
                client.send_message(message)

        keep_failure(f"smtplib#{verb.lower()}", "runtime", send)
    keep_failure("smtplib#refused", "runtime", lambda: smtplib.SMTP("127.0.0.1", 1), one_line=True)


def _mail_server(verb: str, reply: str) -> int:
    """Serve one client: `reply` to `verb`, agreement to all else. Returns the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        client, _ = listener.accept()
        with client, client.makefile("rwb") as stream:
            answer = "220 mx.example ESMTP"
            while True:
                stream.write(f"{answer}\r\n".encode())
                stream.flush()
                said = stream.readline().decode()[:4].upper()
                if not said:
                    return
                answer = reply if said == verb else "250 AUTH PLAIN" if said == "EHLO" else "250 ok"

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


if __name__ == "__main__":
    main()
