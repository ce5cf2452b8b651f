-- A forum, as ActiveRecord logs what its migrations send.
-- @ 20230101000000_create_posts safe yes
CREATE TABLE "posts" ("id" bigserial primary key, "title" character varying NOT NULL, "body" text, "views" integer DEFAULT 0 NOT NULL, "state" character varying, "created_at" timestamp(6) NOT NULL, "updated_at" timestamp(6) NOT NULL);
CREATE INDEX "index_posts_on_state" ON "posts" ("state");
CREATE TABLE "schema_migrations" ("version" character varying NOT NULL PRIMARY KEY);
INSERT INTO "schema_migrations" ("version") VALUES ('20230101000000') RETURNING "version";

-- @ 20230201000000_add_reference safe if
CREATE TABLE "authors" ("id" bigserial primary key, "handle" character varying NOT NULL);
ALTER TABLE "posts" ADD "author_id" bigint;
CREATE INDEX CONCURRENTLY "index_posts_on_author_id" ON "posts" ("author_id");
ALTER TABLE "posts" ADD CONSTRAINT "fk_rails_5b5ddfd518" FOREIGN KEY ("author_id") REFERENCES "authors" ("id");
INSERT INTO "schema_migrations" ("version") VALUES ('20230201000000') RETURNING "version";

-- @ 20230301000000_check_not_null_without_scan safe-if yes
ALTER TABLE "posts" ADD CONSTRAINT "chk_rails_body" CHECK (body IS NOT NULL) NOT VALID;

-- @ 20230302000000_validate safe yes
ALTER TABLE "posts" VALIDATE CONSTRAINT "chk_rails_body";

-- @ 20230303000000_set_not_null safe-if if
ALTER TABLE "posts" ALTER COLUMN "body" SET NOT NULL;
ALTER TABLE "posts" DROP CONSTRAINT "chk_rails_body";

-- @ 20230401000000_change_default safe-if yes
ALTER TABLE "posts" ALTER COLUMN "state" SET DEFAULT 'draft';

-- @ 20230501000000_remove_column breaking no
ALTER TABLE "posts" DROP COLUMN "views";

-- @ 20230601000000_rename_index safe yes
ALTER INDEX "index_posts_on_state" RENAME TO "posts_by_state";

-- @ 20230701000000_unique_handle safe-if yes
CREATE UNIQUE INDEX CONCURRENTLY "index_authors_on_handle" ON "authors" ("handle");

-- @ 20230801000000_timestamps safe if
ALTER TABLE "authors" ADD "created_at" timestamp(6) DEFAULT CURRENT_TIMESTAMP NOT NULL, ADD "updated_at" timestamp(6) DEFAULT CURRENT_TIMESTAMP NOT NULL;

-- @ 20230901000000_counter_reset safe-if no
UPDATE "posts" SET "state" = 'published' WHERE "state" IS NULL;

-- @ 20231001000000_drop_join_table_not_there safe yes
DROP TABLE IF EXISTS "authors_posts";
