from pathlib import Path


def has_trained(folder: Path) -> bool:
    """Whether the run there has taken a step; before that there is nothing to save."""
    return any(path.stat().st_size for path in folder.rglob("metrics.jsonl"))
