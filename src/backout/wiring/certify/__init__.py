"""The trial of a way back from a configuration: what it is made of, where it takes place, and what was found."""
