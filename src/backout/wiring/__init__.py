"""The one room that turns a configuration into the ports of a command; each module makes those of one subject."""
