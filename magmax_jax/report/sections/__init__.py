"""The report's sections; each registers a function that makes it from a group of runs."""
