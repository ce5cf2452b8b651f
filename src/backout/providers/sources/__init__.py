"""Port SecretSource: a file, the environment, a keyring, another program, or what a person typed."""
