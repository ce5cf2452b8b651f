"""The detector on recorded data: replay, results of past watches, what it would find at today's traffic."""
