from magmax_jax.cli.main import launch

launch(["--help"])
