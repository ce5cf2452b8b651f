"""Drills on the twin: where they take place, and how each of them goes on.

`catalogue` the files · `ground` the twin, the good version, the visitors · `trial` the program and its configuration ·
`deployment` a version is deployed while guard waits · `performing` from a file to a result
"""
