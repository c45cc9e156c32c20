"""A run, from its configuration to its directory, and all that reads one."""
