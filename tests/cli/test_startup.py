"""What starting a merge imports: nothing that only training, data or reports need."""

import numpy as np
import pytest

from magmax_jax import packages
from tests.helpers.imports import imported
from tests.helpers.raw_safetensors import of_array, raw

TRAINING = {
    packages.module_of(packages.package_of(line))
    for extra, lines in packages.requirements().items()
    if extra != packages.CORE
    for line in lines
} | {"tensorflow", "torch", "pandas", "tokenizers"}
"""Everything that some extra installs, and what might come with it."""


@pytest.fixture(scope="module")
def merge(tmp_path_factory) -> list[str]:
    """The words of a merge of two files."""
    folder = tmp_path_factory.mktemp("models")
    for number, name in enumerate(("base", "a", "b")):
        tensor = np.full((2, 3), number, np.float32)
        raw(folder / name / "model.safetensors", {"w": of_array(tensor, "F32")})
    base, a, b = (str(folder / name) for name in ("base", "a", "b"))
    return ["merge", "--pretrained", base, "--finetuned", a, b]


def test_help_of_a_merge_imports_neither_jax_nor_numpy():
    found = imported("-m", "magmax_jax", "merge", "--help")
    assert "tyro" in found
    assert not found & (TRAINING | {"jax", "jaxlib", "numpy", "scipy", "huggingface_hub", "yaml"})


def test_importing_the_library_imports_nothing_slow():
    found = imported("-c", "import magmax_jax")
    others = {"jax", "numpy", "scipy", "tyro", "rich", "yaml", "tempfile", "huggingface_hub"}
    assert "magmax_jax" in found and not found & (TRAINING | others)


def test_a_merge_of_local_files_imports_only_jax_and_what_jax_needs(merge, tmp_path):
    """YAML is for model cards, which a directory gets and a single file does not."""
    for name, cards in (("merged.safetensors", set()), ("merged", {"yaml"})):
        found = imported("-m", "magmax_jax", *merge, "--output", str(tmp_path / name))
        assert "jax" in found and (tmp_path / name).exists()
        optional = TRAINING | {"huggingface_hub", "yaml", "threadpoolctl", "packaging"}
        assert found & optional == cards


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_files_that_do_not_fit_are_refused_before_jax_is_imported(merge, tmp_path, more):
    raw(tmp_path / "other" / "model.safetensors", {"w": of_array(np.zeros(2, np.float32), "F32")})
    words = [*merge, str(tmp_path / "other"), "--output", str(tmp_path / "merged"), *more]
    found = imported("-m", "magmax_jax", *words, code=2)
    assert "numpy" in found and not found & (TRAINING | {"jax", "jaxlib", "huggingface_hub"})


def test_a_missing_directory_and_an_unknown_rule_are_refused_before_jax_is_imported(merge):
    for wrong in ([*merge, "./none"], [*merge, "--rule", "tyes"], ["merge"]):
        found = imported("-m", "magmax_jax", *wrong, "--output", "out", code=2)
        assert not found & {"jax", "jaxlib", "huggingface_hub"}


def test_inspecting_imports_no_jax(merge):
    found = imported("-m", "magmax_jax", "inspect", merge[2])
    assert "numpy" in found and not found & (TRAINING | {"jax", "jaxlib", "huggingface_hub"})
