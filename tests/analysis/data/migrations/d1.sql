-- Cloudflare D1: SQLite's words, as wrangler numbers and Drizzle writes them.
-- @ 0001_init.sql safe yes
CREATE TABLE `links` (
	`id` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`slug` text NOT NULL,
	`url` text NOT NULL,
	`hits` integer DEFAULT 0 NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `links_slug_unique` ON `links` (`slug`);
-- @ 0002_owner.sql safe if
ALTER TABLE `links` ADD `owner` text;
-- @ 0003_rebuild.sql safe-if no
PRAGMA foreign_keys=OFF;--> statement-breakpoint
CREATE TABLE `__new_links` (
	`id` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`slug` text NOT NULL,
	`url` text,
	`hits` integer DEFAULT 0 NOT NULL,
	`owner` text
);
--> statement-breakpoint
INSERT INTO `__new_links`("id", "slug", "url", "hits", "owner") SELECT "id", "slug", "url", "hits", "owner" FROM `links`;--> statement-breakpoint
DROP TABLE `links`;--> statement-breakpoint
ALTER TABLE `__new_links` RENAME TO `links`;--> statement-breakpoint
PRAGMA foreign_keys=ON;--> statement-breakpoint
CREATE UNIQUE INDEX `links_slug_unique` ON `links` (`slug`);
-- @ 0004_drop.sql breaking no
ALTER TABLE `links` DROP COLUMN `hits`;
