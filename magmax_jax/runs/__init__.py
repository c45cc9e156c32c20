"""Runs: from a configuration to a run directory, and everything that reads one."""
