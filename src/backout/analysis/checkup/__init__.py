"""Judgements of `backout doctor`: facts in, checks with a reason and the fixing command out; pure.

`platform` tokens, identity, clock, marks · `service` health, counts, rollback targets, guard ·
`data` the database and its backups · `here` journal, disk, git, channels, the card
"""
