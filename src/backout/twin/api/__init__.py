"""The API of the twin: Cloudflare's, as far as it is implemented."""
