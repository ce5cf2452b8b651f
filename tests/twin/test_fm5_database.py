"""FM5 in a real workerd with a real Postgres behind its Hyperdrive binding: catalogue, orders, and the wrong table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from kept import template

from backout.providers.files.migrations import PrismaMigrations
from backout.providers.postgres.schema.deploy import PrismaDeploy
from backout.providers.postgres.server.binaries import find_binaries
from backout.providers.postgres.server.launcher import PostgresServer

from fm5_app import FM5, Bindings, EmailProvider, email_provider, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "canary-password-of-the-database"


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server with FM5's tables and its catalogue."""
    directory = tmp_path_factory.mktemp("postgres")
    server = PostgresServer(directory / "data", find_binaries(), settings={"fsync": "off"})
    server.create(cache_directory=template())
    status = server.start(password=PASSWORD)
    PrismaDeploy(lambda: status.socket_dsn).apply(PrismaMigrations(FM5 / "prisma" / "migrations").read())
    with psycopg.connect(status.socket_dsn, autocommit=True) as connection:
        connection.execute((FM5 / "prisma" / "seed.sql").read_bytes())
    yield server
    server.stop(mode="immediate")


@pytest.fixture
def provider() -> Iterator[EmailProvider]:
    with email_provider() as provider:
        yield provider


def bindings(server: PostgresServer, provider: EmailProvider) -> Bindings:
    status = server.status()
    assert status is not None
    texts = {"EMAIL_API_URL": provider.url, "EMAIL_API_KEY": "key-1", "EMAIL_FROM": "FM5 <o@example.com>"}
    return Bindings(texts, status.port, PASSWORD)


def execute(server: PostgresServer, statement: str) -> None:
    status = server.status()
    assert status is not None
    with psycopg.connect(status.socket_dsn) as connection:
        connection.execute(statement.encode())


def confirmed(server: PostgresServer, order: int) -> bool:
    status = server.status()
    assert status is not None
    with psycopg.connect(status.socket_dsn) as connection:
        row = connection.execute("SELECT confirmed_at IS NOT NULL FROM orders WHERE id = %s", (order,)).fetchone()
    assert row is not None
    return bool(row[0])


def test_the_catalogue_is_listed_read_and_extended(postgres: PostgresServer, provider: EmailProvider) -> None:
    """What POST writes, GET finds; a number that is not there is a 404."""
    with serving("good", bindings(postgres, provider)) as app:
        listed = app.get("/api/models")
        assert listed.status == 200
        assert listed.json["models"][0]["name"] == "Bracket, 40 mm"
        made = app.ask("POST", "/api/models", {"name": " Washer ", "price_cents": 5})
        assert made.status == 201
        assert app.get(made.headers["location"]).json["model"]["name"] == "Washer"
        assert app.get("/api/models/2000000000").status == 404


def test_an_order_is_written_and_its_confirmation_sent(postgres: PostgresServer, provider: EmailProvider) -> None:
    """The provider gets the message with the key as bearer; the row says that it went out."""
    with serving("good", bindings(postgres, provider)) as app:
        body = {"model_id": 1, "quantity": 3, "email": "a@example.com", "note": "blue"}
        reply = app.ask("POST", "/api/orders", body)
        assert app.ask("POST", "/api/orders", body | {"model_id": 2_000_000_000}).status == 404
    assert reply.status == 201
    order = reply.json["order"]
    assert (order["total_cents"], order["confirmation"]) == (1350, "sent")
    ((key, message),) = provider.taken
    assert key == "Bearer key-1"
    assert (message["to"], message["from"]) == (["a@example.com"], "FM5 <o@example.com>")
    assert "13.50" in message["text"]
    assert confirmed(postgres, order["id"])


def test_an_order_stands_when_the_email_provider_is_down(postgres: PostgresServer, provider: EmailProvider) -> None:
    """Graceful degradation: 201, the confirmation pending."""
    provider.status = 503
    with serving("good", bindings(postgres, provider)) as app:
        reply = app.ask("POST", "/api/orders", {"model_id": 2, "email": "a@example.com"})
    assert (reply.status, reply.json["order"]["confirmation"]) == (201, "pending")
    assert not confirmed(postgres, reply.json["order"]["id"])


def test_the_schedule_sends_what_waited(postgres: PostgresServer, provider: EmailProvider) -> None:
    """Nothing goes out while the provider is down; once it is up an order of a minute ago gets one confirmation."""
    provider.status = 503
    with serving("good", bindings(postgres, provider)) as app:
        order = app.ask("POST", "/api/orders", {"model_id": 3, "email": "waits@example.com"}).json["order"]["id"]
        assert app.get("/run-schedule").status == 204
        assert not confirmed(postgres, order)
        provider.status = 200
        assert app.get("/run-schedule").status == 204
        assert not confirmed(postgres, order)  # too young: its own request might be at it
        execute(postgres, "UPDATE orders SET created_at = created_at - interval '5 minutes'")
        assert app.get("/run-schedule").status == 204
        assert app.get("/run-schedule").status == 204
    assert confirmed(postgres, order)
    assert sum(message["to"] == ["waits@example.com"] for _, message in provider.taken) == 1


def test_health_follows_the_database_down_and_up(postgres: PostgresServer, provider: EmailProvider) -> None:
    """Ok, an error while the server is stopped, ok again without a restart of the Worker; the password never shows."""
    with serving("good", bindings(postgres, provider)) as app:
        assert app.get("/health").json["services"]["database"]["status"] == "ok"
        before = postgres.status()
        assert before is not None
        postgres.stop()
        down = app.get("/health")
        postgres.start(port=before.port)
        up = app.get("/health")
    assert (down.status, down.json["services"]["database"]["status"]) == (503, "error")
    assert up.json["services"]["database"]["status"] == "ok"
    assert PASSWORD.encode() not in down.body


def test_a_refused_password_is_an_error_of_the_database(postgres: PostgresServer, provider: EmailProvider) -> None:
    """A rotated password shows as such, without the password."""
    right = bindings(postgres, provider)
    with serving("good", Bindings(right.texts, right.postgres_port, "canary-wrong")) as app:
        service = app.get("/health").json["services"]["database"]
    assert (service["status"], service["message"]) == ("error", 'password authentication failed for user "postgres"')


def test_wrong_table_fails_the_catalogue_and_nothing_else(postgres: PostgresServer, provider: EmailProvider) -> None:
    """Postgres answers 42P01 to the list; single models and /health's database are fine."""
    with serving("wrong-table", bindings(postgres, provider)) as app:
        assert app.get("/api/models").status == 500
        assert app.get("/api/models/1").status == 200
        assert app.get("/health").json["services"]["database"]["status"] == "ok"
