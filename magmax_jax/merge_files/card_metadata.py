"""What a checkpoint's own model card says of it."""

from pathlib import Path

import yaml
from huggingface_hub import metadata_load


def base_models(directory: Path) -> list[str]:
    """Hub ids that README.md names as `base_model`; none where there is no such card."""
    try:
        found = (metadata_load(directory / "README.md") or {}).get("base_model")
    except (OSError, ValueError, yaml.YAMLError):
        return []
    return [name for name in (found if isinstance(found, list) else [found]) if name]
