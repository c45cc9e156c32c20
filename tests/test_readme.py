"""README is correct: names can be imported, and paths exist."""

import importlib
import re
from pathlib import Path

import pytest

import magmax_jax

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
NAMES = sorted(set(re.findall(r"\b(?:magmax_jax|mm)(?:\.[A-Za-z_]\w*)+", README)))
PATHS = sorted(set(re.findall(r"(?<![\w/])(?:magmax_jax|experiments)/[\w./-]*\w", README)))


def resolve(name: str) -> object:
    """Resolves a dotted name: modules as far as possible, then attributes."""
    first, *rest = name.split(".")
    found, module = magmax_jax, "magmax_jax"
    assert first in ("magmax_jax", "mm")
    for part in rest:
        if not hasattr(found, part):
            importlib.import_module(f"{module}.{part}")
        found, module = getattr(found, part), f"{module}.{part}"
    return found


def test_there_are_names_and_paths():
    assert "mm.CLIP.from_pretrained" in NAMES and "experiments/assets/tiny-clip" in PATHS


@pytest.mark.parametrize("name", NAMES)
def test_a_name_can_be_imported(name):
    resolve(name)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_exists(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("name", magmax_jax.__all__)
def test_public_names_are_listed_in_one_place(name):
    assert name in dir(magmax_jax) and getattr(magmax_jax, name) is resolve(f"mm.{name}")
    importlib.import_module("magmax_jax.rules")
