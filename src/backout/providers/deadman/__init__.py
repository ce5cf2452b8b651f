"""The dead-man's switch: an outside URL that is pinged while guard watches."""
