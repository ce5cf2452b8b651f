"""`backout init` and `backout config`: making and inspecting the configuration."""
