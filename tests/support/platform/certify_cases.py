"""Seeded migrations for trials: thirty from which there is no way back to the old code, and thirty harmless ones.

What makes one irreversible: the old code fails on the new schema, or on what the new code wrote, or rows are lost or
changed. Harmless: the old code runs as before, and nothing is lost; whether that is proven is for the trial to say.
"""

# ruff: noqa: E501, ISC004, S608 - statements of SQL on one line, or on two

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from certify_lab import OLD, REQUESTS, Case

if TYPE_CHECKING:
    from collections.abc import Sequence

ORDER: Final = ("quantity", "total", "note")


def insert(columns: str = "", values: str = "", note: str = "$3") -> dict[str, Sequence[str]]:
    """Return the new code's way to write an order, with more columns."""
    names, given = (f", {columns}", f", {values}") if columns else ("", "")
    sql = (
        f"INSERT INTO orders (customer_id, quantity, total, note{names}) "
        f"SELECT max(id), $1::int, $2::numeric, {note}::varchar{given} FROM customers RETURNING *"
    )
    return {"POST /orders": (sql, *ORDER)}


def more(**request: object) -> str:
    """Return the usual requests and one more."""
    return f"{REQUESTS}\n{json.dumps(request)}"


AUDITED: Final = {**OLD, "POST /audit": ("INSERT INTO audit (what) VALUES ('seen') RETURNING id",)}
STRICT: Final = {**OLD, "GET /notes": ("SELECT length(note) + 0 AS length, id FROM orders ORDER BY id DESC LIMIT 5",)}
NULLED: Final = {
    "POST /customers": ("INSERT INTO customers (email, name) VALUES ($1, NULL) RETURNING id", "email"),
}

