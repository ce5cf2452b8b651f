"""The trial of a way back before it counts: old code, migrations, new code, old code again."""
