-- For: db restore --side and --swap. It asks the live database who it is, and its second check reads every table.
-- It writes none.
-- The user of the operating system who runs a swap owns the data directory, and may run the commands of database.server.
CREATE ROLE :"role" LOGIN;
GRANT CONNECT ON DATABASE :"database" TO :"role";
GRANT pg_monitor TO :"role";
GRANT pg_read_all_data TO :"role";
GRANT USAGE ON SCHEMA :"history_schema" TO :"role";
GRANT SELECT ON TABLE :"history_schema".:"history_table" TO :"role";