IRREVERSIBLE: Final = (
    Case("drop a column that old code reads and writes", "ALTER TABLE orders DROP COLUMN note", {
        "POST /orders": ("INSERT INTO orders (customer_id, quantity, total) SELECT max(id), $1, $2 FROM customers RETURNING *",
                         "quantity", "total")}),
    Case("rename a column", "ALTER TABLE orders RENAME COLUMN note TO remark", {
        "POST /orders": ("INSERT INTO orders (customer_id, quantity, total, remark) SELECT max(id), $1, $2, $3 FROM customers "
                         "RETURNING *", *ORDER)}),
    Case("rename a column that old code reads by * alone", "ALTER TABLE orders RENAME COLUMN status TO state", {
        "POST /orders/paid": ("UPDATE orders SET state = 'paid' WHERE id = (SELECT max(id) FROM orders) RETURNING id",)}),
    Case("rename a table", "ALTER TABLE settings RENAME TO preferences", {"GET /settings": ("SELECT name, value FROM preferences",)}),
    Case("drop a table that old code reads", "DROP TABLE settings", {"GET /settings": ("SELECT 1 AS one",)}),
    Case("drop a table that old code does not name", "DROP TABLE audit"),
    Case("drop a column that old code does not name", "ALTER TABLE audit DROP COLUMN at"),
    Case("a required column without a default",
         "ALTER TABLE orders ADD COLUMN colour text; UPDATE orders SET colour = 'red'; ALTER TABLE orders ALTER colour SET NOT NULL",
         insert("colour", "'red'")),
    Case("a column becomes required that old code leaves out",
         "UPDATE customers SET name = 'unknown' WHERE name IS NULL; ALTER TABLE orders ADD COLUMN by text DEFAULT 'web' NOT NULL; "
         "ALTER TABLE orders ALTER by DROP DEFAULT", insert("by", "'app'")),
    Case("a shorter text", "ALTER TABLE orders ALTER note TYPE varchar(5) USING left(note, 5)", insert(note="left($3, 5)")),
    Case("a number without its decimals", "ALTER TABLE orders ALTER total TYPE int USING round(total)"),
    Case("a number of another unit", "ALTER TABLE orders ALTER total TYPE numeric(12, 2) USING total * 100"),
    Case("a time without its hours", "ALTER TABLE audit ALTER at TYPE date"),
    Case("a text becomes a number", "ALTER TABLE customers ADD COLUMN code text; ALTER TABLE orders ALTER note TYPE int USING length(note)",
         insert(note="'5'")),
    Case("a check that old code violates", "ALTER TABLE orders ADD CONSTRAINT few CHECK (note <> 'ring twice') NOT VALID",
         insert(note="'ring once'")),
    Case("a check on a number", "ALTER TABLE orders ADD CONSTRAINT many CHECK (quantity > 2) NOT VALID", {
        "POST /orders": ("INSERT INTO orders (customer_id, quantity, total, note) SELECT max(id), $1 + 9, $2, $3 FROM customers "
                         "RETURNING *", *ORDER)}),
    Case("a unique index on what old code repeats",
         "DELETE FROM orders a USING orders b WHERE a.note = b.note AND a.id < b.id; CREATE UNIQUE INDEX one ON orders (note)",
         insert(note="$3 || random()")),
    Case("a unique index on new rows", "CREATE UNIQUE INDEX one ON orders (total, note) WHERE id > 1000000; "
         "ALTER SEQUENCE orders_id_seq RESTART 2000000", insert(note="left(md5(random()::text), 20)")),
    Case("delete rows", "DELETE FROM settings WHERE name LIKE '%1%'"),
    Case("truncate", "TRUNCATE audit"),
    Case("overwrite values", "UPDATE customers SET email = 'hidden-' || id || '@example.com'"),
    Case("a number that the driver returns as a text now", "ALTER TABLE orders ALTER quantity TYPE bigint"),
    Case("delete what no row of the trial has", "DELETE FROM orders WHERE status = 'cancelled'"),
    Case("overwrite what no row of the trial has", "UPDATE orders SET note = NULL WHERE status = 'cancelled'"),
    Case("another default", "ALTER TABLE orders ALTER status SET DEFAULT 'draft'"),
    Case("no default any more", "ALTER TABLE orders ALTER status DROP NOT NULL, ALTER status DROP DEFAULT", insert("status", "'new'")),
    Case("a trigger that changes what old code writes",
         "CREATE FUNCTION hide() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note = 'hidden'; RETURN NEW; END $$; "
         "CREATE TRIGGER hide BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION hide()"),
    Case("NULL where old code divides", "ALTER TABLE orders ALTER quantity DROP NOT NULL", {
        "POST /orders": ("INSERT INTO orders (customer_id, quantity, total, note) SELECT max(id), NULL, $1, $2 FROM customers "
                         "RETURNING *", "total", "note")}),
    Case("row security", "ALTER TABLE orders ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON orders USING (quantity > 100)"),
    Case("a right is taken away", "REVOKE UPDATE ON orders FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC"),
)  # fmt: skip

