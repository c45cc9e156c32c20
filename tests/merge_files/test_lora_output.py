"""`--lora-rank`: merges the deltas of adapters and writes an adapter again."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

import magmax_jax as mm
from magmax_jax.merge_files.lora.factor import truncated_svd
from tests.merge_files.adapters import Q0, Q1, V0, adapter, base, delta, matrices, random
from tests.merge_files.conftest import merge


@pytest.fixture
def adapters(tmp_path):
    return {name: adapter(tmp_path / name, seed=10 * i) for i, name in enumerate("ab")}


def added(directory) -> dict[str, np.ndarray]:
    """What a written adapter adds to each linear module; also checks its configuration."""
    config = json.loads((directory / "adapter_config.json").read_text())
    made = load_file(directory / "adapter_model.safetensors")
    assert config["peft_type"] == "LORA" and config["r"] == config["lora_alpha"]
    assert config["target_modules"] == sorted(
        {name.removeprefix("base_model.model.").partition(".lora_")[0] for name in made}
    )
    for name, tensor in made.items():
        assert config["r"] == tensor.shape[0 if ".lora_A." in name else 1]
    return {module: delta(made, module, 1.0) for module in config["target_modules"]}


def files(directory) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.mark.parametrize("pretrained", [(), ("--pretrained", "none")])
def test_an_average_of_adapters_is_exact_at_the_sum_of_their_ranks(
    tmp_path, adapters, pretrained, capsys
):
    out = tmp_path / "out"
    command = [*pretrained, "--finetuned", tmp_path / "a", tmp_path / "b", "--rule", "average"]
    assert merge(*command, "--scale", 1, "--lora-rank", 4, "--output", out) == 0
    found = added(out)
    assert found.keys() == {Q0, V0, Q1}
    for module, value in found.items():
        mean = (delta(adapters["a"], module) + delta(adapters["b"], module)) / 2
        np.testing.assert_allclose(value, mean, rtol=1e-5, atol=1e-6)
    assert files(out) == {"adapter_model.safetensors", "adapter_config.json", "README.md"}
    assert "adapter of rank 4: relative error of its deltas" in "".join(capsys.readouterr())


def test_merged_deltas_are_truncated_by_svd_and_the_loss_is_reported(tmp_path, adapters, capsys):
    out = tmp_path / "out"
    command = ["--finetuned", tmp_path / "a", tmp_path / "b", "--lora-rank", 3]
    assert merge(*command, "--output", out) == 0
    deltas = [{m: delta(made, m) for m in (Q0, V0, Q1)} for made in adapters.values()]
    zeros = {m: np.zeros_like(d) for m, d in deltas[0].items()}
    merged = mm.merge(zeros, deltas, mm.rules.max_magnitude(), 0.5)
    lost, whole, worst = 0.0, 0.0, 0.0
    for module, value in added(out).items():
        u, s, v = np.linalg.svd(np.asarray(merged[module], np.float64), full_matrices=False)
        np.testing.assert_allclose(value, (u[:, :3] * s[:3]) @ v[:3], rtol=1e-4, atol=1e-5)
        lost, whole = lost + np.sum(s[3:] ** 2), whole + np.sum(s**2)
        worst = max(worst, np.sqrt(np.sum(s[3:] ** 2) / np.sum(s**2)))
    said = f"relative error of its deltas {np.sqrt(lost / whole):.2g}, at most {worst:.2g}"
    assert said in "".join(capsys.readouterr())
    card = (out / "README.md").read_text()
    assert said in card and "library_name: peft" in card and "base_model: base" in card
    assert str(tmp_path) not in card


def test_naming_theta_0_gives_the_same_adapter(tmp_path, adapters):
    """Small changes survive even if theta_0's tensors, in bfloat16, would barely register them."""
    base(tmp_path / "base", ml_dtypes.bfloat16)
    command = ["--finetuned", tmp_path / "a", tmp_path / "b", "--lora-rank", 8]
    assert merge(*command, "--output", tmp_path / "alone") == 0
    named = ["--pretrained", tmp_path / "base"]
    assert merge(*named, *command, "--output", tmp_path / "named") == 0
    alone, beside = added(tmp_path / "alone"), added(tmp_path / "named")
    for module, value in alone.items():
        np.testing.assert_allclose(value, beside[module], rtol=1e-4, atol=1e-5)


