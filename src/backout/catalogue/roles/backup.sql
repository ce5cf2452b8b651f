-- For: db backup, db backups verify, db wal start, run, stop, status. A superuser types it: only one gives REPLICATION.
-- REPLICATION reads the whole cluster, passwords included: keep its connection string as you keep a superuser's.
-- pg_hba.conf needs a line for it: host replication ROLE ADDRESS scram-sha-256
CREATE ROLE :"role" LOGIN REPLICATION;
GRANT CONNECT ON DATABASE :"database" TO :"role";
GRANT pg_monitor TO :"role";
-- Only for wal = "sync": it changes what commits wait for.
GRANT ALTER SYSTEM ON PARAMETER synchronous_standby_names TO :"role";
GRANT EXECUTE ON FUNCTION pg_catalog.pg_reload_conf() TO :"role";
