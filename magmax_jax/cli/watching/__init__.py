"""What a run shows of itself through its files, while another process writes them."""

from magmax_jax.cli.watching.following import Contents, Follower, Step
from magmax_jax.cli.watching.lines import JsonLines
from magmax_jax.cli.watching.screen import overview, screen
from magmax_jax.cli.watching.snapshot import Model, Snapshot, snapshot

__all__ = [
    "Contents",
    "Follower",
    "JsonLines",
    "Model",
    "Snapshot",
    "Step",
    "overview",
    "screen",
    "snapshot",
]
