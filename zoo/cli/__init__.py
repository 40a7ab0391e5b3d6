"""The `lightning` command: a front door in plain standard library, and the commands behind it."""
