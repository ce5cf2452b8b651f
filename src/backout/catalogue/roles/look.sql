-- For: status, db check, db migrations status and drift, db points, db backups list, db wal status, and each --dry-run
-- but those of db backup and of a rescue, which have roles of their own.
-- It reads the catalog and the history of migrations, and writes nothing but the record of a restore point.
CREATE ROLE :"role" LOGIN;
GRANT CONNECT ON DATABASE :"database" TO :"role";
-- how far the receiver of WAL is, and settings that others do not see
GRANT pg_monitor TO :"role";
-- without this a restore point is a position alone, which is as exact
GRANT EXECUTE ON FUNCTION pg_catalog.pg_create_restore_point(text) TO :"role";
-- the history of migrations, that table and no other
GRANT USAGE ON SCHEMA :"history_schema" TO :"role";
GRANT SELECT ON TABLE :"history_schema".:"history_table" TO :"role";
