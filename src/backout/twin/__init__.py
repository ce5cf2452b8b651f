"""The local cloud for demos, drills and tests: a Cloudflare API, workerd, Postgres and S3 on loopback."""
