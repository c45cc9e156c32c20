"""What a run shows of itself through its files, while another process writes them."""

from experiments.watching.following import Contents, Follower, Step
from experiments.watching.lines import JsonLines
from experiments.watching.screen import overview, screen
from experiments.watching.snapshot import Model, Snapshot, snapshot

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
