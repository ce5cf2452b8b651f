-- For: db dump, db dumps prove, and the statements that db migrations prove reads from pg_stat_statements.
-- It reads every table, and writes none.
CREATE ROLE :"role" LOGIN;
GRANT CONNECT ON DATABASE :"database" TO :"role";
GRANT pg_read_all_data TO :"role";
GRANT pg_read_all_stats TO :"role";
-- Only where tables have row level security (a superuser types it): without it such a dump is refused, never short.
-- ALTER ROLE :"role" BYPASSRLS;
