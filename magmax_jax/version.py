"""The version, in a separate module that everything may import."""

__version__ = "0.1.0"