HARMLESS: Final = (
    Case("a new nullable column", "ALTER TABLE orders ADD COLUMN colour text", insert("colour", "'red'")),
    Case("a new column with a default", "ALTER TABLE orders ADD COLUMN colour text NOT NULL DEFAULT 'red'", insert("colour", "'blue'")),
    Case("a new number", "ALTER TABLE customers ADD COLUMN points int NOT NULL DEFAULT 0", {
        "POST /customers": ("INSERT INTO customers (email, name, points) VALUES ($1, $2, 5) RETURNING id", "email", "name")}),
    Case("a new time", "ALTER TABLE orders ADD COLUMN at timestamptz NOT NULL DEFAULT now()", insert("at", "now()")),
    Case("a new json column", "ALTER TABLE orders ADD COLUMN extra jsonb", insert("extra", "'{}'")),
    Case("a new array", "ALTER TABLE orders ADD COLUMN tags text[] NOT NULL DEFAULT '{}'", insert("tags", "'{a}'")),
    Case("two new columns", "ALTER TABLE orders ADD COLUMN a int, ADD COLUMN b int", insert("a, b", "1, 2")),
    Case("a new table", "CREATE TABLE coupons (id int PRIMARY KEY, code text NOT NULL)",
         {"GET /coupons": ("SELECT id FROM coupons",)}),
    Case("a new table that refers to an old one", "CREATE TABLE reviews (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
         "order_id int REFERENCES orders ON DELETE CASCADE, stars int NOT NULL)",
         {"POST /reviews": ("INSERT INTO reviews (order_id, stars) SELECT max(id), 5 FROM orders RETURNING id",)},
         more(method="POST", path="/reviews", by="new")),
    Case("a new column that refers to a new table", "CREATE TABLE shops (id int PRIMARY KEY); INSERT INTO shops VALUES (1); "
         "ALTER TABLE orders ADD COLUMN shop_id int REFERENCES shops", insert("shop_id", "1")),
    Case("an index", "CREATE INDEX by_customer ON orders (customer_id)", insert()),
    Case("an index built beside the traffic", "CREATE INDEX CONCURRENTLY by_note ON orders (note)"),
    Case("a partial index", "CREATE INDEX fresh ON orders (id) WHERE status = 'new'"),
    Case("an index on an expression", "CREATE INDEX lower_email ON customers (lower(email))"),
    Case("an index is gone", "CREATE INDEX gone ON orders (total); DROP INDEX gone"),
    Case("a longer text", "ALTER TABLE orders ALTER note TYPE varchar(400)", insert(note="$3 || ', twice'")),
    Case("a text without a limit", "ALTER TABLE orders ALTER note TYPE text", insert(note="$3")),
    Case("more digits", "ALTER TABLE orders ALTER total TYPE numeric(14, 2)"),
    Case("a new enumeration", "CREATE TYPE colour AS ENUM ('red', 'blue'); ALTER TABLE orders ADD COLUMN colour colour",
         insert("colour", "'red'")),
    Case("a unique index on a new column", "ALTER TABLE customers ADD COLUMN ref text UNIQUE", {
        "POST /customers": ("INSERT INTO customers (email, name, ref) VALUES ($1, $2, $1) RETURNING id", "email", "name")}),
    Case("a check on a new column", "ALTER TABLE orders ADD COLUMN stars int CHECK (stars BETWEEN 1 AND 5)", insert("stars", "5")),
    Case("a check that everything keeps", "ALTER TABLE orders ADD CONSTRAINT kept CHECK (quantity > -1000000)"),
    Case("a column becomes required that old code always gives", "UPDATE customers SET name = 'unknown' WHERE name IS NULL AND false; "
         "ALTER TABLE customers ALTER email SET NOT NULL"),
    Case("a default for what old code always gives", "ALTER TABLE orders ALTER note SET DEFAULT 'none'"),
    Case("a view", "CREATE VIEW paid AS SELECT id, total FROM orders WHERE status = 'paid'",
         {"GET /paid": ("SELECT id FROM paid",)}, more(method="GET", path="/paid", by="new")),
    Case("a function", "CREATE FUNCTION vat(numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 0.19'"),
    Case("a trigger that writes elsewhere",
         "CREATE FUNCTION note_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit (what) VALUES ('order'); "
         "RETURN NEW; END $$; CREATE TRIGGER note_it AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION note_it()"),
    Case("a backfill of a new column", "ALTER TABLE orders ADD COLUMN cents bigint; UPDATE orders SET cents = total * 100",
         insert("cents", "$2::numeric * 100")),
    Case("new rows in a lookup table", "INSERT INTO settings VALUES ('theme', 'dark')"),
    Case("a comment, a statistic", "COMMENT ON TABLE orders IS 'orders'; ALTER TABLE orders ALTER note SET STATISTICS 500"),
)  # fmt: skip
