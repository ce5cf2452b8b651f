-- Written by hand: psql, search paths, blocks, row security, partitions.
-- @ V1__base.sql safe yes
\set ON_ERROR_STOP on
SET client_min_messages TO warning;
CREATE EXTENSION IF NOT EXISTS "pgcrypto";
CREATE SCHEMA IF NOT EXISTS app;
SET search_path TO app, public;
CREATE TABLE IF NOT EXISTS tenants (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), slug text NOT NULL UNIQUE, quota smallint);
CREATE TABLE IF NOT EXISTS readings (
    tenant uuid NOT NULL REFERENCES tenants,
    taken timestamptz NOT NULL DEFAULT now(),
    value double precision,
    raw json
) PARTITION BY RANGE (taken);
CREATE TABLE readings_2025 PARTITION OF readings FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE OR REPLACE FUNCTION app.set_taken() RETURNS trigger LANGUAGE plpgsql AS $fn$
BEGIN
  NEW.taken := coalesce(NEW.taken, now()); -- a semicolon; inside
  RETURN NEW;
END;
$fn$;
CREATE TRIGGER readings_taken BEFORE INSERT ON readings FOR EACH ROW EXECUTE FUNCTION app.set_taken();
CREATE VIEW app.latest AS SELECT tenant, max(taken) AS taken FROM readings GROUP BY tenant;
COPY tenants (slug, quota) FROM stdin;
first;	1
it's	2
\.
ALTER TABLE readings OWNER TO app_owner;

-- @ V2__partition.sql safe yes
CREATE TABLE app.readings_2026 PARTITION OF app.readings FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');

-- @ V3__detach.sql breaking yes
ALTER TABLE app.readings DETACH PARTITION app.readings_2025;

-- @ V4__enum_guarded.sql safe if
DO $$ BEGIN
  IF NOT EXISTS (SELECT 1 FROM pg_type WHERE typname = 'unit') THEN
    CREATE TYPE app.unit AS ENUM ('c', 'f');
  END IF;
END $$;
ALTER TABLE app.readings ADD COLUMN IF NOT EXISTS unit app.unit DEFAULT 'c';

-- @ V5__dynamic.sql safe-if no
DO $$
DECLARE t record;
BEGIN
  FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'app' LOOP
    EXECUTE format('ALTER TABLE app.%I ADD COLUMN IF NOT EXISTS note text', t.tablename);
  END LOOP;
END $$;

-- @ V6__conditional_drop.sql breaking no
DO $$ BEGIN
  IF EXISTS (SELECT 1 FROM information_schema.columns WHERE table_name = 'tenants' AND column_name = 'quota') THEN
    ALTER TABLE app.tenants DROP COLUMN quota;
  END IF;
END $$;

-- @ V7__row_security.sql safe-if yes
ALTER TABLE app.tenants ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON app.tenants USING (slug = current_setting('app.tenant'));

-- @ V8__revoke.sql safe-if yes
REVOKE UPDATE, DELETE ON app.readings FROM app_user;
GRANT SELECT ON app.readings TO app_reader;

-- @ V9__view_grows.sql safe yes
CREATE OR REPLACE VIEW app.latest AS SELECT tenant, max(taken) AS taken, count(*) AS n FROM app.readings GROUP BY tenant;

-- @ V10__view_other_rows.sql safe-if yes
CREATE OR REPLACE VIEW app.latest AS SELECT tenant, max(taken) AS taken, count(*) AS n FROM app.readings WHERE value IS NOT NULL GROUP BY tenant;

-- @ V11__view_shrinks.sql breaking yes
DROP VIEW app.latest;
CREATE VIEW app.latest AS SELECT tenant, max(taken) AS taken FROM app.readings GROUP BY tenant;

-- @ V12__move_rows.sql safe-if no
WITH moved AS (DELETE FROM app.readings WHERE taken < '2025-01-01' RETURNING *)
INSERT INTO app.readings_2026 SELECT * FROM moved;

-- @ V13__include.sql safe-if no
\ir shared/grants.sql

-- @ V14__json_to_jsonb.sql breaking no
ALTER TABLE app.readings ALTER COLUMN raw TYPE jsonb USING raw::jsonb;

-- @ V15__rename_behind_view.sql breaking yes
BEGIN;
ALTER TABLE app.tenants RENAME TO customers;
CREATE VIEW app.tenants AS SELECT * FROM app.customers;
COMMIT;

-- @ V16__move_schema.sql breaking yes
ALTER TABLE app.customers SET SCHEMA public;

-- @ V17__comments_only.sql safe yes
/* nothing /* nested */ here: DROP TABLE app.readings; */
-- ALTER TABLE app.readings DROP COLUMN value;
COMMENT ON TABLE app.readings IS 'DROP TABLE app.readings;';

-- @ V18__cannot_be_read.sql breaking no
ALTER TABLE :schema.readings DROP COLUMN value;

-- @ V19__maintenance.sql safe yes
SET lock_timeout = '2s';
ANALYZE app.readings;
REINDEX TABLE app.readings;
RESET lock_timeout;
