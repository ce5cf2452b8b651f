"""Make a Postgres server fail and print its log, case by case.

The database is modified: use a disposable one. `log_line_prefix`, `log_destination` and `lc_messages` are the
server's own settings; change them and run again for other formats and languages.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path

import psycopg
from collect import keep

SETUP = """
drop schema if exists reproduce cascade; create schema reproduce; set search_path = reproduce;
create type tier as enum ('free', 'pro');
create table customers (
  id serial primary key, email text unique not null, tier tier, region text not null default 'eu'
);
create table basket_items (id serial primary key, customer_id int references customers (id), sku text);
insert into customers (email) values ('kim@shop.example'), ('lee@shop.example');
insert into basket_items (customer_id, sku) values (1, 'A'), (1, 'B');
"""
# Case -> (kind, statements). The last statement is the one that fails.
CASES: dict[str, tuple[str, list[str]]] = {
    "undefined_column": ("runtime", ["select loyalty_points from customers"]),
    "undefined_table": ("runtime", ["insert into gift_cards (code) values ('X')"]),
    "undefined_function": ("runtime", ["select order_total(1, 'eur')"]),
    "enum_value": ("runtime", ["update customers set tier = 'enterprise'"]),
    "not_null": ("runtime", ["insert into customers (email, region) values ('a@b', null)"]),
    "duplicate": ("runtime", ["insert into customers (email) values ('kim@shop.example')"]),
    "foreign_key": ("runtime", ["insert into basket_items (customer_id) values (991)"]),
    "statement_timeout": ("runtime", ["set statement_timeout = 50", "select pg_sleep(2)"]),
    "read_only": ("runtime", ["set default_transaction_read_only = on", "delete from basket_items"]),
    "terminated": ("runtime", ["select pg_terminate_backend(pg_backend_pid())"]),
    "add_not_null": ("migration", ["alter table customers add column locale text not null"]),
    "add_twice": ("migration", ["alter table basket_items add column sku text"]),
    "unique_index": ("migration", ["create unique index on basket_items (customer_id)"]),
    "cast": ("migration", ["alter table basket_items alter column sku type integer using sku::integer"]),
    "drop_needed": ("migration", ["drop table customers"]),
    "concurrently": ("migration", ["begin", "create index concurrently on customers (region)"]),
}


def main() -> None:
    """Run every case and print what the log gained."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--dsn", required=True, help="a database that may be thrown away")
    options.add_argument("--log", required=True, type=Path, help="the file this server logs to")
    chosen = options.parse_args()
    with psycopg.connect(chosen.dsn, autocommit=True) as connection:
        connection.execute(SETUP)
        version = connection.info.parameter_status("server_version")
    for name, (kind, statements) in CASES.items():
        before = chosen.log.stat().st_size
        with contextlib.suppress(psycopg.Error), psycopg.connect(chosen.dsn, autocommit=True) as connection:
            connection.execute("set search_path = reproduce")
            for statement in statements:
                connection.execute(statement.encode())
        keep(f"postgres@{version}#{name}", kind, _gained(chosen.log, before))


def _gained(log: Path, before: int, patience: float = 2.0) -> str:
    """What stands after `before`, once something does and it has stopped growing."""
    deadline, size = time.monotonic() + patience, before
    while time.monotonic() < deadline:
        time.sleep(0.1)
        now = log.stat().st_size
        if now == size > before:
            break
        size = now
    with log.open("rb") as file:
        file.seek(before)
        return file.read().decode(errors="replace")


if __name__ == "__main__":
    main()