def test_an_adapter_as_theta_0(tmp_path, adapters):
    command = ["--pretrained", tmp_path / "a", "--finetuned", tmp_path / "b", "--rule", "average"]
    assert merge(*command, "--scale", 0.5, "--lora-rank", 4, "--output", tmp_path / "out") == 0
    for module, value in added(tmp_path / "out").items():
        mean = (delta(adapters["a"], module) + delta(adapters["b"], module)) / 2
        np.testing.assert_allclose(value, mean, rtol=1e-5, atol=1e-6)


def test_adapters_of_different_modules(tmp_path):
    """An adapter adds zero to modules that it does not change."""
    made = {}
    for name, module, out in (("a", Q0, 12), ("b", V0, 8)):
        made |= adapter(tmp_path / name, matrices(module, out, 8))
    command = ["--finetuned", tmp_path / "a", tmp_path / "b", "--rule", "average", "--scale", 1]
    assert merge(*command, "--lora-rank", 2, "--output", tmp_path / "out") == 0
    found = added(tmp_path / "out")
    for module in (Q0, V0):
        np.testing.assert_allclose(found[module], delta(made, module) / 2, rtol=1e-5, atol=1e-6)


def test_embeddings_convolutions_and_transposed_weights_keep_their_form(tmp_path):
    start = "base_model.model.model."
    made = {
        f"{start}embed.lora_embedding_A": random((2, 20), 1),
        f"{start}embed.lora_embedding_B": random((8, 2), 2),
        f"{start}conv.lora_A.weight": random((2, 4, 3, 3), 3),
        f"{start}conv.lora_B.weight": random((6, 2, 1, 1), 4),
    } | matrices(Q0, 12, 8)
    adapter(tmp_path / "a", made, fan_in_fan_out=True)
    command = ["--finetuned", tmp_path / "a", "--rule", "average", "--scale", 1]
    assert merge(*command, "--lora-rank", 2, "--output", tmp_path / "out") == 0
    found = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {n: t.shape for n, t in found.items()} == {n: t.shape for n, t in made.items()}
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["fan_in_fan_out"]
    for a in (name for name in made if "A" in name):
        b = a.replace("_A", "_B")
        left, right = (t[b].reshape(len(t[b]), 2) for t in (made, found))
        before, after = (t[a].reshape(2, -1) for t in (made, found))
        np.testing.assert_allclose(right @ after, 3 * left @ before, rtol=1e-5, atol=1e-5)


def test_a_state_of_adapters_alone(tmp_path, adapters):
    state = ["--state", tmp_path / "state", "--lora-rank", 4]
    both = ["--finetuned", tmp_path / "a", tmp_path / "b", "--lora-rank", 4]
    assert merge(*both, "--output", tmp_path / "once") == 0
    for name in "ab":
        assert merge("--finetuned", tmp_path / name, *state, "--output", tmp_path / name / "o") == 0
    once, twice = added(tmp_path / "once"), added(tmp_path / "b" / "o")
    for module, value in once.items():
        np.testing.assert_array_equal(value, twice[module])


def test_matrices_have_the_requested_dtype_and_may_be_left_out(tmp_path, adapters):
    flags = ["--lora-rank", 2, "--out-dtype", "bfloat16", "--exclude", f"{Q0}.weight"]
    assert merge("--finetuned", tmp_path / "a", *flags, "--output", tmp_path / "out") == 0
    found = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert len(found) == 4 and {t.dtype for t in found.values()} == {np.dtype(ml_dtypes.bfloat16)}


