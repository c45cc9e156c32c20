"""The version: a module of its own, which everything may import."""

__version__ = "0.1.0"
