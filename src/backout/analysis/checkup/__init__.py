"""Judgements of `backout doctor`: facts in, checks with their reason and the line that closes the gap out; pure.

`platform` tokens, identity, clock, marks · `service` health, counts, what can be returned to, who watches ·
`data` the database and its backups · `here` journal, disk, git, channels, the card
"""
