-- For: db restore (the damaged rows) and db restore --undo of a rescue.
-- It is a member of the role that owns the tables, and so may do what that role may do, and no more.
CREATE ROLE :"role" LOGIN;
GRANT CONNECT ON DATABASE :"database" TO :"role";
GRANT TEMPORARY ON DATABASE :"database" TO :"role";
GRANT pg_monitor TO :"role";
GRANT :"owner" TO :"role";
