"""Events of Workers and logs of any shape, from files, standard input or live sources, into counts and templates."""
