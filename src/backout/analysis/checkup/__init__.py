"""Judgements of `backout doctor` and `preflight`: facts in, checks with a reason and the fixing command out; pure.

`platform` tokens, identity, clock, marks · `service` health, counts, rollback targets, guard ·
`data` the database and its backups · `deployment` what the next deployment needs · `views` who shows which ·
`here` journal, disk, git, channels, the card
"""
