"""Model cards, whose YAML a merged model's card carries over."""

import random
from pathlib import Path

import numpy as np
import yaml

from magmax_jax.io.safetensors.reader import open_tensors
from magmax_jax.merge_files import hub_metadata
from tests.merge_files.conftest import write
from tests.mutants import mutate
from tests.mutants.kind import Kind

CARD = """\
---
license: mit
language: [en, no]
tags:
- clip
- vision
base_model: openai/clip-vit-base-patch16
pipeline_tag: zero-shot-image-classification
library_name: transformers
---
# A model
"""
VALUES = (
    "", "~", "other", "-1", "1e999", "yes", "2026-99-99", "!!timestamp x", "!!bool x", "!!int ''",
    "!!float x", "!!binary x", "!!python/object/apply:os.getcwd []", "&a [*a]", "*b", "{a: b}",
    "? [a]", "[a, [b]]", "'", '"\\x00"', "|", "a: b", "../x", "caf\u00e9", "[" * 3_000,
    "{" * 3_000, "x" * 5_000, "@", "`", "%", "0x", "1:2:3", "<<: 1", "!!set {a}", "!!omap [a]",
)  # fmt: skip
"""Values that YAML reads as something else, does not read, or that its reader fails on."""


def _mutated(data: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.3:
        return mutate.of_bytes(data, draw)
    lines = data.decode().splitlines()
    for _ in range(draw.choice((1, 1, 2))):
        at = draw.randrange(len(lines))
        key, colon, _ = lines[at].partition(": ")
        lines[at] = f"{key}{colon}{draw.choice(VALUES)}" if colon else draw.choice(VALUES)
    return "\n".join(lines).encode()


def _make(folder: Path) -> None:
    for name in ("base", "tuned"):
        write(folder / name, {"w": np.zeros(2, np.float32)})
        (folder / name / "README.md").write_text(CARD)


def _read(folder: Path) -> tuple[str, list[str]]:
    base, tuned = (open_tensors(folder / name) for name in ("base", "tuned"))
    return hub_metadata.metadata(base, [tuned]), list(hub_metadata.notes([base, tuned]))


def _is_a_card(folder: Path, found: tuple[str, list[str]]) -> bool:
    """Whether hubs can read the new card, and every field has the kind that they expect."""
    data = yaml.safe_load(found[0])
    texts = [data.get(key, "") for key in ("license", "pipeline_tag", "library_name")]
    several = [data.get(key, []) for key in ("tags", "base_model")]
    listed = all(isinstance(each, list) and all(map(_is_text, each)) for each in several)
    return all(map(_is_text, texts)) and listed and data["tags"][-2:] == ["merge", "magmax"]


def _is_text(value: object) -> bool:
    return isinstance(value, str)


KINDS = {"model card": Kind("tuned/README.md", _make, _read, _mutated, _is_a_card)}