class TestRefused:
    @pytest.fixture
    def refused(self, tmp_path, capsys):
        def run(*flags) -> str:
            capsys.readouterr()
            assert merge(*flags, "--output", tmp_path / "out") == 2
            assert not (tmp_path / "out").exists()
            return capsys.readouterr().err

        return run

    def test_without_a_rank_there_is_no_model_to_write(self, tmp_path, adapters, refused):
        alone = ["--finetuned", tmp_path / "a"]
        assert "an adapter with --lora-rank" in refused(*alone)
        assert "--pretrained is not set" in refused("--pretrained", "none", *alone)

    def test_whole_models_next_to_adapters(self, tmp_path, adapters, refused):
        base(tmp_path / "base")
        said = refused("--finetuned", tmp_path / "a", tmp_path / "base", "--lora-rank", 2)
        assert f"{tmp_path / 'base'} is not a LoRA adapter" in said

    def test_a_rank_below_one(self, tmp_path, adapters, refused):
        assert "--lora-rank is 0" in refused("--finetuned", tmp_path / "a", "--lora-rank", 0)

    def test_changes_by_other_means_unless_excluded(self, tmp_path, refused):
        base(tmp_path / "base")
        head = {"base_model.model.score.weight": random((3, 8), 1)}
        made = adapter(tmp_path / "a", matrices(Q0, 12, 8) | head)
        flags = ["--finetuned", tmp_path / "a", "--lora-rank", 2]
        assert "changes score.weight by other means" in refused(*flags)
        flags = ["--pretrained", tmp_path / "base", *flags]
        said = refused(*flags)
        assert "--exclude score.weight" in said
        flags += ["--exclude", "score.weight", "--scale", 1]
        assert merge(*flags, "--output", tmp_path / "out") == 0
        np.testing.assert_allclose(
            added(tmp_path / "out")[Q0], delta(made, Q0), rtol=1e-4, atol=1e-5
        )

    def test_mixed_orientations(self, tmp_path, adapters, refused):
        adapter(tmp_path / "c", fan_in_fan_out=True)
        said = refused("--finetuned", tmp_path / "a", tmp_path / "c", "--lora-rank", 2)
        assert "differ in fan_in_fan_out" in said

    def test_matrices_that_exceed_their_dtype(self, tmp_path, refused):
        large = {name: tensor * 1e5 for name, tensor in matrices(Q0, 12, 8).items()}
        adapter(tmp_path / "a", large)
        flags = ["--finetuned", tmp_path / "a", "--lora-rank", 2, "--out-dtype", "float16"]
        said = refused(*flags)
        assert f"{Q0}.weight: its matrices exceed float16: choose --out-dtype bfloat16" in said

    def test_a_merge_that_exceeds_float32(self, tmp_path, refused):
        adapter(tmp_path / "a", {n: t * 1e18 for n, t in matrices(Q0, 12, 8).items()})
        flags = ["--finetuned", tmp_path / "a", "--lora-rank", 2, "--scale", 1e6]
        assert f"{Q0}.weight" in refused(*flags)

    def test_a_file_as_output(self, tmp_path, adapters, capsys):
        flags = ["--finetuned", tmp_path / "a", "--lora-rank", 2]
        assert merge(*flags, "--output", tmp_path / "x.safetensors") == 2
        assert "an adapter is a directory" in capsys.readouterr().err

    def test_companions_from_elsewhere(self, tmp_path, adapters, capsys):
        flags = ["--finetuned", tmp_path / "a", "--lora-rank", 2, "--companions-from", tmp_path]
        assert merge(*flags, "--output", tmp_path / "x") == 2
        assert "leave out one of them" in capsys.readouterr().err


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (4, 4)])
@pytest.mark.parametrize("rank", [1, 3, 12])
def test_truncation_is_optimal_for_its_rank(shape, rank):
    matrix = np.random.default_rng(0).normal(size=shape)
    b, a = truncated_svd(matrix, rank)
    assert b.shape == (shape[0], rank) and a.shape == (rank, shape[1])
    s = np.linalg.svd(matrix, compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(matrix - b @ a), np.linalg.norm(s[rank:]), atol=1e-12)


@pytest.mark.parametrize("transposed", [False, True])
def test_large_matrices_are_factorised_near_optimally(transposed):
    """By iteration: exact if the rank suffices, else near the optimum even for pure noise."""
    draw = np.random.default_rng(0)
    noise = draw.normal(size=(100, 300))
    product = draw.normal(size=(100, 8)) @ draw.normal(size=(8, 300))
    optimum = np.linalg.norm(np.linalg.svd(noise, compute_uv=False)[8:])
    for matrix, least in ((noise, optimum), (product, 0)):
        b, a = truncated_svd(matrix.T if transposed else matrix, 8)
        left = np.linalg.norm(matrix - (b @ a).T if transposed else matrix - b @ a)
        assert least <= left + 1e-10 <= 1.01 * least + 1e-9


def test_zero_matrices_are_factorised_too():
    b, a = truncated_svd(np.zeros((3, 2)), 2)
    assert not b.any() and not a.any()


def test_a_whole_model_among_adapters_is_reported_as_one_problem(tmp_path, adapters, capsys):
    base(tmp_path / "base")
    base(tmp_path / "whole", np.float16)
    sources = ["--pretrained", tmp_path / "base", "--finetuned", tmp_path / "a", tmp_path / "whole"]
    assert merge(*sources, "--lora-rank", 2, "--output", tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "whole is not a LoRA adapter, and --lora-rank merges adapters into one" in line
