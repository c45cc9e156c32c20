"""`python -m magmax_jax` is the command `magmax`."""

from magmax_jax.cli.main import launch

if __name__ == "__main__":
    launch()
