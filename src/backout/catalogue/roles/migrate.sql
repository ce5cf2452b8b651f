-- For: db migrations apply, and deploy.command of roll-forward. What it makes belongs to the owner of the tables.
CREATE ROLE :"role" LOGIN;
GRANT CONNECT ON DATABASE :"database" TO :"role";
GRANT :"owner" TO :"role";
ALTER ROLE :"role" IN DATABASE :"database" SET role = :'owner';
