"""The report's sections; each registers what makes it from a group of runs."""
