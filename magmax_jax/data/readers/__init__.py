"""Readers of data sets, one module per kind of source."""
