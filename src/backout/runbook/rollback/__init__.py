"""Going back to another version of the code, or forward to a fix."""
