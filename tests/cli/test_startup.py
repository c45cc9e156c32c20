"""What starting a merge imports: nothing that only training, data or reports need."""

import numpy as np
import pytest

from magmax_jax import packages
from magmax_jax.registry import RULES
from tests.helpers.imports import answered, imported
from tests.helpers.raw_safetensors import of_array, raw

TRAINING = {
    packages.module_of(packages.package_of(line))
    for extra, lines in packages.requirements().items()
    if extra != packages.CORE
    for line in lines
} | {"tensorflow", "torch", "pandas", "tokenizers"}
"""Everything that some extra installs, and what might come with it."""
UNUSED = TRAINING | {"jax", "jaxlib", "huggingface_hub", "rich", "typeguard", "asyncio"}
"""What a merge that computes nothing and shows no progress bar does without."""


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
    assert not found & (UNUSED | {"numpy", "scipy", "yaml"})


def test_importing_the_library_imports_nothing_slow():
    found = imported("-c", "import magmax_jax")
    others = {"jax", "numpy", "scipy", "tyro", "rich", "yaml", "tempfile", "huggingface_hub"}
    assert "magmax_jax" in found and not found & (TRAINING | others)


def test_a_merge_of_local_files_imports_only_jax_and_what_jax_needs(merge, tmp_path):
    """YAML is for model cards, which a directory gets and a single file does not."""
    for name, cards in (("merged.safetensors", set()), ("merged", {"yaml"})):
        found = imported("-m", "magmax_jax", *merge, "--output", str(tmp_path / name))
        assert "jax" in found and (tmp_path / name).exists()
        optional = (UNUSED - {"jax", "jaxlib", "asyncio"}) | {"yaml", "threadpoolctl", "packaging"}
        assert found & optional == cards


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_files_that_do_not_fit_are_refused_before_jax_is_imported(merge, tmp_path, more):
    raw(tmp_path / "other" / "model.safetensors", {"w": of_array(np.zeros(2, np.float32), "F32")})
    words = [*merge, str(tmp_path / "other"), "--output", str(tmp_path / "merged"), *more]
    found = imported("-m", "magmax_jax", *words, code=2)
    assert "numpy" in found and not found & UNUSED


def test_a_missing_directory_and_an_unknown_rule_are_refused_before_jax_is_imported(merge):
    for wrong in ([*merge, "./none"], [*merge, "--rule", "tyes"], ["merge"]):
        found = imported("-m", "magmax_jax", *wrong, "--output", "out", code=2)
        assert not found & UNUSED


def test_inspecting_imports_no_jax(merge):
    found = imported("-m", "magmax_jax", "inspect", merge[2])
    assert "numpy" in found and not found & (UNUSED - {"rich"})


def test_a_dry_run_imports_as_little_as_a_refusal(merge):
    found = imported("-m", "magmax_jax", *merge, "--dry-run")
    assert "numpy" in found and not found & (UNUSED | {"scipy", "yaml"})


def test_no_rule_needs_jax_in_a_dry_run(merge, tmp_path):
    """Only to compute, and to describe the tensors of a state."""
    base, a, b = merge[2], *merge[4:]
    weights = dict.fromkeys(
        ("weighted_average", "sparse_task_arithmetic", "nuslerp", "multislerp"), "1,2"
    ) | {"linear_combination": "1,2,3"}
    of_fisher = {"fisher", "adam_weighted", "adam_selected"}  # no checkpoint holds it
    recipe = tmp_path / "recipe.yml"
    members = "".join(f"  - model: {m}\n    parameters: {{weight: 0.5}}\n" for m in (a, b))
    recipe.write_text(f"merge_method: ties\nbase_model: {base}\nmodels:\n{members}")
    plain = f"magmax_jax {' '.join(merge)} --dry-run"
    lines = {}
    for name in RULES:
        options = f" --options weights={weights[name]}" if name in weights else ""
        lines[f"{plain} --rule {name}{options}"] = 2 if name in of_fisher else 0
    lines |= {
        f"{plain} --rule iso_c --options averaged=w --out-dtype bfloat16 --include w": 0,
        f"magmax_jax merge {recipe} --dry-run": 0,
    }
    assert answered(*lines) == {line: (code, set()) for line, code in lines.items()}
