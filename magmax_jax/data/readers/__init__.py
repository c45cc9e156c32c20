"""Readers of data sets, one module for each place they come from."""
