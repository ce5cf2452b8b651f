"""What the trial of a way back shows: old code, migrations, new code, old code again; pure.

A verdict on a migration's text can only take a `true` away; that it is one, the trial shows.
"""
