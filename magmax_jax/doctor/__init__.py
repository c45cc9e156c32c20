"""`magmax doctor`: whether this machine is set up for magmax_jax, and what to do if not."""
