"""How a server is reached, and how far the connection is trusted."""
