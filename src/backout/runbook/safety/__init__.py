"""What must hold before anything is changed: identity, token, clock, the kill switch, and whether guard may act."""
