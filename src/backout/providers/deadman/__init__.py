"""The watcher of the watcher: a URL outside that is asked while guard watches."""
