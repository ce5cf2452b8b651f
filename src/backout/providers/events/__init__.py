"""Events of Workers and logs of any shape, from files, standard input or live sources, to counts and templates."""
