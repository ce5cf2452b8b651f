"""The first contact with a real account: harmless calls on a Worker made for them."""

from __future__ import annotations

from backout.providers.cloudflare.conformance.contact import FirstContact

__all__ = ["FirstContact"]
