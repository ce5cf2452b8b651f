"""Cloudflare Workers, and the local twin, which speaks the same API: only the base URL differs."""
