"""Which accelerators and how much memory a machine has, found without JAX where possible."""
